"""Before and after on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlperc.score.intervals import Z95, ClusteredMean, Interval, mean_interval


class Change(NamedTuple):
    """What became of a measure: the mean difference with its 95 % interval, items that rose and fell, and how likely chance is.

    `p` is of the exact sign test on items that rose and fell, two-sided; where values are 0 or 1 that is McNemar's test
    (Psychometrika 12, 1947) in its exact form.
    """

    difference: float
    interval: Interval | None
    rose: int
    fell: int
    p: float

    def as_json(self) -> dict[str, Any]:
        """For a summary."""
        return self._asdict()


def paired(before: Mapping[int, float], after: Mapping[int, float]) -> Change | None:
    """Compare two models on the items that both were measured on.

    Args:
        before: item to value, a mean over its responses where there are several.
        after: likewise.

    Returns:
        None without a common item.
    """
    from scipy.stats import binomtest  # half a second, for those who compare

    differences = [after[item] - before[item] for item in before if item in after]
    if not differences:
        return None
    rose, fell = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = float(binomtest(rose, rose + fell).pvalue) if rose + fell else 1.0
    whole = set(differences) <= {-1.0, 0.0, 1.0}
    interval = _of_flips(rose, fell, len(differences)) if whole else _of_differences(differences)
    return Change(sum(differences) / len(differences), interval, rose, fell, p)


def _of_flips(rose: int, fell: int, count: int) -> Interval:
    """95 % interval of (rose - fell) / count, as if one more had risen and one more fallen.

    Bonett and Price, Journal of Educational and Behavioral Statistics 37, 2012, the adjusted Wald interval of paired proportions.

    Without the two, 5 of 200 that rose and none that fell would have an interval above 0, and McNemar's p = 0.06.
    """
    up, down = (rose + 1) / (count + 2), (fell + 1) / (count + 2)
    half = Z95 * math.sqrt((up + down - (up - down) ** 2) / (count + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def _of_differences(differences: Sequence[float]) -> Interval | None:
    values = ClusteredMean()
    for difference in differences:
        values.add([difference])
    # Where all changed alike their spread says nothing.
    return mean_interval(values, -1.0, 1.0, clustered=True) if len(set(differences)) > 1 else None
