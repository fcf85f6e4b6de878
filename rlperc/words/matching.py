"""One-to-one matching of what a model stated with what is there, and how good a match is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Left = TypeVar("Left")
Right = TypeVar("Right")


class Pair(NamedTuple):
    """Two matched items by their places in the two sequences, and what the pair scores."""

    left: int
    right: int
    score: float


def match(left: Sequence[Left], right: Sequence[Right], score: Callable[[Left, Right], float]) -> list[Pair]:
    """Match two sequences one to one so that the total score is as high as can be, in any order of either.

    Solved exactly as a linear assignment, in O(n^3) for n items a side: bound what a model may list. Imports
    scipy.optimize, so a reward that calls it declares `imports=("scipy.optimize",)`.

    Args:
        left: the items of one side, what was stated.
        right: the items of the other, what is there.
        score: what a pair of them scores; finite, 0 or more; 0 means that the two do not match at all.

    Returns:
        The pairs that score more than 0, by their place in `left`.
    """
    if not left or not right:
        return []
    from scipy.optimize import linear_sum_assignment

    scores = [[score(one, other) for other in right] for one in left]
    rows, columns = linear_sum_assignment(scores, maximize=True)
    pairs = [Pair(int(i), int(j), scores[i][j]) for i, j in zip(rows, columns, strict=True)]
    return [pair for pair in pairs if pair.score > 0]


def precision(matched: float, stated: int) -> float:
    """The matched share of what was stated; 1 where nothing was stated, because nothing stated is wrong."""
    return matched / stated if stated else 1.0


def recall(matched: float, gold: int) -> float:
    """The matched share of what is there; 1 where nothing is there."""
    return matched / gold if gold else 1.0


def f1(matched: float, stated: int, gold: int) -> float:
    """The harmonic mean of precision and recall, 2 * matched / (stated + gold), 0 to 1.

    `matched` is a number of pairs, or their total score where a pair scores at most 1. With nothing there and nothing
    stated it is 1. Each item stated beyond the matched ones lowers it, so that neither a duplicate nor a flood pays.
    """
    return 2 * matched / (stated + gold) if stated + gold else 1.0
