"""The edges of a graph that were read right, as an F1 score, so that naming all pairs of vertices does not pay.

Source: the perception term a_p of arXiv 2605.29496 for its graph colouring task, whose p* is the edge list, with credit for
each edge so that groups without a perfect reading still differ.
"""

from typing import Any

from rlperc import Completion, Score, reward
from rlperc.words.matching import f1
from rlperc.words.structure import read_stated
from rlperc.words.text import label

Edge = frozenset[str]


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def perception_edges(completion: Completion, perception: str | None) -> Score | None:
    """2 * right / (stated + gold): edges of `<perception>` that stand in the column `perception`.

    Both are JSON: a list of edges, each a list of two vertices, or an object that holds the list as `edges`. The order of the
    edges and of their ends makes no difference. An edge stated again counts as stated and not as right, as do one from a
    vertex to itself and whatever is no edge. Where there is no edge, only stating [] is right.
    """
    gold = _read_edges(perception) if perception is not None else None
    if gold is None or None in gold:
        return None
    if completion.perception is None:
        return Score(0.0, why="no perception")
    stated = _read_edges(completion.perception)
    if stated is None:
        return Score(0.0, why="the perception is not a list of edges in JSON")
    there = set(gold)
    right = len(there & set(stated))
    value = f1(right, len(stated), len(there))
    return Score(value, why="" if value == 1.0 else f"{right} of {len(there)} edges right, {len(stated)} stated")


def _read_edges(text: str) -> list[Edge | None] | None:
    value = read_stated(text)
    edges = value.get("edges") if isinstance(value, dict) else value
    return [_edge(item) for item in edges] if isinstance(edges, list) else None


def _edge(item: Any) -> Edge | None:
    """The two ends, or None for what is no edge between two vertices."""
    if not isinstance(item, list) or len(item) != 2:
        return None
    one, other = label(item[0]), label(item[1])
    return frozenset((one, other)) if one is not None and other is not None and one != other else None
