"""`rlperc score`: its options, its progress bar and its summary."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlperc.errors import DataError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from rlperc.recipe.credit import RewardUse
    from rlperc.recipe.schema import Recipe
    from rlperc.reward.runner import Handling, OnError, RewardRunner
    from rlperc.score.offline import Collected
    from rlperc.score.rows import Progress
    from rlperc.score.summary import Summary
    from rlperc.words.response import Tags

DONE = 0


def add_score(commands: Any) -> None:
    """Add the command to those of a parser.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    score = commands.add_parser("score", help="score a file of completions")
    _add_file(score, 'JSON lines, {"completion": text, …columns}, or parquet')
    _add_rewards(score, required=True)
    score.add_argument("--out", type=Path, help="write a line of scores for each completion")
    score.add_argument("--resume", action="store_true", help="go on with --out where it ends")
    score.add_argument("--summary", type=Path, metavar="FILE.json", help="write the summary as JSON too")
    score.set_defaults(run=run_score)
    coupling = commands.add_parser("coupling", help="how the rewards of a file of completions move together")
    _add_file(coupling, "the same; or a run's folder, for the scores in its completions tables")
    _add_rewards(coupling, required=False)
    coupling.add_argument("--choose", action="store_true", help="which surrogate moves with what is seen")
    coupling.add_argument("--stage", help="of a run with several that have rewards")
    coupling.add_argument("--steps", type=int, metavar="N", help="the first tables of a run alone, before much is trained")
    coupling.add_argument("--summary", type=Path, metavar="FILE.json", help="write the report as JSON too")
    coupling.set_defaults(run=run_coupling, out=None, resume=False)


def _add_file(parser: argparse.ArgumentParser, said: str) -> None:
    parser.add_argument("file", type=Path, help=said)


def _add_rewards(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="a.b=c", help="with --recipe, as in rewards.answer_number.with.tolerance=1"
    )
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument("--rewards", help="names or paths, with commas between them")
    which.add_argument("--recipe", help="use a recipe's rewards, settings, tags and names of columns")
    parser.add_argument(
        "--with", dest="settings", action="append", default=[], metavar="NAME.SETTING=VALUE", help="a setting, with --rewards"
    )
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip", "zero"),
        help="what becomes of a completion that a reward fails on (default: what the recipe says instead of stop, else skip)",
    )


def run_score(options: argparse.Namespace) -> int:
    """Score a file and show the summary. Raises UserError."""
    _check_options(options)
    from rlperc.score.summary import summary_text

    try:
        summary = _scored(options, *_asked(options))
    except KeyboardInterrupt:
        if options.out is not None and options.out.exists():
            sys.stderr.write(f"\n{options.out} keeps the scores so far; the same command with --resume goes on after them\n")
        raise
    if options.summary is not None:
        _write_summary(options.summary, options.file, asdict(summary))
    sys.stdout.write(f"{summary_text(summary)}\n")
    return DONE


def run_coupling(options: argparse.Namespace) -> int:
    """Show how the rewards of a file, which are scored for it, or of a run move together. Raises UserError."""
    _check_options(options)
    from rlperc.score.choose import choice_text
    from rlperc.score.offline import report_text

    collected, gaps = _of_run(options) if options.file.is_dir() else _of_file(options)
    report, candidates = collected.report(), collected.choose() if options.choose else []
    lines = [*report_text(report), *gaps]
    if options.choose:
        lines += ["", f"within groups with {report['roles']['perception']}, which knows the truth:", *choice_text(candidates)]
        report["candidates"] = [one._asdict() for one in candidates]
    if options.summary is not None:
        _write_summary(options.summary, options.file, report)
    sys.stdout.write("\n".join(lines) + "\n")
    return DONE


def _of_file(options: argparse.Namespace) -> tuple[Collected, list[str]]:
    from rlperc.score.offline import Collected
    from rlperc.score.summary import gaps_text

    if not options.rewards and not options.recipe:
        instead = "--rewards answer_number,perception_exact,agreement, or --recipe FILE"
        raise RecipeError("rlperc coupling", "it is not said which rewards to score the file with", instead)
    if options.stage or options.steps is not None:
        raise RecipeError("--stage or --steps", "a file has neither", "a run's folder")
    runners, tags, renamed = _asked(options)
    collected = Collected([runner.reward for runner in runners])
    summary = _scored(options, runners, tags, renamed, collected.add)
    return collected, ["", *gaps_text(summary)]


def _of_run(options: argparse.Namespace) -> tuple[Collected, list[str]]:
    from rlperc.score.tables import collected_of

    if options.rewards or options.recipe or options.overrides or options.settings:
        raise RecipeError(f"coupling of {options.file}", "a run has scores of its own recipe's rewards", "the folder alone")
    if options.steps is not None and options.steps < 1:
        raise RecipeError(f"--steps {options.steps}", "there is no such number of steps", "--steps 1 or more")
    return collected_of(options.file, options.stage, options.steps), []


def _asked(options: argparse.Namespace) -> tuple[list[RewardRunner], Tags | None, dict[str, str] | None]:
    if not options.recipe:
        return _of_names(options), None, None
    from rlperc.recipe.load import load_recipe

    recipe = load_recipe(options.recipe, *options.overrides)
    return _of_recipe(recipe, options.on_error), recipe.tags, _names_in_data(recipe)


def _scored(options: argparse.Namespace, runners: Any, tags: Any, renamed: Any, also: Any = None) -> Summary:
    from rlperc.score.rows import score_file

    with _bar() as progress:
        return score_file(
            options.file,
            runners,
            options.out,
            tags=tags,
            renamed=renamed,
            resume=options.resume,
            progress=progress,
            also=also,
        )


def offline_handling(handling: Handling, on_error: OnError | None) -> Handling:
    """How a reward is run on a file: a fault leaves its completion out unless it is said otherwise, and faults have no ceiling.

    Args:
        handling: the recipe's, or the default one. Its `stop` is meant for training, where a fault spoils a model.
        on_error: from the command line.
    """
    from dataclasses import replace

    kept = "skip" if handling.on_error == "stop" else handling.on_error
    return replace(handling, on_error=on_error or kept, max_error_share=1.0)


def _check_options(options: argparse.Namespace) -> None:
    if options.resume and options.out is None:
        raise DataError("--resume", "there is nothing to go on with", "--out with the file of scores")
    if options.recipe and options.settings:
        raise RecipeError(
            "--with beside --recipe", "the recipe has the settings", "rewards.NAME.with.SETTING=VALUE after the recipe"
        )
    if options.rewards and options.overrides:
        raise RecipeError(f"'{options.overrides[0]}' beside --rewards", "it overrides a recipe", "--with NAME.SETTING=VALUE")
    if options.summary is not None and not options.summary.parent.is_dir():
        raise DataError(f"writing {options.summary}", f"there is no folder {options.summary.parent}", "a folder that exists")


def _of_names(options: argparse.Namespace) -> list[RewardRunner]:
    from rlperc.reward.plugins import find_reward
    from rlperc.reward.runner import Handling, RewardRunner, check_settings

    rewards = [find_reward(use.strip()) for use in options.rewards.split(",")]
    given: dict[str, dict[str, Any]] = {reward.name: {} for reward in rewards}
    for text in options.settings:
        reward, setting, value = _setting(text)
        if reward not in given:
            raise RecipeError(f"--with {text}", f"there is no reward '{reward}' in --rewards", did_you_mean(reward, given))
        given[reward][setting] = value
    for one in rewards:
        check_settings(one, given[one.name])
    return [RewardRunner(one, given[one.name], offline_handling(Handling(), options.on_error)) for one in rewards]


def _setting(text: str) -> tuple[str, str, Any]:
    """Split `NAME.SETTING=VALUE`; the value is YAML, as in a recipe."""
    from rlperc.recipe.load import read_value

    path, equals, value = text.partition("=")
    reward, dot, setting = path.rpartition(".")
    if not equals or not dot or not reward or not setting:
        raise RecipeError(f"--with {text}", "it does not say which setting of which reward", "--with NAME.SETTING=VALUE")
    return reward, setting, read_value(value, f"--with {text}")


def _of_recipe(recipe: Recipe, on_error: OnError | None) -> list[RewardRunner]:
    from rlperc.recipe.rewards import handling, recipe_rewards
    from rlperc.reward.runner import RewardRunner, check_settings

    rewards = recipe_rewards(recipe)
    if not rewards:
        raise RecipeError("scoring with a recipe", "it names no rewards", "--rewards")
    for reward, settings in rewards:
        check_settings(reward, settings)
    uses: dict[str, RewardUse] = {}  # in the order of the rewards: where several stages use one, the first says how it is run
    for use in (use for stage in recipe.stages for use in stage.rewards):
        uses.setdefault(use.use, use)
    return [
        RewardRunner(reward, settings, offline_handling(handling(use), on_error))
        for (reward, settings), use in zip(rewards, uses.values(), strict=True)
    ]


def _names_in_data(recipe: Recipe) -> dict[str, str]:
    """Our names for columns to the data's, over all stages with rewards. Raises RecipeError where two disagree."""
    from rlperc.recipe.schema import RL_KINDS

    renamed: dict[str, str] = {}
    for stage in recipe.stages:
        for ours, theirs in stage.data.columns.items() if stage.kind in RL_KINDS else ():
            if renamed.setdefault(ours, theirs) != theirs:
                raise RecipeError(
                    f"the column '{ours}'",
                    f"two stages call it '{renamed[ours]}' and '{theirs}'",
                    "--rewards, on a file with our names",
                )
    return renamed


@contextmanager
def _bar() -> Iterator[Progress | None]:
    """A progress bar on a terminal's stderr."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rows]} rows, {task.fields[speed]:.0f} rows/s")
    columns = (TextColumn("scoring"), BarColumn(), TaskProgressColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scoring", total=None, rows=0, speed=0.0)
        began = time.monotonic()

        def progress(rows: int, units: int, total: int) -> None:
            bar.update(task, advance=units, total=total, rows=rows, speed=rows / max(time.monotonic() - began, 1e-9))

        yield progress


def _write_summary(path: Path, file: Path, summary: dict[str, Any]) -> None:
    import json

    if path.resolve() == file.resolve():
        raise DataError(f"writing {path}", "that is the file that was scored", "--summary another.json")
    try:
        path.write_text(json.dumps({"file": str(file), **summary}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"writing {path}", str(error), "--summary where a file can be written") from None
