"""`rlperc worlds`: the synthetic tasks, what they show, and rows of them as a data set."""

from __future__ import annotations

import argparse
import textwrap
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from rlperc.errors import DataError, RecipeError

SHEET = "contact_sheet.png"
SHOWN, MOST, HELD_AGAINST = 16, 200, 400


def add_worlds(commands: Any) -> None:
    """Add the command to those of a parser.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    worlds = commands.add_parser("worlds", help="synthetic tasks with exact ground truth")
    actions = worlds.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is").set_defaults(run=_list)
    show = actions.add_parser("show", help="a world's knobs and first items, and a picture of them")
    _add_items(show)
    show.add_argument("--n", type=int, default=SHOWN, help=f"items in the picture (default {SHOWN})")
    show.add_argument("--out", type=Path, help="where the picture goes (default: NAME.png)")
    show.set_defaults(run=_show)
    make = actions.add_parser("make", help="write rows as a folder that `datasets.load_from_disk` and recipes read")
    _add_items(make)
    make.add_argument("--n", type=int, required=True, help="rows")
    make.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    make.set_defaults(run=_make)


def _add_items(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="see `rlperc worlds list`")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KNOB=VALUE", help="as in grid=3, or setting=hard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="train")


def _list(options: argparse.Namespace) -> int:
    from rlperc.worlds import WORLDS, load_world

    for name in WORLDS:
        about = load_world(name).ABOUT
        print(f"{name:16} {about.summary} (settings: {', '.join(about.settings)})")
    return 0


def _show(options: argparse.Namespace) -> int:
    from rlperc.recipe.load import read_knobs
    from rlperc.report.sheet import contact_sheet
    from rlperc.worlds import knobs_explained, knobs_of, load_world

    knobs = read_knobs(options.overrides)
    if not 1 <= options.n <= MOST:
        raise RecipeError(f"--n {options.n}", "a picture has to be seen", f"--n 1 to {MOST}")
    items = _items(options, options.n, options.split, knobs)
    about = load_world(options.name).ABOUT
    print(f"{options.name}: {about.summary}")
    does = knobs_explained(options.name)
    for knob, value in knobs_of(options.name).items():
        print(textwrap.fill(f"{knob}={value}: {does[knob]}", 130, initial_indent="  ", subsequent_indent="    "))
    for setting, values in about.settings.items():
        print(f"setting={setting}: {', '.join(f'{knob}={value}' for knob, value in values.items())}")
    print(f"rewards: {about.answer_reward} for the answer, {about.perception_reward} for p*")
    for item in items[:2]:
        print(f"\n{item.question}\n{item.response()}")
    print()
    _print_leaks(options, knobs)
    target = options.out or Path(f"{options.name}.png")
    _saved(contact_sheet(items), target)
    print(target)
    return 0


def _make(options: argparse.Namespace) -> int:
    from rlperc.recipe.environment import check_versions
    from rlperc.recipe.load import read_knobs

    knobs = read_knobs(options.overrides)
    if options.n < 1:
        raise RecipeError(f"--n {options.n}", "a data set has a row at least", "--n 1000")
    if options.out.exists():
        raise DataError(f"writing {options.out}", "it already exists", "--out another/folder")
    first = _items(options, min(options.n, SHOWN), options.split, knobs)
    check_versions("train")
    from rlperc.report.sheet import contact_sheet
    from rlperc.train.data import world_rows

    rows = world_rows(options.name, options.n, options.seed, options.split, knobs)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(mkdtemp(prefix=".rlperc-", dir=options.out.parent))
        rows.save_to_disk(part)
        contact_sheet(first).save(part / SHEET)
        part.chmod(0o755)
        part.rename(options.out)
    except OSError as error:
        raise DataError(f"writing {options.out}", str(error), "--out where a folder can be made") from None
    print(f"{options.out}: {len(rows)} rows with {', '.join(rows.column_names)}; {options.out / SHEET}")
    return 0


def _items(options: argparse.Namespace, count: int, split: Any, knobs: dict[str, Any]) -> list[Any]:
    from rlperc.worlds import make_items

    if options.seed < 0:
        raise RecipeError(f"--seed {options.seed}", "a seed is not negative", "--seed 0")
    return list(islice(make_items(options.name, count, options.seed, split, knobs), count))


def _print_leaks(options: argparse.Namespace, knobs: dict[str, Any]) -> None:
    from rlperc.reward.plugins import find_reward
    from rlperc.score.leaks import leaks
    from rlperc.worlds import load_world

    known, held_out = (_items(options, HELD_AGAINST, split, knobs) for split in ("train", "test"))
    print(f"without the image, of {HELD_AGAINST} test items:")
    for leak in leaks(known, held_out, find_reward(load_world(options.name).ABOUT.answer_reward)):
        shares = f"the best constant answer {100 * leak.majority:.1f} %, another item's answer {100 * leak.chance:.1f} %"
        kind = textwrap.shorten(leak.kind, 60, placeholder=" …")
        print(f"  {kind} ({leak.items}, {leak.answers} answers): {shares}")


def _saved(image: Any, target: Path) -> None:
    try:
        image.save(target)
    except (OSError, ValueError) as error:
        raise DataError(f"writing {target}", str(error), "--out picture.png where a file can be written") from None
