"""Reward coupling: how each reward moves with each other one within the groups that GRPO compares.

Correlation over all completions mixes in how hard each prompt is; only what differs within a group becomes an
advantage, so that is what is correlated (arXiv 2605.29496, section on reward coupling, asks the same question).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Coupling:
    """Pooled within-group correlations, gathered over many batches."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        size = len(names)
        # Pairwise, because a reward may skip rows: products and both variances over the completions both scored.
        self._products = np.zeros((size, size))
        self._variances = np.zeros((size, size))

    def add(self, rewards: Floats, group_size: int) -> Floats:
        """Take a batch in and return its own correlations.

        Args:
            rewards: NaN where a reward skipped. Shape: (groups * group_size, rewards).
            group_size: completions of one prompt, which stand together.

        Returns:
            Correlations, NaN where one of the two rewards never varies. Shape: (rewards, rewards).
        """
        groups = rewards.reshape(-1, group_size, rewards.shape[1])
        scored = ~np.isnan(groups)
        both = scored[..., :, None] & scored[..., None, :]
        count = both.sum(1, keepdims=True)
        left = np.where(both, groups[..., :, None], 0.0)
        right = np.where(both, groups[..., None, :], 0.0)
        mean = np.maximum(count, 1)
        left = np.where(both, left - left.sum(1, keepdims=True) / mean, 0.0)
        right = np.where(both, right - right.sum(1, keepdims=True) / mean, 0.0)
        products = (left * right).sum((0, 1))
        variances = (left * left).sum((0, 1))
        self._products += products
        self._variances += variances
        return _correlation(products, variances)

    def kept(self) -> list[Any]:
        """What was taken in, as JSON has it."""
        return [self._products.tolist(), self._variances.tolist()]

    def restore(self, kept: list[Any]) -> None:
        """Go on from there."""
        self._products, self._variances = (np.array(sums) for sums in kept)

    def matrix(self) -> Floats:
        """Correlations over everything taken in. Shape: (rewards, rewards)."""
        return _correlation(self._products, self._variances)


def _correlation(products: Floats, variances: Floats) -> Floats:
    scale = np.sqrt(variances * variances.T)
    return np.where(scale > 1e-12, products / np.maximum(scale, 1e-300), np.nan)
