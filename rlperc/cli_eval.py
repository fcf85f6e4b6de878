"""`rlperc eval`: what any model sees and what it makes of it, on a world or on rows of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlperc.cli_recipe import first_process
from rlperc.errors import DataError, RecipeError


def add_eval(commands: Any) -> None:
    """Add the command to those of a parser.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser("eval", help="measure perception and reasoning of any model")
    parser.add_argument("model", metavar="MODEL", help="a hub name, a model's folder, or a run's; of a run, its prompts are used")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KNOB=VALUE", help="of the world, as in blanks=20, or setting=hard"
    )
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument("--world", help="see `rlperc worlds list`")
    rows.add_argument("--data", type=Path, help="a JSONL or parquet file, or a folder by save_to_disk")
    rows.add_argument("--hub", metavar="NAME", help="a data set on the hub")
    parser.add_argument("--subset", help="the hub data set's configuration")
    parser.add_argument(
        "--columns", nargs="+", default=[], metavar="OURS=THEIRS", help="what the data calls a column, as in answer=solution"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="where relative image paths count from (default: the data)")
    parser.add_argument("--answer", help="the reward that verifies an answer (default: the world's)")
    parser.add_argument("--perception", help="the reward that compares with p* (default: the world's, or perception_exact)")
    parser.add_argument("--rows", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the rows")
    parser.add_argument("--prompt", choices=("tags", "plain"), help="ask for the tags, or leave the prompts as they are")
    kinds, shown = ("none", "blank", "other"), "also without the image, with a grey one, with another row's (default: all three)"
    parser.add_argument(
        "--blind", nargs="*", choices=kinds, default=[*kinds], help=f"{shown}; nothing of it after a bare --blind"
    )
    parser.add_argument("--repeats", type=int, default=1, help="responses to each row, with a --temperature")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--max-new-tokens", type=int, help="of a response (default: the run's, or 1024)")
    parser.add_argument("--batch-size", type=int, help="default: the run's, or 16")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--revision")
    parser.add_argument("--trust-remote-code", action="store_true")
    kept = "summary.json, responses.jsonl, and completions.jsonl for `rlperc coupling`"
    parser.add_argument("--out", type=Path, help=f"a new folder: {kept}")
    parser.add_argument("--against", type=Path, help="such a folder of the same rows: what has become of each measure")
    parser.set_defaults(run=run_eval)


def run_eval(options: argparse.Namespace) -> int:
    """Measure a model. Raises UserError."""
    from rlperc.recipe.environment import check_versions

    if options.out is not None and options.out.exists():
        raise DataError(f"writing {options.out}", "it already exists", "--out another/folder")
    check_versions("train")
    exam = _exam(options)
    from rich.console import Console

    from rlperc.examine_alone import examine_alone
    from rlperc.report.terminal import show_measures

    console = Console(quiet=not first_process())

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    summary = examine_alone(exam, options.out, options.against, say)
    show_measures(summary, console)
    for remark in summary["remarks"]:
        say(remark)
    return 0


def _exam(options: argparse.Namespace) -> Any:
    from pydantic import ValidationError

    from rlperc.examine_alone import Exam, run_of
    from rlperc.recipe.faults import explain
    from rlperc.recipe.load import read_knobs
    from rlperc.recipe.rewards import perception_name
    from rlperc.recipe.schema import Evaluate, Model
    from rlperc.worlds import load_world, resolve

    if options.overrides and options.world is None:
        raise RecipeError(f"the knob '{options.overrides[0]}'", "only a world has knobs", "--world NAME, or leave it out")
    if options.world is None and options.answer is None:
        raise RecipeError("rows without --answer", "only a world says how its answers are verified", "--answer answer_math")
    data: dict[str, Any] = {"rows": options.rows, "split": options.split, "seed": options.seed}
    if options.world is not None:
        data |= {"world": options.world, "with": resolve(options.world, read_knobs(options.overrides))}
    data |= _own_rows(options)
    run = run_of(Path(options.model))
    used = run.evaluate if run is not None else None
    usual = {"max_new_tokens": used.max_new_tokens, "batch_size": used.batch_size} if used else {"max_new_tokens": 1024}
    given = {name: getattr(options, name) for name in ("blind", "repeats", "temperature", "max_new_tokens", "batch_size")}
    given = {**usual, **{name: value for name, value in given.items() if value is not None}}
    raw = {"data": data, "answer": options.answer, "perception": options.perception, **given}
    try:
        evaluate = Evaluate(**raw)
    except ValidationError as error:
        fault = explain(error, raw, Path("rlperc eval"))
        one_key = error.errors()[0]["loc"] not in ((), ("data",))
        instead = fault.instead if one_key else "rlperc eval --help says what there is"
        raise RecipeError("rlperc eval", f"{fault.asked}: {fault.why}" if one_key else fault.why, instead) from None
    model = Model(name=options.model, dtype=options.dtype, revision=options.revision, trust_remote_code=options.trust_remote_code)
    answer = options.answer or load_world(options.world).ABOUT.answer_reward
    return Exam(
        options.model,
        model,
        evaluate,
        answer,
        perception_name(evaluate),
        {None: None, "tags": True, "plain": False}[options.prompt],
    )


def _own_rows(options: argparse.Namespace) -> dict[str, Any]:
    """What is said of rows that are no world's, by the names of `Data`."""
    said: dict[str, Any] = {"hub": options.hub, "subset": options.subset, "columns": dict(map(_column, options.columns))}
    if options.data is not None:
        said["folder" if options.data.is_dir() else "file"] = options.data.absolute()
    if options.images is not None:
        said["images"] = options.images.absolute()
    return {name: value for name, value in said.items() if value}


def _column(text: str) -> tuple[str, str]:
    ours, _, theirs = text.partition("=")
    if not (ours and theirs):
        raise RecipeError(f"--columns {text}", "it does not say what the data calls which column", "--columns answer=solution")
    return ours, theirs
