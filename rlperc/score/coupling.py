"""Reward coupling over a training: how rewards move together, and when a surrogate leaves the outcome behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlperc.score.moments import Moments, plain
from rlperc.score.roles import Roles

Floats = NDArray[np.float64]
WINDOW = 10
"""Steps of which the mean is held against as many steps before, and as many at the start."""
RISES, STAYS = 4.5, 1.0
"""Standard errors between the two from which a reward is taken to rise, and below which to stay where it was. Every step is
looked at, so that the first is far out."""


class Coupling:
    """What `Moments` knows of all batches, and an alarm for surrogates. Its arguments are those of `Moments`."""

    def __init__(self, names: Sequence[str], roles: Roles | None = None, *, scaled: bool = False) -> None:
        self.total = Moments(names, roles or Roles(), scaled=scaled)
        self.names, self.roles = self.total.names, self.total.roles
        self._count = 0
        self._first: list[list[float]] = []
        self._steps: list[list[float]] = []
        self._raised: dict[str, int] = {}

    def add(self, rewards: Floats, group_size: int, weights: Sequence[float] | None = None) -> Moments:
        """Take a batch in and return what it says by itself. The arguments are those of `Moments.add`."""
        alone = Moments(self.names, self.roles, scaled=self.total.scaled)
        for moments in (self.total, alone):
            moments.add(rewards, group_size, weights)
        self._watch([_mean(column) for column in rewards.T])
        return alone

    def _watch(self, means: list[float]) -> None:
        self._count += 1
        self._first = [*self._first, means][:WINDOW]
        self._steps = [*self._steps, means][-2 * WINDOW :]
        for name in self.alarms():
            self._raised.setdefault(name, self._count)

    def kept(self) -> dict[str, Any]:
        """What was taken in, as JSON has it."""
        first, steps = (plain(np.array(kept)) if kept else [] for kept in (self._first, self._steps))
        return {"total": self.total.kept(), "count": self._count, "first": first, "steps": steps, "raised": self._raised}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on from there."""
        self.total.restore(kept["total"])
        self._count = kept["count"]
        self._first, self._steps = (
            [[np.nan if value is None else value for value in step] for step in kept[name]] for name in ("first", "steps")
        )
        self._raised = dict(kept["raised"])

    def alarms(self) -> list[str]:
        """Surrogates that rise while the outcome stays where it was: somebody is paid for something else.

        Of the last steps, held against those before them and, since some rise slowly, against the first ones.
        """
        if self.roles.outcome is None or len(self._steps) < 2 * WINDOW:
            return []
        last = self._steps[-WINDOW:]
        found = self._risen(self._steps[:WINDOW], last) | self._risen(self._first, last)
        return [self.names[k] for k in self.roles.surrogates if k in found]

    def _risen(self, earlier: list[list[float]], later: list[list[float]]) -> set[int]:
        steps, at = np.array([*earlier, *later]), self.roles.outcome or 0
        outcome = steps[:, at]
        full = bool(self.roles.highs) and _mean(outcome) >= self.roles.highs[at] - 1e-9
        if np.isnan(outcome).any() or full or _rise(outcome) >= STAYS:
            return set()
        # Also more than the outcome: one that is noisier may rise as much unseen.
        return {k for k in self.roles.surrogates if min(_rise(steps[:, k]), _rise(steps[:, k] - outcome)) > RISES}

    def report(self) -> dict[str, Any]:
        """What `Moments` reports, and `alarms`: for each surrogate that raised one, the batch at which it first did."""
        return {**self.total.report(), "alarms": dict(self._raised)}


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _rise(values: Floats) -> float:
    """The later half's mean less the earlier one's, in standard errors."""
    before, after = (half[~np.isnan(half)] for half in np.split(values, 2))
    if min(len(before), len(after)) < 2:
        return 0.0
    error = np.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after))
    return float((after.mean() - before.mean()) / max(error, 1e-9))
