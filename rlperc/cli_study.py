"""`rlperc study`: a whole study, cases by runs by seeds, and the page that says what it shows."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rlperc.errors import RecipeError

HERE = shlex.quote(sys.executable)


def add_study(commands: Any) -> None:
    """Add the command to those of a parser.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser("study", help="many runs over cases and seeds, and one page of what they show")
    parser.add_argument("study", type=Path, metavar="STUDY", help="a YAML file, such as recipes/reproduce/tiny.yaml")
    parser.add_argument("--out", type=Path, help="the study's folder (default runs/NAME); what is done there is not done again")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default 1)")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the study's")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="of the study's cases these")
    parser.add_argument("--launch", default=HERE, help="as in 'torchrun --nproc_per_node 8'")
    parser.add_argument("--tiny", action="store_true", help="two steps for each stage, on random tiny models: does it run?")
    parser.add_argument("--check", action="store_true", help="find what is wrong, and run nothing")
    parser.set_defaults(run=run_study)


def run_study(options: argparse.Namespace) -> int:
    """Do a study, or go on with it. Raises UserError."""
    from rlperc.recipe.folder import RunFolder
    from rlperc.study.files import find_study, load_study, narrow
    from rlperc.study.jobs import jobs_of, plan
    from rlperc.study.launch import Ended, do_jobs
    from rlperc.study.page import lines_of, write_study

    launcher = _launcher(options)
    file = find_study(options.study)
    study = narrow(load_study(file), options.seeds, options.only)
    out = (options.out or Path("runs") / (f"{file.stem}-tiny" if options.tiny else file.stem)).absolute()
    jobs = jobs_of(study, out)
    print(f"{options.study}: {len(jobs)} runs; checking their recipes", flush=True)
    planned = plan(study, jobs, file.parent, options.tiny)
    if options.check:
        print("nothing wrong")
        return 0
    failed, code = [], 0
    folder = RunFolder(out)
    folder.hold()
    try:
        failed = do_jobs(planned, options.jobs, launcher, partial(print, flush=True))
        code = 1 if failed else 0
    except Ended as ended:
        code = ended.code
    finally:  # also where nobody reads on what is said, or a disk is full
        found = write_study(study, file, folder, jobs, options.jobs, _command(options), options.tiny)
    for line in lines_of(found):
        print(line)
    if options.tiny:
        print("tried with --tiny: its numbers and verdicts mean nothing")
    print(out / "report.html")
    if code > 1:
        print("rlperc: ended by a signal; the same command goes on with it", file=sys.stderr)
    elif failed:
        print(f"rlperc: {len(failed)} runs failed, or needed one that did; the same command tries them again", file=sys.stderr)
    return code


def _launcher(options: argparse.Namespace) -> list[str]:
    if options.jobs < 1:
        raise RecipeError(f"--jobs {options.jobs}", "at least one runs at a time", "--jobs 1")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        why = "a study starts its trainings itself, and this is one of several processes"
        raise RecipeError("rlperc study under a launcher", why, "rlperc study STUDY --launch 'torchrun --nproc_per_node 8'")
    try:
        words = shlex.split(options.launch)
    except ValueError as error:
        words, why = [], str(error)
    else:
        why = "it names no command"
    if not words:
        raise RecipeError(f"--launch {options.launch!r}", why, "--launch 'torchrun --nproc_per_node 8'")
    return words


def _command(options: argparse.Namespace) -> str:
    """What makes the same study again."""
    words = ["rlperc", "study", str(options.study), "--jobs", str(options.jobs)]
    words += ["--seeds", *map(str, options.seeds)] if options.seeds else []
    words += ["--only", *options.only] if options.only else []
    words += ["--out", str(options.out)] if options.out else []
    words += ["--launch", options.launch] if options.launch != HERE else []
    return shlex.join([*words, *(["--tiny"] if options.tiny else [])])
