"""Scoring responses on trial: one at a time, in a worker that is killed when it takes too long, or here."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rlperc.lint.exploits import Row, honest, stating
from rlperc.lint.probes import PROBES, Probe
from rlperc.reward.attempt import Outcome
from rlperc.reward.contract import Reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.words.response import Completion, read_response_once

# A bounded reward has no time limit in training. On trial it has this one, so that a broken promise is found, not suffered.
BOUNDED_LIMIT_S = 2.0
# A reward that hangs does so on many probes, and each takes the whole limit.
ENOUGH_TIMEOUTS = 3
CHARACTERS_A_TOKEN = 4
# Up to that length a response costs little to score once more.
SHORT = 2000


Call = tuple[Row, list[str]]
"""A row and the responses to it that are scored in one call."""


class Trial(NamedTuple):
    """What a reward made of a probe. `seconds` has the way to a worker and back in it."""

    probe: Probe
    row: Row
    text: str
    outcome: Outcome
    seconds: float


def open_runner(reward: Reward, settings: Mapping[str, Any], isolated: bool) -> RewardRunner:
    """A runner that tells every fault and stops for none. Isolated: in one worker, a new process at the first call."""
    limit = BOUNDED_LIMIT_S if reward.bounded else reward.timeout_s
    return RewardRunner(reward, settings, Handling("skip", max_error_share=1.0, timeout_s=limit, isolate=isolated, workers=1))


def score_one(runner: RewardRunner, row: Row, text: str) -> Outcome:
    """Score one response to a row; in a group, beside a right one and a wrong one."""
    group = [honest(row), stating("some wrong thing")] if runner.reward.scope == "group" else []
    return score_all(runner, row, [*group, text])[-1]


def score_all(runner: RewardRunner, row: Row, texts: Sequence[str]) -> list[Outcome]:
    """Score responses to a row, as one group or batch where the reward has such a scope."""
    # Not through the cache: these are many and may be huge.
    completions = [read_response_once(text, None, len(text) // CHARACTERS_A_TOKEN) for text in texts]
    columns = {name: [value] * len(texts) for name, value in row.columns.items()}
    if runner.reward.style == "trl":
        return runner.run_trl(_trl_arguments(completions, columns), len(texts))
    return runner.run(completions, columns, groups=[range(len(texts))])


def _trl_arguments(completions: Sequence[Completion], columns: Mapping[str, list[Any]]) -> dict[str, Any]:
    """What TRL calls a reward function with where the data are conversations, which they are with images."""
    asked = columns.get("question", [""] * len(completions))
    return {
        **columns,
        "prompts": [[{"role": "user", "content": str(question)}] for question in asked],
        "completions": [[{"role": "assistant", "content": completion.text}] for completion in completions],
        "completion_ids": [[0] * (completion.tokens or 0) for completion in completions],
        "trainer_state": None,
        "log_extra": lambda *_: None,
        "log_metric": lambda *_: None,
    }


def short_calls(reward: Reward, rows: Sequence[Row]) -> list[Call]:
    """The probes that are short and take no time, as calls: one for each response, or for each group or batch of them."""
    calls: list[Call] = []
    for row in rows:
        built = [probe.build(row) for probe in PROBES if not probe.heavy]
        texts = [text for text in built if text is not None and len(text) <= SHORT]
        calls += [(row, [text]) for text in texts] if reward.scope == "completion" else [(row, texts)]
    return calls


def run_calls(runner: RewardRunner, calls: Sequence[Call], backwards: bool = False) -> list[list[Outcome]]:
    """The outcomes of each call, in order; `backwards` makes the last call first, and each from its end.

    A reward that hangs again and again is not called any more: its calls time out.
    """
    step = -1 if backwards else 1
    outcomes: list[list[Outcome]] = []
    for row, texts in calls[::step]:
        if runner.counts["timeout"] >= ENOUGH_TIMEOUTS:
            outcomes.append([Outcome("timeout")] * len(texts))
        else:
            outcomes.append(score_all(runner, row, texts[::step])[::step])
    return outcomes[::step]


def run_probes(runner: RewardRunner, rows: Sequence[Row], heavy: bool) -> Iterator[Trial]:
    """Score every probe, the heavy ones for the first row only; ends early where the reward hangs again and again."""
    timeouts = 0
    for probe in PROBES:
        for row in rows[:1] if probe.heavy else rows:
            text = probe.build(row) if heavy or not probe.heavy else None
            if text is None or timeouts >= ENOUGH_TIMEOUTS:
                continue
            before = runner.seconds
            outcome = score_one(runner, row, text)
            timeouts += outcome.status == "timeout"
            yield Trial(probe, row, text, outcome, runner.seconds - before)


def seconds_here(runner: RewardRunner, row: Row, text: str, enough: float) -> float:
    """How long scoring takes in this process: the least of three, for others are at work here too; one if not `enough`."""
    best = float("inf")
    for _ in range(3):
        before = runner.seconds
        with quiet():
            score_one(runner, row, text)
        best = min(best, runner.seconds - before)
        if best <= enough:
            break
    return best


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keep what is printed meanwhile off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield printed
