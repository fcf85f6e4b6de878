"""A proper colouring of the graph in the image, with exactly as many colours as it needs.

Source: the graph colouring task of arXiv 2605.29496, whose rows hold {"v": 7, "c": 3, "edges": [[0, 1], …]} and no solution:
any colouring is right that gives the ends of every edge two colours and uses the chromatic number of them.
"""

import re
from typing import Any, NamedTuple

from rlperc import Completion, Score, reward
from rlperc.words.structure import MAX_CHARACTERS, read_json, read_stated
from rlperc.words.text import label

MAX_VERTICES = 1000
_PAIR = re.compile(r"\s*(\w+)\s*(?:->|[:=-])\s*(\w+)\s*")


class _Graph(NamedTuple):
    vertices: list[str]
    edges: list[tuple[str, str]]
    colors: int


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def coloring_valid(
    completion: Completion, perception: str | None, vertices: int | None = None, colors: int | None = None
) -> Score | None:
    """1 where `<answer>` colours every vertex once, every edge has two colours, and exactly the chromatic number is used.

    The column `perception` is JSON: a list of edges, or an object with `edges`, the number of vertices `v` and the chromatic
    number `c`; the columns `vertices` and `colors` say the same and come first. Vertices are called 0 to v - 1; without a
    `v`, or where the edges name v others, they are those that the edges name. Without a chromatic number the row is
    skipped, because a colour for each vertex would always do.

    The answer is a JSON object from vertex to colour, a JSON list of colours of vertex 0, 1, …, or text as in `0: a, 1: b`,
    also with `-`, `=` or `->`, and divided by commas, semicolons or lines. Colours are any words; case makes no difference.
    """
    graph = _read_graph(perception, vertices, colors)
    if graph is None:
        return None
    if completion.answer is None:
        return Score(0.0, why="no answer")
    pairs = _read_colors(completion.answer)
    if pairs is None:
        return Score(0.0, why="the answer is not a colouring")
    wrong = _what_is_wrong(pairs, graph)
    return Score(0.0, why=wrong) if wrong else Score(1.0)


def _read_graph(perception: str | None, vertices: int | None, colors: int | None) -> _Graph | None:
    value = read_json(perception) if perception is not None else None
    described = value if isinstance(value, dict) else {"edges": value}
    edges = _read_edges(described.get("edges"))
    v = vertices if vertices is not None else described.get("v")
    c = colors if colors is not None else described.get("c")
    if edges is None or type(c) is not int or c < 1:
        return None
    named = list(dict.fromkeys(end for edge in edges for end in edge))
    if v is None:
        return _Graph(named, edges, c) if named else None
    if type(v) is not int or not 1 <= v <= MAX_VERTICES:
        return None
    counted = [str(i) for i in range(v)]
    if set(named) <= set(counted):
        return _Graph(counted, edges, c)
    return _Graph(named, edges, c) if len(named) == v else None


def _read_edges(value: Any) -> list[tuple[str, str]] | None:
    if not isinstance(value, list) or not all(isinstance(edge, list) and len(edge) == 2 for edge in value):
        return None
    ends = [(label(one), label(other)) for one, other in value]
    edges = [(one, other) for one, other in ends if one is not None and other is not None and one != other]
    return edges if len(edges) == len(ends) else None


def _read_colors(answer: str) -> list[tuple[str, str | None]] | None:
    """Pairs of a vertex and its colour as they are written, None for what is no colour; None where this is no colouring."""
    if len(answer) > MAX_CHARACTERS:
        return None
    value = read_stated(answer)
    if isinstance(value, dict):
        return [(vertex.strip(), label(color)) for vertex, color in value.items()]
    if isinstance(value, list):
        return [(str(i), label(color)) for i, color in enumerate(value)]
    matches = [_PAIR.fullmatch(part) for part in re.split(r"[,;\n]", answer.rstrip(",;. \n"))]
    pairs = [(match[1], match[2]) for match in matches if match is not None]
    return [*pairs] if len(pairs) == len(matches) else None


def _what_is_wrong(pairs: list[tuple[str, str | None]], graph: _Graph) -> str:
    found = {vertex: color.casefold() for vertex, color in pairs if color is not None}
    if len(found) < len(pairs):
        return "a vertex is coloured twice, or with no colour"
    missing, added = len(set(graph.vertices) - set(found)), len(set(found) - set(graph.vertices))
    if missing:
        return f"{missing} of {len(graph.vertices)} vertices are not coloured"
    if added:
        return "it colours vertices that the graph does not have"
    clashes = sum(found[one] == found[other] for one, other in graph.edges)
    if clashes:
        return f"{clashes} of {len(graph.edges)} edges have one colour"
    used = len(set(found.values()))
    return "" if used == graph.colors else f"{used} colours instead of {graph.colors}"
