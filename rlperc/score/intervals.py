"""Means and their 95 % confidence intervals, also where values come in clusters and only sums are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054
Interval = tuple[float, float]


def wilson(fraction: float, count: int) -> Interval:
    """95 % interval of a mean of `count` values in 0..1 (Wilson, 1927, equation for the score interval).

    Exact in form for 0/1 values; for partial credit it is too wide rather than too narrow, because no distribution
    on 0..1 with that mean varies more. Stays within 0..1, also at 0 and 1.
    """
    if count == 0:
        return 0.0, 1.0
    shrink = 1 + Z95**2 / count
    centre = (fraction + Z95**2 / (2 * count)) / shrink
    half = Z95 / shrink * math.sqrt(fraction * (1 - fraction) / count + Z95**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


class ClusteredMean:
    """The mean of all values, and its variance when only clusters, such as the completions of a prompt, are independent.

    With n_g values that sum to t_g in cluster g, the mean m = Σt / Σn is a ratio of two sums over G clusters, and
    var(m) = G / (G - 1) · Σ(t_g - m·n_g)² / (Σn)² (Cochran, Sampling Techniques, 1977, chapter 6, without the finite
    population; the clustered standard error of arXiv 2411.00640 but for G / (G - 1)). Clusters of one value give s² / n.
    """

    def __init__(self) -> None:
        self.clusters = 0
        self.count = 0
        # Sums count from the first value: those of squares would lose every digit where all values are large and alike.
        self._origin = 0.0
        self._total = self._total_squared = self._total_by_count = self._count_squared = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Take in one cluster. One without values is none."""
        if not values:
            return
        if not self.count:
            self._origin = values[0]
        count, total = len(values), sum([value - self._origin for value in values])
        self.clusters += 1
        self.count += count
        self._total += total
        self._total_squared += total * total
        self._total_by_count += total * count
        self._count_squared += count * count

    @property
    def mean(self) -> float | None:
        """Over all values; None without one, or where they are too large to be summed."""
        mean = self._origin + self._total / self.count if self.count else math.nan
        return mean if math.isfinite(mean) else None

    @property
    def variance(self) -> float | None:
        """Of the mean; None below two clusters, or where the values are too large to be squared."""
        if self.clusters < 2:
            return None
        mean = self._total / self.count
        squares = self._total_squared - 2 * mean * self._total_by_count + mean * mean * self._count_squared
        variance = self.clusters / (self.clusters - 1) * squares / (self.count * self.count)
        return max(0.0, variance) if math.isfinite(variance) else None


def mean_interval(values: ClusteredMean, low: float, high: float, *, clustered: bool) -> Interval | None:
    """95 % interval of the mean of values between `low` and `high`.

    Student's, with the variance by clusters and as many degrees of freedom as there are clusters but one. Wilson's where it is
    known to hold instead: for independent values in 0..1, and for clusters of them whose variance says nothing, because all
    are alike or there is only one; each cluster then counts as one value.

    Args:
        values: what was taken in.
        low: lowest possible value; the interval does not pass it.
        high: highest possible value.
        clustered: whether a cluster may hold several values, that is, whether the prompts are known.

    Returns:
        None without values, or with too few clusters to tell.
    """
    mean, variance = values.mean, values.variance
    if mean is None:
        return None
    if (low, high) == (0.0, 1.0) and (not clustered or not variance):
        return wilson(min(max(mean, 0.0), 1.0), values.clusters)
    if variance is None:
        return None
    from scipy.special import stdtrit  # a fifth of a second, for those who have clusters

    half = float(stdtrit(values.clusters - 1, 0.975)) * math.sqrt(variance)
    return max(low, mean - half), min(high, mean + half)
