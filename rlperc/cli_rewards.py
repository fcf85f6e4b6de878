"""`rlperc rewards …`: what rewards there are, testing and linting them, starting one of one's own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlperc.errors import DataError, MissingPackageError, RecipeError

if TYPE_CHECKING:
    from rlperc.lint.exploits import Row
    from rlperc.reward.contract import Reward

DONE, FAULTS = 0, 2


def add_rewards(commands: Any) -> None:
    """Add the command `rewards` to the subparsers of `rlperc`."""
    help_text = "what rewards there are; test, lint, write and copy them"
    rewards = commands.add_parser("rewards", help=help_text).add_subparsers(required=True, metavar="COMMAND")
    rewards.add_parser("list", help="the collection").set_defaults(run=_list)

    show = rewards.add_parser("show", help="one reward: columns, settings, range, source")
    show.add_argument("reward", help="a name or a path")
    show.set_defaults(run=_show)

    test = rewards.add_parser("test", help="run rewards' golden cases")
    _add_names(test)
    test.set_defaults(run=_test)

    lint = rewards.add_parser("lint", help="score adversarial responses: what scores high, fails, hangs or hangs on luck")
    _add_names(lint)
    lint.add_argument("--rows", type=Path, help="JSON lines: {…columns}, instead of the rows of the golden cases")
    lint.add_argument(
        "--with", action="append", default=[], dest="settings", metavar="SETTING=VALUE", help="the value as in YAML"
    )
    lint.set_defaults(run=_lint)

    new = rewards.add_parser("new", help="write a reward to start from, with its golden cases")
    new.add_argument("name", help="of the file and of the function in it")
    new.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: the current one")
    new.set_defaults(run=_new)

    copy = rewards.add_parser("copy", help="copy a reward of the collection, with its golden cases, to change it")
    copy.add_argument("name", help="as `rlperc rewards list` has it")
    copy.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: the current one")
    copy.set_defaults(run=_copy)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rewards", nargs="*", default=[], metavar="NAME|FILE", help="default: the whole collection")


def _each(options: argparse.Namespace, run: Callable[[Reward], int]) -> int:
    """Run something for each reward and add up the faults. In the whole collection, what is not installed is none."""
    from rlperc.reward.plugins import collection, find_reward

    faults = 0
    for use in options.rewards or collection():
        reward = find_reward(use)
        try:
            faults += run(reward)
        except MissingPackageError as error:
            if options.rewards:
                raise
            print(f"{reward.name}: left out: {error.why} ({error.instead})")
    return FAULTS if faults else DONE


def _list(options: argparse.Namespace) -> int:
    from rlperc.reward.plugins import collection, find_reward

    for name, file in collection().items():
        reward = find_reward(str(file))
        limits = f"{reward.range[0]:g}..{reward.range[1]:g}"
        print(f"{name:20} {reward.credits:11} {reward.scope:11} {limits:6}  columns: {', '.join(reward.columns) or '–'}")
    return DONE


def _show(options: argparse.Namespace) -> int:
    import ast
    import inspect

    from rlperc.lint.golden import golden_file, read_cases, source_file
    from rlperc.reward.plugins import find_reward

    reward = find_reward(options.reward)
    empty = inspect.Parameter.empty
    path = source_file(reward)
    golden = golden_file(path) if path else None
    cases = len(read_cases(reward, golden)) if golden and golden.is_file() else 0
    print(f"{reward.name}\n{reward.summary}\n")
    print(f"credits   {reward.credits}\nscope     {reward.scope}\nrange     {reward.range[0]:g} to {reward.range[1]:g}")
    print(f"columns   {', '.join(n if needed else f'{n} (optional)' for n, needed in reward.columns.items()) or 'none'}")
    print(f"settings  {', '.join(n if d is empty else f'{n}={d!r}' for n, d in reward.settings.items()) or 'none'}")
    print(f"marks     {'the characters it finds wrong' if reward.marks else 'nothing'}")
    print(f"runs      {_where(reward)}\nimports   {', '.join(reward.imports) or 'nothing heavy'}")
    print(f"golden    {cases} cases{f' in {golden}' if cases else ''}\nfile      {reward.origin}")
    source = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else None
    print(f"\n{source or 'no source is named'}")
    return DONE


def _where(reward: Reward) -> str:
    if reward.style == "trl":
        return "in the training process, as a plain TRL function, without a time limit"
    if reward.needs_scorer:
        return "in the training process, which it asks for the model"
    if reward.bounded:
        return "in the training process: it is bounded"
    return f"in a worker, at most {reward.timeout_s:g} s a call"


def _test(options: argparse.Namespace) -> int:
    return _each(options, _test_one)


def _test_one(reward: Reward) -> int:
    from rlperc.lint.golden import golden_file, run_cases, source_file

    path = source_file(reward)
    if path is None or reward.needs_scorer or reward.style == "trl":
        print(f"{reward.name}: left out: only training can call it")
        return 0
    results = run_cases(reward, golden_file(path))
    failed = [result for result in results if not result.passed]
    print(f"{reward.name}: {len(results) - len(failed)} of {len(results)} golden cases pass")
    for result in failed:
        print(f"  {result.case}: expected {_outcomes(result.expected)}, got {_outcomes(result.got)}")
    return len(failed)


def _outcomes(outcomes: Sequence[Any]) -> str:
    told = [_told_outcome(one) for one in outcomes]
    return told[0] if len(told) == 1 else f"[{', '.join(told)}]"


def _told_outcome(one: Any) -> str:
    value = one.status if one.value is None else repr(one.value)
    marks = f" marking {', '.join(f'{start}:{end}' for start, end in one.wrong)}" if one.wrong else ""
    return f"{value}{f' ({one.why})' if one.why else ''}{marks}"


def _lint(options: argparse.Namespace) -> int:
    given = _settings(options.settings)
    return _each(options, lambda reward: _lint_one(reward, options.rows, given))


def _lint_one(reward: Reward, file: Path | None, given: Mapping[str, Any]) -> int:
    from rlperc.lint.run import left_out, lint

    rows, settings, note = _rows(reward, file, given)
    findings = lint(reward, rows, settings)
    note = note or left_out(reward, rows)
    for finding in findings:
        print(f"{reward.name}: {finding.kind}: {finding.text}")
    ending = f"{len(findings)} found" if findings else "nothing found"
    print(f"{reward.name}: {ending}{f' (left out: {note})' if note else ''}")
    return len(findings)


def _rows(reward: Reward, file: Path | None, given: Mapping[str, Any]) -> tuple[list[Row], Mapping[str, Any], str]:
    """The rows to lint with, the settings, and what is left out for the want of either."""
    from rlperc.lint.exploits import Row
    from rlperc.lint.golden import golden_file, read_cases, rows_of, source_file
    from rlperc.reward.runner import check_settings

    if given:
        check_settings(reward, given)
    path = source_file(reward)
    golden = golden_file(path) if path else None
    cases = read_cases(reward, golden) if golden and golden.is_file() else []
    rows, settings = rows_of(reward, cases, given or None)
    if file is not None:
        rows = [Row(columns) for columns in _read_rows(file, [name for name, needed in reward.columns.items() if needed])]
    if settings.get("server") is not None and "server" not in given:
        return [], settings, "everything that scores: it asks a server; give yours, as in --with server=http://localhost:8000/v1"
    if rows:
        check_settings(reward, settings)
    return rows, settings, ""


def _read_rows(file: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of a file. Raises DataError where one is no object with the columns that are needed."""
    import json

    example = json.dumps({name: "…" for name in needed}, ensure_ascii=False)
    if not file.is_file():
        raise DataError(f"--rows {file}", "there is no such file", f"a file of lines like {example}")
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}, line {number}", f"it is not JSON: {error}", example) from None
        if not isinstance(row, dict) or not set(needed) <= set(row):
            raise DataError(f"{file}, line {number}", "it is not an object with every column that the reward needs", example)
        rows.append(row)
    if not rows:
        raise DataError(f"--rows {file}", "it holds no lines", f"lines like {example}")
    return rows


def _settings(given: Sequence[str]) -> dict[str, Any]:
    from rlperc.recipe.load import read_value

    settings = {}
    for one in given:
        name, is_set, value = one.partition("=")
        if not is_set:
            raise RecipeError(f"--with {one}", "it gives no value", f"--with {one}=…")
        settings[name] = read_value(value, f"--with {one}")
    return settings


def _new(options: argparse.Namespace) -> int:
    from rlperc.lint.scaffold import new

    return _told(new(options.name, options.folder))


def _copy(options: argparse.Namespace) -> int:
    from rlperc.lint.scaffold import copy

    return _told(copy(options.name, options.folder))


def _told(files: Sequence[Path]) -> int:
    for file in files:
        print(file)
    use = files[0] if files[0].is_absolute() else f"./{files[0]}"
    print(f"in a recipe: rewards: [{{use: {use}}}]\nto try it:   rlperc rewards test {use}")
    return DONE
