"""What the trials of a reward say: what scores high and should not, what comes to no score, what takes time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rlperc.lint.exploits import tells
from rlperc.lint.probes import RIGHT
from rlperc.lint.trials import Trial, open_runner, seconds_here
from rlperc.reward.attempt import Outcome
from rlperc.reward.contract import Reward

# Training waits for a bounded reward with every GPU.
BOUNDED_S = 0.05
_SHOWN = 6


class Finding(NamedTuple):
    """A fault of a reward: its kind in a few words, and in three beats what was found, why it is a fault, what to write."""

    kind: str
    text: str


def finding(kind: str, what: str, why: str, instead: str) -> Finding:
    """A finding from its three beats."""
    return Finding(kind, f"{what}\n  why: {why}\n  instead: {instead}")


def lines(every: Iterable[str]) -> str:
    """The first few, each on a line of its own; empty where there are none."""
    listed = list(every)
    more = [f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return "".join(f"\n    {line}" for line in [*listed[:_SHOWN], *more])


def shown(text: str, length: int = 70) -> str:
    """A text on one line, cut where it is long."""
    return repr(text) if len(text) <= length else repr(text[:length])[:-1] + "…'"


def too_high(reward: Reward, trials: Sequence[Trial], tagged: bool) -> list[Finding]:
    """Probes that cannot be right and score more than half of full marks; `tagged`: the reward reads tags."""
    half = _half(reward, trials)
    # One completion by itself and no column: it judges the form, whatever it says it credits.
    judges_form = reward.scope == "completion" and not reward.columns
    if half is None or judges_form:
        return []
    high: dict[str, Trial] = {}
    for trial in trials:
        wrong = reward.credits in trial.probe.wrong_for and tells(trial.row) and (tagged or not trial.probe.tagged)
        if wrong and trial.outcome.value is not None and trial.outcome.value > half:
            high.setdefault(trial.probe.name, trial)
    if not high:
        return []
    found = lines(f"{trial.outcome.value:g} for {name}: {shown(trial.text)}" for name, trial in high.items())
    columns = json.dumps(dict(next(iter(high.values())).row.columns), default=str)[:100]
    what = f"what cannot be right scores above {half:g}, half of full marks:{found}\n    where the columns are {columns}"
    why = "a model that is paid for it learns to write it"
    return [finding("scores high", what, why, "compare the whole span with the gold; 0 where it is empty or says several things")]


def _half(reward: Reward, trials: Sequence[Trial]) -> float | None:
    """Half of full marks. Where 0 lies inside the range they count from 0; without a range, what is right shows them."""
    low, high = reward.range
    if not math.isfinite(high - low):
        right = (trial.outcome.value for trial in trials if trial.probe is RIGHT)
        full = max((value for value in right if value is not None), default=0.0)
        return full / 2 if full > 0.0 else None
    low = 0.0 if low < 0.0 < high else low
    return low + (high - low) / 2


_NO_SCORE = {
    "out of range": ("the run stops there, or the score is lost", "a value in the range, or the range that it really has"),
    "raises": (
        "a model's mess is worth 0, it is no fault; a fault stops the run or loses the score",
        "Score(0.0, why=…) for whatever it cannot read",
    ),
    "NaN": ("it would silence the advantages of the whole group", "Score(0.0, why=…) where a number is not finite"),
}


def no_score(trials: Sequence[Trial]) -> list[Finding]:
    """Probes that came to a fault other than time, by its kind: each reason with where it came up first."""
    found = []
    for kind, (why, instead) in _NO_SCORE.items():
        faults = [trial for trial in trials if _kind(trial.outcome) == kind]
        reasons: dict[str, Trial] = {}
        for trial in faults:
            reasons.setdefault(trial.outcome.why, trial)
        if faults:
            listed = lines(f"{reason}, for {trial.probe.name}: {shown(trial.text)}" for reason, trial in reasons.items())
            found.append(finding(kind, f"{len(faults)} of {len(trials)} responses:{listed}", why, instead))
    return found


def _kind(outcome: Outcome) -> str:
    if outcome.status == "error":
        return "out of range" if "outside its declared range" in outcome.why else "raises"
    return "NaN" if outcome.status in ("nan", "inf") else outcome.status


def skipped(trials: Sequence[Trial]) -> list[Finding]:
    """Probes that it skips; the rows are such as it does not skip."""
    found = {trial.probe.name: trial for trial in reversed(trials) if trial.outcome.status == "skip"}
    if not found:
        return []
    listed = lines(f"{name}: {shown(trial.text)}" for name, trial in reversed(found.items()))
    what = f"it returns None for these, and scores other responses to the same row:{listed}"
    why = "None says that the row is another reward's; beside other rewards TRL counts it as 0 against its group"
    return [finding("skips by completion", what, why, "Score(0.0, why=…); None only for what the row's columns say")]


def slow(reward: Reward, settings: Mapping[str, Any], trials: Sequence[Trial]) -> list[Finding]:
    """Probes that took too long, timed once more in this process, where the way to a worker does not count."""
    limit = BOUNDED_S if reward.bounded else reward.timeout_s / 2
    here = open_runner(reward, settings, isolated=False)
    took = {trial.probe.name: math.inf for trial in trials if trial.outcome.status == "timeout"}
    for trial in trials:
        if trial.seconds > limit and not trial.outcome.is_fault:
            seconds = seconds_here(here, trial.row, trial.text, limit)
            took |= {trial.probe.name: seconds} if seconds > limit else {}
    if not took:
        return []
    slowest = sorted(took.items(), key=lambda pair: -pair[1])
    listed = lines(f"{'no end' if seconds == math.inf else f'{seconds:.2f} s'} for {name}" for name, seconds in slowest)
    why = f"its time limit is {reward.timeout_s:g} s, and other machines are busier than this one"
    instead = "0 for what is too long to read, and no pattern that can match the same text in many ways"
    if reward.bounded:
        why = "with bounded=True it runs in the training process, where nothing ends it and every GPU waits"
        instead += "; or without bounded=True"
    return [finding("slow", f"more than {limit:g} s for one response:{listed}", why, instead)]
