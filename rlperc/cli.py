"""The command line. Imports stand inside the commands: `rlperc --help` loads nothing."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from PIL import UnidentifiedImageError

from rlperc.cli_eval import add_eval
from rlperc.cli_recipe import add_recipe, first_process, read_recipe
from rlperc.cli_rewards import add_rewards
from rlperc.cli_score import add_score
from rlperc.cli_serve import add_serve, quiet_vllm
from rlperc.cli_study import add_study
from rlperc.cli_worlds import add_worlds
from rlperc.errors import DataError, FolderError, JobError, RewardError, UserError
from rlperc.watch.job import speaks, to_launcher

DONE, FAULT, USERS_FAULT, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
_RECIPE, _OVERRIDES = "a YAML file, or the name of one that ships with rlperc", "as in stages.reason.train.max_steps=20"


def entry() -> NoReturn:
    """The command: run it, and end this process with its exit code. In a job of several processes see `_leave`."""
    if not _is_one_of_many():
        sys.exit(main())
    try:
        code: Any = main()
    except SystemExit as error:
        code = error.code or DONE
    except BaseException:  # noqa: BLE001  (printed, and the process ends with it)
        traceback.print_exc()
        code = FAULT
    _leave(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 the input was wrong, 130 interrupted, 141 nobody reads its output."""
    options = _options(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        code = _run(run, options)
        sys.stdout.flush()
        return code
    except JobError as error:
        if speaks(error):
            print(f"rlperc: {error}", file=sys.stderr)
        return error.code
    except UserError as error:
        to_launcher(str(error))
        if first_process() or os.environ.get("LOCAL_RANK", "0") == "0" or isinstance(error, RewardError | FolderError):
            rank = "" if first_process() else f" [rank {os.environ['RANK']}]"
            print(f"rlperc{rank}: {error}", file=sys.stderr)
        return USERS_FAULT
    except BrokenPipeError:  # `| head` has read enough; what is left in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except KeyboardInterrupt:
        if first_process():
            print("rlperc: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return run(options)
    except UnidentifiedImageError as error:  # one that lies in a table is first read where it is wanted
        raise DataError("an image of the data", str(error), "leave its row out, or mend it") from error


def _leave(code: Any) -> NoReturn:
    """Threads of gloo and NCCL that wait for the others abort an interpreter that ends as usual, or hold it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else FAULT)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, also where a flag stands between overrides, which argparse by itself takes for the end of them."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and (any(word.startswith("-") for word in rest) or not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rlperc", description="Post-training for vision-language models that pays for seeing.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="run a recipe")
    add_recipe(train, _RECIPE, _OVERRIDES)
    found = train.add_mutually_exclusive_group()
    found.add_argument("--resume", action="store_true", help="go on with the run in the output folder, or begin it")
    found.add_argument("--move-aside", action="store_true", help="move a run that is in the output folder aside")
    train.set_defaults(run=_train)

    check = commands.add_parser("check", help="find what is wrong with a recipe before a model loads")
    add_recipe(check, _RECIPE, _OVERRIDES)
    check.add_argument("--here", action="store_true", help="refuse what this machine cannot run, as training would")
    check.set_defaults(run=_check)

    add_serve(commands)
    add_score(commands)
    add_rewards(commands)
    add_eval(commands)
    add_worlds(commands)
    add_study(commands)

    commands.add_parser("recipes", help="the recipes and studies that ship with rlperc").set_defaults(run=_recipes)

    report = commands.add_parser("report", help="write a run's report.html again and show its tables")
    report.add_argument("folder", type=Path, help="a run's folder, such as runs/quickstart")
    report.set_defaults(run=_report)

    commands.add_parser("env", help="versions, for a bug report").set_defaults(run=_env)
    return parser


def _is_one_of_many() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _train(options: argparse.Namespace) -> int:
    from rlperc.recipe.environment import check_versions

    recipe = read_recipe(options)
    check_versions(*recipe.extras)
    quiet_vllm()
    from rich.console import Console

    from rlperc.recipe.folder import RunFolder
    from rlperc.report.page import write_page
    from rlperc.report.terminal import show_run
    from rlperc.run import run_recipe

    console = Console(quiet=not first_process())
    folder = RunFolder(recipe.output, writes=first_process())
    before = folder.summary.stat().st_mtime_ns if folder.summary.exists() else None
    try:
        run_recipe(recipe, options.move_aside, options.resume, say=lambda text: console.print(text, highlight=False))
    except BaseException:
        # A launcher sends it to those that are left of a job, which still have to say why they end.
        if _is_one_of_many():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    finally:
        # However it ended, what was measured can be looked at; but a run that was refused is not ours to rewrite.
        written = folder.summary.exists() and folder.summary.stat().st_mtime_ns != before
        if folder.writes and written:
            write_page(folder)
    if folder.writes:
        show_run(folder, console)
        console.print(f"{folder.report}\n{folder.model}", highlight=False)
    return DONE


def _check(options: argparse.Namespace) -> int:
    from rlperc.recipe.check import check_recipe
    from rlperc.recipe.machine import foresee_launch
    from rlperc.recipe.preflight import check_machine, preflight

    foresee_launch()
    recipe = read_recipe(options)
    notes = check_recipe(recipe)
    notes += check_machine(recipe) if options.here else map(str, preflight(recipe))
    if first_process():
        for note in notes:
            print(f"note: {note}")
        print(f"{options.recipe}: {len(recipe.stages)} stages, nothing wrong")
    return DONE


def _recipes(options: argparse.Namespace) -> int:
    from rlperc.recipe.load import recipes
    from rlperc.study.files import studies

    shipped = {f"recipes/{name}.yaml": file for name, file in recipes().items()}
    for shown, file in (shipped | {f"recipes/reproduce/{file.name}": file for file in studies()}).items():
        print(f"{shown}  {file.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
    return DONE


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from rlperc.recipe.folder import RunFolder
    from rlperc.report.page import write_page
    from rlperc.report.terminal import show_run

    folder = RunFolder(options.folder)
    write_page(folder)
    show_run(folder, Console())
    print(folder.report)
    return DONE


def _env(options: argparse.Namespace) -> int:
    from rlperc.recipe.environment import environment

    for name, found, supported in environment():
        print(f"{name:15} {found:20} {supported}")
    try:
        import torch
    except ImportError:
        return DONE
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'devices':15} {', '.join(devices) or 'CPU only'}")
    return DONE
