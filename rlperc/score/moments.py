"""Sums over batches of rewards, and what follows from them: how the rewards move together.

Correlation over all completions mixes in how hard each prompt is; only what differs within a group becomes an advantage,
so that is what is correlated first (arXiv 2605.29496, section on reward coupling, asks the same question). Beside it stands
what chance and base rates alone would give, `Null`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlperc.score.null import Null
from rlperc.score.roles import Roles

Floats = NDArray[np.float64]


class Moments:
    """Sums over batches. Rewards are NaN where one has no opinion.

    Args:
        names: of the rewards.
        roles: which of them is the outcome, and which say whether a response saw and thought right.
        scaled: whether what is trained on is the sum of the rewards each over its standard deviation in the group, as
            `normalize_then_sum` has it, and not their plain sum.
    """

    def __init__(self, names: Sequence[str], roles: Roles, *, scaled: bool = False) -> None:
        self.names, self.roles, self.scaled = list(names), roles, scaled
        size = len(self.names)
        # Pairwise, because a reward may skip rows: over the completions that both scored.
        pairs = ("products", "variances", "count", "sums", "squares", "cross", "opposed", "both")
        singles = ("compared", "flat", "rescued", "share")
        self._sums = {name: np.zeros((size, size)) for name in pairs} | {name: np.zeros(size) for name in singles}
        self._groups = self._live = 0
        self.null = Null(self.roles)

    def add(self, rewards: Floats, group_size: int, weights: Sequence[float] | None = None) -> None:
        """Take a batch in.

        Args:
            rewards: NaN where a reward skipped. Shape: (groups * group_size, rewards).
            group_size: completions of one prompt, which stand together.
            weights: of the rewards in the sum that is trained on; None where nothing is trained.
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
        self._sums["products"] += (left * right).sum((0, 1))
        self._sums["variances"] += (left * left).sum((0, 1))
        self._sums["opposed"] += (left * right < -1e-12).sum((0, 1))
        self._sums["both"] += (np.abs(left * right) > 1e-12).sum((0, 1))
        self._add_groups(groups, scored)
        self._add_shares(groups, scored, weights)
        self._groups += len(groups)
        self.null.add(groups)

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
        return {"sums": sums, "groups": self._groups, "live": self._live, "null": self.null.kept()}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on from there."""
        self._sums = {name: np.array(value) for name, value in kept["sums"].items()}
        self._groups, self._live = kept["groups"], kept["live"]
        self.null.restore(kept["null"])

    def matrix(self) -> Floats:
        """Correlations within groups, NaN where one of the two rewards never varies. Shape: (rewards, rewards)."""
        return _correlation(self._sums["products"], self._sums["variances"])

    def overall(self) -> Floats:
        """Correlations over all completions. Shape: (rewards, rewards)."""
        count, sums = self._sums["count"], self._sums["sums"]
        products, squares = count * self._sums["cross"] - sums * sums.T, count * self._sums["squares"]
        variances = squares - sums * sums
        return _correlation(products, np.where(variances > 1e-9 * squares, variances, 0.0))

    def opposed(self) -> Floats:
        """How often two rewards disagree, one above its group's mean and the other below: share of where neither is at it.

        Shape: (rewards, rewards).
        """
        both = self._sums["both"]
        return np.where(both > 0, self._sums["opposed"] / np.maximum(both, 1), np.nan)

    def flat(self) -> Floats:
        """Share of the groups in which a reward has no spread, of those where it scored two. Shape: (rewards,)."""
        return self._sums["flat"] / np.maximum(self._sums["compared"], 1)

    def rescued(self) -> Floats:
        """Share of the groups in which a reward has a spread and the outcome none. Shape: (rewards,)."""
        return self._sums["rescued"] / max(self._groups, 1)

    def share(self) -> Floats:
        """What each reward brings to the variance of the weighted sum: the shares make 1. Shape: (rewards,)."""
        return self._sums["share"] / self._live if self._live else np.full(len(self.names), np.nan)

    def report(self) -> dict[str, Any]:
        """Everything, as JSON has it: None where something never varied or was not there."""
        return {
            "rewards": self.names,
            "scaled": self.scaled,
            "groups": self._groups,
            "matrix": plain(self.matrix()),
            "overall": plain(self.overall()),
            "opposed": plain(self.opposed()),
            "flat": self._named(self.flat()),
            "rescued": self._named(self.rescued()),
            "share": self._named(self.share()) if self._live else {},
            "roles": self.roles.named(self.names),
            "null": self.null.report(),
        }

    def metrics(self) -> dict[str, float]:
        """What is known of it, as numbers with names.

        `within/A/B`, `overall/A/B` and `opposed/A/B` for each pair of rewards, `share/A` and `rescued/A` for each reward; and
        for `perception` and `reasoning`, as rights and wrongs, how the outcome correlates with them within groups:
        `observed/…`, and `independent/…` by chance.
        """
        pairs = {"within": self.matrix(), "overall": self.overall(), "opposed": self.opposed()}
        found = {
            f"{kind}/{self.names[i]}/{self.names[j]}": float(matrix[i, j])
            for kind, matrix in pairs.items()
            for i, j in combinations(range(len(self.names)), 2)
        }
        for kind, of_each in {"share": self.share(), "rescued": self.rescued()}.items():
            found |= {f"{kind}/{name}": value for name, value in self._named(of_each).items()}
        if self.roles.outcome is None:
            found = {name: value for name, value in found.items() if not name.startswith("rescued/")}
        for role, known in self.null.report().get("within", {}).items():
            found |= {f"{kind}/{role}": value for kind, value in known.items() if value is not None}
        return {name: value for name, value in found.items() if value == value}

    def _named(self, of_each: Floats) -> dict[str, float]:
        return dict(zip(self.names, of_each.tolist(), strict=True))


def plain(matrix: Floats) -> list[list[float | None]]:
    """A matrix as JSON has it."""
    return [[None if value != value else value for value in row] for row in matrix.tolist()]


def _correlation(products: Floats, variances: Floats) -> Floats:
    scale = np.sqrt(np.maximum(variances, 0) * np.maximum(variances.T, 0))
    return np.where(scale > 1e-12, products / np.maximum(scale, 1e-300), np.nan)
