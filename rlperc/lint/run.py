"""What is wrong with a reward: found by scoring adversarial responses, before a model finds it."""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlperc.errors import UserError
from rlperc.lint.exploits import Row, honest, outside, statements, stating
from rlperc.lint.findings import Finding, finding, lines, no_score, shown, skipped, slow, too_high
from rlperc.lint.golden import golden_file, source_file
from rlperc.lint.trials import Call, open_runner, quiet, run_calls, run_probes, score_one, short_calls
from rlperc.reward.attempt import Outcome
from rlperc.reward.contract import Reward
from rlperc.reward.runner import RewardRunner

# Rows that probes are made for, and how many are looked at to find so many of the reward's own.
ROWS, LOOKED_AT = 3, 30
TOLERANCE = 1e-9


def lint(reward: Reward, rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Finding]:
    """Run a reward against adversarial responses.

    Args:
        reward: of any scope. One that asks the training model is read and not run; a plain TRL function runs in this
            process, so without the responses that are huge or made to take long.
        rows: what the responses answer; the first few that the reward does not skip are used.
        settings: the reward's.

    Returns:
        What is wrong with it; nothing where nothing was found.

    Raises:
        MissingPackageError: the reward needs a package that is not installed.
    """
    answers = tuple(dict.fromkeys(row.columns["answer"] for row in rows if isinstance(row.columns.get("answer"), str)))
    rows = [replace(row, settings=settings, answers=answers) for row in rows]
    ran = _run(reward, rows, settings) if rows and not reward.needs_scorer else []
    return [*ran, *_in_the_file(reward)]


def left_out(reward: Reward, rows: Sequence[Row]) -> str:
    """What `lint` leaves out with this reward and these rows; empty where it leaves out nothing."""
    if reward.needs_scorer:
        return "everything that scores: it asks the training model, which only training has"
    if not rows:
        return "everything that scores: there are no rows to score, see --rows"
    if reward.style == "trl":
        return "what is huge or made to take long: a plain TRL function runs in this process, where nothing could end it"
    return ""


def _run(reward: Reward, rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Finding]:
    isolated = reward.style == "rlperc"
    unpicklable = _unpicklable(reward, rows, settings) if isolated else []
    if unpicklable:
        return unpicklable
    with _opened(reward, settings, isolated) as runner:
        own = (row for row in rows[:LOOKED_AT] if score_one(runner, row, honest(row)).status != "skip")
        rows = list(itertools.islice(own, ROWS))
        trials = list(run_probes(runner, rows, heavy=isolated))
        tagged = all(_reads_tags(runner, row) for row in rows)
    if not trials:
        return [finding("no golden cases", "it skips every row", "so nothing was scored", "rows that are its own")]
    if trials[0].outcome.why.startswith("it cannot be loaded in a worker"):
        return [_another_process(trials[0].outcome.why)]
    return [
        *too_high(reward, trials, tagged),
        *no_score(trials),
        *skipped(trials),
        *_scored_again(reward, rows, settings, isolated),
        *slow(reward, settings, trials),
    ]


@contextlib.contextmanager
def _opened(reward: Reward, settings: Mapping[str, Any], isolated: bool) -> Iterator[RewardRunner]:
    """A runner in a new process, or here. What is printed there would go to this process's error output: to nowhere."""
    runner = open_runner(reward, settings, isolated)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere), quiet():
        try:
            yield runner
        finally:
            runner.close()


def _reads_tags(runner: RewardRunner, row: Row) -> bool:
    """Whether what is right is worth no more without tags. Where it is, the reward reads bare text, which is no fault."""
    bare, tagged = (score_one(runner, row, text).value for text in (outside(row), stating(*statements(row))))
    return bare is None or tagged is None or bare <= tagged


def _scored_again(reward: Reward, rows: Sequence[Row], settings: Mapping[str, Any], isolated: bool) -> Iterator[Finding]:
    """Score short responses in a new process; in another one again, and backwards; and in this one."""
    calls = short_calls(reward, rows)
    with _opened(reward, settings, isolated) as runner:
        first = run_calls(runner, calls)
    in_time = [not any(outcome.status == "timeout" for outcome in outcomes) for outcomes in first]
    calls, first = list(itertools.compress(calls, in_time)), list(itertools.compress(first, in_time))
    with _opened(reward, settings, isolated) as runner:
        again, backwards = run_calls(runner, calls), run_calls(runner, calls, backwards=True)
    changed, moved = _differences(calls, first, again), _differences(calls, again, backwards)
    if changed:
        yield finding(
            "not deterministic",
            f"the same responses to the same row, scored in two processes alike:{changed}",
            "a completion is worth more or less by luck, and no run can be repeated",
            "no chance, no clock, nothing that hangs on a set's order; where there must be chance, a seed from the text",
        )
    elif moved:
        yield finding(
            "depends on order",
            f"the same responses, scored from the first to the last and then from the last to the first:{moved}",
            "a completion's worth must not hang on its place or on what was scored before it",
            "nothing kept from call to call, and no use of a completion's place",
        )
    yield from _in_this_process(reward, settings, calls, first, compare=isolated and not changed and not moved)


def _in_this_process(
    reward: Reward, settings: Mapping[str, Any], calls: Sequence[Call], first: Sequence[list[Outcome]], compare: bool
) -> Iterator[Finding]:
    """Score here what went well in a process of its own: is it worth the same, and is anything printed?"""
    well = [not any(outcome.is_fault for outcome in outcomes) for outcomes in first]
    calls, first = list(itertools.compress(calls, well)), list(itertools.compress(first, well))
    with quiet() as printed:
        here = run_calls(open_runner(reward, settings, isolated=False), calls)
    differences = _differences(calls, here, first)
    if compare and differences:
        yield _another_process(f"it scores one way in this process and another way in a process of its own:{differences}")
    if printed.getvalue():
        yield finding(
            "prints",
            f"it printed {shown(printed.getvalue())}",
            "every process calls it for every completion of every step",
            "what there is to say as Score(…, why=…), which stands beside the score in the completions table",
        )


def _differences(calls: Sequence[Call], left: Sequence[list[Outcome]], right: Sequence[list[Outcome]]) -> str:
    """A line for each response whose outcomes are not the same."""
    texts = (text for _, one_call in calls for text in one_call)
    pairs = zip(texts, itertools.chain.from_iterable(left), itertools.chain.from_iterable(right), strict=True)
    return lines(f"{_worth(one)}, then {_worth(other)}: {shown(text)}" for text, one, other in pairs if not _same(one, other))


def _same(one: Outcome, other: Outcome) -> bool:
    if "timeout" in (one.status, other.status):
        return True  # told as slow
    if one.value is None or other.value is None:
        return one.status == other.status
    return abs(one.value - other.value) <= TOLERANCE


def _worth(outcome: Outcome) -> str:
    return outcome.status if outcome.value is None else f"{outcome.value:.12g}"


def _unpicklable(reward: Reward, rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Finding]:
    try:
        pickle.loads(pickle.dumps(reward))  # noqa: S301 - of this line's own making
        pickle.dumps((dict(settings), [dict(row.columns) for row in rows]))
    except UserError as error:
        return [_another_process(f"it cannot be found again: {error.asked}: {error.why}")]
    except Exception as error:  # noqa: BLE001 - what pickle raises depends on what it is given
        return [_another_process(f"its settings or columns cannot be sent: {type(error).__name__}: {error}")]
    return []


def _another_process(what: str) -> Finding:
    why = "a worker process loads it by its file and its name, and is sent the settings and the row"
    instead = "one function in its file, under its own name, that needs nothing but its arguments"
    return finding("cannot be pickled", what, why, instead)


def _in_the_file(reward: Reward) -> Iterator[Finding]:
    """What is missing in the file and beside it."""
    path = source_file(reward)
    docstring = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") if path else ""
    golden = golden_file(path) if path else None
    if not reward.summary:
        why = "a user of it, and `rlperc rewards show`, has nothing to go by"
        yield finding("no docstring", "its function says nothing", why, "what it returns, and for what")
    if "Source:" not in docstring:
        why = "nobody can look up what it follows"
        yield finding(
            "no source", "its file's docstring names none", why, "a line `Source: …`; `Source: yours` where it is yours"
        )
    needs_training = reward.needs_scorer or reward.style == "trl"  # whose cases nothing else could run
    if not needs_training and (golden is None or not golden.is_file()):
        what = f"there is no {golden}" if golden else "it stands in no file, and they stand beside that"
        instead = "one JSON line a case, as `rlperc rewards new` writes them"
        yield finding("no golden cases", what, "nothing says what it must score, and why", instead)
