"""What the runs of a study came to: measures and couplings of each, and their spread over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlperc.study.plan import Study

Summaries = Mapping[tuple[str, str, int], Mapping[str, Any]]
"""By case, run and seed: the summaries of the runs that are done."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A number over seeds, in points or as a correlation: each value, mean, standard deviation, and Student's 95 % interval."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.values)

    @property
    def deviation(self) -> float | None:
        """None for a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """None for a single seed."""
        if self.deviation is None:
            return None
        from scipy import stats

        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(self.values) - 1) * self.deviation / math.sqrt(len(self.values))
        return self.mean - float(half), self.mean + float(half)


def spread_of(study: Study, done: Summaries, case: str, run: str, measure: str) -> Spread | None:
    """A run's measure in percent, over the seeds that are done."""
    values = [measure_of(done, case, run, seed, measure) for seed in study.all_seeds]
    known = tuple(100 * value for value in values if value is not None)
    return Spread(known) if known else None


def measure_of(done: Summaries, case: str, run: str, seed: int, measure: str) -> float | None:
    """What a run that is done came to, as a fraction; None where it is not, or was not measured so."""
    summary = done.get((case, run, seed))
    value = None if summary is None else summary["eval"].get("after", {}).get(measure)
    return None if value is None else float(value)


def surrogates(summary: Mapping[str, Any] | None) -> dict[str, float]:
    """How each reward of a run's RL stage moves with true perception within groups."""
    for coupling in (summary or {}).get("coupling", {}).values():
        names, truth = coupling["rewards"], coupling["roles"]["perception"]
        if truth is not None:
            row = coupling["matrix"][names.index(truth)]
            return {name: value for name, value in zip(names, row, strict=True) if value is not None and name != truth}
    return {}


@dataclass(frozen=True)
class Coupling:
    """The outcome's correlations within groups, in one RL stage, and what independence would give."""

    reasoning: float
    perception: float
    null_reasoning: float | None = None
    null_perception: float | None = None


def coupling_of(summary: Mapping[str, Any] | None, stage: str) -> Coupling | None:
    """None where the run is not done, or one of the three rewards is not there or never varied."""
    null = (summary or {}).get("coupling", {}).get(stage, {}).get("null")
    if not null:
        return None
    reasoning, perception = null["within"]["reasoning"], null["within"]["perception"]
    if reasoning["observed"] is None or perception["observed"] is None:
        return None
    return Coupling(reasoning["observed"], perception["observed"], reasoning["independent"], perception["independent"])
