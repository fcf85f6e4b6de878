"""Reward coupling: how rewards move together, and whether what is paid for is seeing or thinking.

Correlation over all completions mixes in how hard each prompt is; only what differs within a group becomes an advantage,
so that is what is correlated first (arXiv 2605.29496, section on reward coupling, asks the same question). Beside it stands
what chance and base rates alone would give, `Null`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlperc.score.null import Null
from rlperc.score.roles import Roles

Floats = NDArray[np.float64]
WINDOW = 10
"""Steps of which the mean is held against as many steps before, and as many at the start."""
RISES, STAYS = 4.5, 1.0
"""Standard errors between the two from which a reward is taken to rise, and below which to stay where it was. Every step is
looked at, so that the first is far out."""


class Coupling:
    """Sums over many batches, from which everything below follows. Rewards are NaN where one has no opinion.

    Args:
        names: of the rewards.
        roles: which of them is the outcome, and which say whether a response saw and thought right.
        scaled: whether what is trained on is the sum of the rewards each over its standard deviation in the group, as
            `normalize_then_sum` has it, and not their plain sum.
    """

    def __init__(self, names: Sequence[str], roles: Roles | None = None, *, scaled: bool = False) -> None:
        self.names, self.roles, self.scaled = list(names), roles or Roles(), scaled
        size = len(self.names)
        # Pairwise, because a reward may skip rows: over the completions that both scored.
        pairs = ("products", "variances", "count", "sums", "squares", "cross", "opposed", "both")
        singles = ("compared", "flat", "rescued", "share")
        self._sums = {name: np.zeros((size, size)) for name in pairs} | {name: np.zeros(size) for name in singles}
        self._groups = self._live = self._count = 0
        self._first: list[list[float]] = []
        self._steps: list[list[float]] = []
        self._raised: dict[str, int] = {}
        self.null = Null(self.roles)

    def add(self, rewards: Floats, group_size: int, weights: Sequence[float] | None = None) -> Floats:
        """Take a batch in and return its own correlations within groups.

        Args:
            rewards: NaN where a reward skipped. Shape: (groups * group_size, rewards).
            group_size: completions of one prompt, which stand together.
            weights: of the rewards in the sum that is trained on; None where nothing is trained.

        Returns:
            Correlations, NaN where one of the two rewards never varies. Shape: (rewards, rewards).
        """
        groups = rewards.reshape(-1, group_size, rewards.shape[1])
        scored = ~np.isnan(groups)
        both = scored[..., :, None] & scored[..., None, :]
        left = np.where(both, groups[..., :, None], 0.0)
        right = np.where(both, groups[..., None, :], 0.0)
        self._add_overall(both, left, right)
        count = np.maximum(both.sum(1, keepdims=True), 1)
        left = np.where(both, left - left.sum(1, keepdims=True) / count, 0.0)
        right = np.where(both, right - right.sum(1, keepdims=True) / count, 0.0)
        products, variances = (left * right).sum((0, 1)), (left * left).sum((0, 1))
        self._sums["products"] += products
        self._sums["variances"] += variances
        self._sums["opposed"] += (left * right < -1e-12).sum((0, 1))
        self._sums["both"] += (np.abs(left * right) > 1e-12).sum((0, 1))
        self._add_groups(groups, scored)
        self._add_shares(groups, scored, weights)
        self._groups += len(groups)
        self._watch([_mean(column) for column in rewards.T])
        self.null.add(groups)
        return _correlation(products, variances)

    def _watch(self, means: list[float]) -> None:
        self._count += 1
        self._first = [*self._first, means][:WINDOW]
        self._steps = [*self._steps, means][-2 * WINDOW :]
        for name in self.alarms():
            self._raised.setdefault(name, self._count)

    def _add_overall(self, both: NDArray[np.bool_], left: Floats, right: Floats) -> None:
        self._sums["count"] += both.sum((0, 1))
        self._sums["sums"] += left.sum((0, 1))
        self._sums["squares"] += (left * left).sum((0, 1))
        self._sums["cross"] += (left * right).sum((0, 1))

    def _add_groups(self, groups: Floats, scored: NDArray[np.bool_]) -> None:
        high = np.where(scored, groups, -np.inf).max(1)
        low = np.where(scored, groups, np.inf).min(1)
        compared, flat = scored.sum(1) > 1, ~(high > low)
        self._sums["compared"] += compared.sum(0)
        self._sums["flat"] += (compared & flat).sum(0)
        if self.roles.outcome is not None:
            dead = (compared & flat)[:, self.roles.outcome, None]
            self._sums["rescued"] += (dead & ~flat).sum(0)

    def _add_shares(self, groups: Floats, scored: NDArray[np.bool_], weights: Sequence[float] | None) -> None:
        """What each reward brings to the variance of the sum, in each group in which that varies."""
        if weights is None:
            return
        count = np.maximum(scored.sum(1, keepdims=True), 1)
        centred = np.where(scored, groups - np.where(scored, groups, 0).sum(1, keepdims=True) / count, 0.0)
        if self.scaled:
            spread = np.sqrt((centred * centred).sum(1, keepdims=True) / count)
            centred = np.where(spread > 1e-9, centred / np.maximum(spread, 1e-9), 0.0)
        centred = centred * np.array(weights)
        total = centred.sum(2)
        variance = (total * total).sum(1)
        live = variance > 1e-12
        self._sums["share"] += ((centred * total[..., None]).sum(1)[live] / variance[live, None]).sum(0)
        self._live += int(live.sum())

    def kept(self) -> dict[str, Any]:
        """What was taken in, as JSON has it."""
        sums = {name: value.tolist() for name, value in self._sums.items()}
        first, steps = (_plain(np.array(kept)) if kept else [] for kept in (self._first, self._steps))
        counts = {"groups": self._groups, "live": self._live, "count": self._count}
        return {"sums": sums, **counts, "first": first, "steps": steps, "raised": self._raised, "null": self.null.kept()}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on from there."""
        self._sums = {name: np.array(value) for name, value in kept["sums"].items()}
        self._groups, self._live, self._count = kept["groups"], kept["live"], kept["count"]
        self._first, self._steps = (
            [[np.nan if value is None else value for value in step] for step in kept[name]] for name in ("first", "steps")
        )
        self._raised = dict(kept["raised"])
        self.null.restore(kept["null"])

    def matrix(self) -> Floats:
        """Correlations within groups, over everything taken in. Shape: (rewards, rewards)."""
        return _correlation(self._sums["products"], self._sums["variances"])

    def overall(self) -> Floats:
        """Correlations over all completions. Shape: (rewards, rewards)."""
        count, sums = self._sums["count"], self._sums["sums"]
        products, squares = count * self._sums["cross"] - sums * sums.T, count * self._sums["squares"]
        variances = squares - sums * sums
        return _correlation(products, np.where(variances > 1e-9 * squares, variances, 0.0))

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
        """Everything, as JSON has it: None where something never varied or was not there."""
        compared, both = np.maximum(self._sums["compared"], 1), np.maximum(self._sums["both"], 1)
        of_groups = max(self._groups, 1)
        return {
            "rewards": self.names,
            "scaled": self.scaled,
            "groups": self._groups,
            "matrix": _plain(self.matrix()),
            "overall": _plain(self.overall()),
            "opposed": _plain(np.where(self._sums["both"] > 0, self._sums["opposed"] / both, np.nan)),
            "flat": dict(zip(self.names, (self._sums["flat"] / compared).tolist(), strict=True)),
            "rescued": dict(zip(self.names, (self._sums["rescued"] / of_groups).tolist(), strict=True)),
            "share": dict(zip(self.names, (self._sums["share"] / self._live).tolist(), strict=True)) if self._live else {},
            "roles": self.roles.named(self.names),
            "null": self.null.report(),
            "alarms": dict(self._raised),
        }


def _correlation(products: Floats, variances: Floats) -> Floats:
    scale = np.sqrt(np.maximum(variances, 0) * np.maximum(variances.T, 0))
    return np.where(scale > 1e-12, products / np.maximum(scale, 1e-300), np.nan)


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


def _plain(matrix: Floats) -> list[list[float | None]]:
    return [[None if value != value else value for value in row] for row in matrix.tolist()]
