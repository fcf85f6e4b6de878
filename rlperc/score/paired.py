"""Before and after on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rlperc.score.intervals import ClusteredMean, Interval, mean_interval


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
    values = ClusteredMean()
    for difference in differences:
        values.add([difference])
    rose, fell = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = float(binomtest(rose, rose + fell).pvalue) if rose + fell else 1.0
    # Where all changed alike, or none did, their spread says nothing.
    interval = mean_interval(values, -1.0, 1.0, clustered=True) if len(set(differences)) > 1 else None
    return Change(float(values.mean or 0.0), interval, rose, fell, p)
