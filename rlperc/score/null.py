"""What the outcome would correlate with if it were nothing but seeing right and thinking right, by chance together.

With P whether a response saw right and R whether it thought right, independent with probabilities p and r, and the outcome
a = P·R: corr(a, R) = sqrt(p (1 - r) / (1 - p r)) and corr(a, P) = sqrt(r (1 - p) / (1 - p r)). So the rarer of the two always
correlates more with the outcome, whatever training does: part of the coupling that arXiv 2605.29496 reports is that. Within
groups the same holds with each group's own p and r, and covariances and variances are summed over groups.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlperc.score.roles import Roles

Floats = NDArray[np.float64]
A, P, R = range(3)


class Null:
    """Observed correlations of the outcome with perception and reasoning, as rights and wrongs, beside the independent ones."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        found = (roles.outcome, roles.perception, roles.reasoning)
        self._places = [place for place in found if place is not None]
        self.known = len(self._places) == len(found)
        self._within = np.zeros((3, 3))
        """Sums of products of deviations from the group's mean: of a, P and R."""
        self._expected = np.zeros(5)
        """Sums over groups of the independent cov(a, P), cov(a, R), var(a), var(P), var(R)."""
        self._sums, self._products, self._count = np.zeros(3), np.zeros((3, 3)), 0

    def add(self, groups: Floats) -> None:
        """Take in groups of rewards; completions that one of the three has no opinion on are left out.

        Args:
            groups: shape (groups, group size, rewards).
        """
        if not self.known:
            return
        highs = np.array([self.roles.highs[place] for place in self._places])
        for group in groups[..., self._places]:
            known = group[~np.isnan(group).any(1)]
            if len(known):
                self._add((known >= highs).astype(float))

    def _add(self, right: Floats) -> None:
        """One group. Shape: (completions, 3), of 0 and 1."""
        self._count += len(right)
        self._sums += right.sum(0)
        self._products += right.T @ right
        mean = right.mean(0)
        self._within += (right - mean).T @ (right - mean)
        p, r = mean[P], mean[R]
        both, n = p * r, len(right)
        # Of shares in a few completions, p r (1 - p r) is too large on average by this.
        excess = p * (1 - p) * r * (1 - r) / (n - 1) if n > 1 else 0.0
        self._expected += n * np.array([both * (1 - p), both * (1 - r), both * (1 - both) - excess, p * (1 - p), r * (1 - r)])

    def kept(self) -> list[Any]:
        """What was taken in, as JSON has it."""
        return [self._within.tolist(), self._expected.tolist(), self._sums.tolist(), self._products.tolist(), self._count]

    def restore(self, kept: list[Any]) -> None:
        """Go on from there."""
        self._within, self._expected, self._sums, self._products = (np.array(one) for one in kept[:4])
        self._count = kept[4]

    def report(self) -> dict[str, Any]:
        """For perception and reasoning, within groups and overall: what was observed and what independence gives.

        `{"n": …, "outcome": mean, "perception": mean, "reasoning": mean, "within": {"perception": {"observed": …,
        "independent": …}, "reasoning": …}, "overall": …}`; empty without completions that all three scored, and None where
        something never varied.
        """
        if not self._count:
            return {}
        mean = self._sums / self._count
        overall = self._products / self._count - np.outer(mean, mean)
        p, r = mean[P], mean[R]
        both = p * r
        by_chance = np.array([both * (1 - p), both * (1 - r), both * (1 - both), p * (1 - p), r * (1 - r)])
        return {
            "n": self._count,
            "outcome": float(mean[A]),
            "perception": float(p),
            "reasoning": float(r),
            "within": _both(self._within, self._expected),
            "overall": _both(overall, by_chance),
        }


def _both(seen: Floats, expected: Floats) -> dict[str, Any]:
    by_chance = {P: (expected[0], expected[3]), R: (expected[1], expected[4])}
    return {
        name: {
            "observed": _r(seen[A, k], seen[A, A], seen[k, k]),
            "independent": _r(by_chance[k][0], expected[2], by_chance[k][1]),
        }
        for name, k in (("perception", P), ("reasoning", R))
    }


def _r(covariance: float, one: float, other: float) -> float | None:
    scale = math.sqrt(max(one, 0.0) * max(other, 0.0))
    return float(covariance / scale) if scale > 1e-12 else None
