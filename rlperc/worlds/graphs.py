"""Small graphs: drawn with a chromatic number, coloured exactly, with what shows that fewer colours do not do.

A graph is a list with the neighbours of each vertex as the bits of an integer. Everything here is for a dozen vertices.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

Edge = tuple[int, int]
Graph = list[int]
# Of all graphs of a size, so often; where a chromatic number is rarer than that, a graph is built around a clique.
TRIES = 20


def graph_of(vertices: int, edges: Iterable[Edge]) -> Graph:
    """The graph of `vertices` vertices with these edges."""
    graph = [0] * vertices
    for one, other in edges:
        graph[one] |= 1 << other
        graph[other] |= 1 << one
    return graph


@functools.cache  # of a dozen vertices there are few sets
def members(mask: int) -> tuple[int, ...]:
    """The vertices of a set, ascending."""
    return tuple(vertex for vertex in range(mask.bit_length()) if mask >> vertex & 1)


def read_edges(vertices: int, stated: Any) -> list[Edge] | None:
    """The edges of an untrusted list from JSON, sorted, each once; None where it is no list of edges of these vertices."""
    if not isinstance(stated, list) or len(stated) > vertices**2:
        return None
    named: dict[Any, int] = {name: vertex for vertex in range(vertices) for name in (vertex, str(vertex))}
    edges = set()
    for pair in stated:
        if not isinstance(pair, list) or len(pair) != 2 or any(type(end) not in (int, str) for end in pair):
            return None
        one, other = (named.get(end.strip() if isinstance(end, str) else end, -1) for end in pair)
        if min(one, other) < 0 or one == other:
            return None
        edges.add((min(one, other), max(one, other)))
    return sorted(edges)


# --- colours -----------------------------------------------------------------------------------------------------


def chromatic(graph: Graph) -> int:
    """The chromatic number, exactly."""
    most = max(neighbours.bit_count() for neighbours in graph) + 1  # in a clique, and colours that a greedy one takes
    least = next(size for size in range(most, 0, -1) if clique(graph, size))
    return next(colors for colors in range(least, most + 1) if coloring(graph, colors))


def coloring(graph: Graph, colors: int) -> list[int] | None:
    """A colour, 0 to `colors` - 1, for each vertex, so that neighbours differ; None where there is no such colouring."""
    order = sorted(range(len(graph)), key=lambda vertex: -graph[vertex].bit_count())
    classes = [0] * colors

    def extend(place: int, used: int) -> bool:
        if place == len(order):
            return True
        vertex = order[place]
        # Colours not used yet are alike, so that only one of them is tried.
        for color in range(min(used + 1, colors)):
            if not classes[color] & graph[vertex]:
                classes[color] |= 1 << vertex
                if extend(place + 1, max(used, color + 1)):
                    return True
                classes[color] ^= 1 << vertex
        return False

    if not extend(0, 0):
        return None
    return [next(color for color in range(colors) if classes[color] >> vertex & 1) for vertex in range(len(graph))]


def greedy(graph: Graph, order: Iterable[int]) -> dict[int, int]:
    """In this order, for each vertex the least colour that none of its neighbours has by then."""
    found: dict[int, int] = {}
    for vertex in order:
        taken = {found[neighbour] for neighbour in members(graph[vertex]) if neighbour in found}
        found[vertex] = next(color for color in itertools.count() if color not in taken)
    return found


def greedy_orders(graph: Graph, colors: int) -> Iterator[tuple[str, list[int]]]:
    """Names and orders to try `greedy` in until it takes no more than `colors` colours, the chromatic number.

    First 0, 1, 2, …; then the next is always one whose neighbours have the most colours, of those with the most edges, of
    those the first (DSATUR); last colour by colour of an exact solution, which will do.
    """
    yield "in order", list(range(len(graph)))
    found: dict[int, int] = {}
    for _ in graph:
        rank = {
            vertex: (len({found[n] for n in members(graph[vertex]) if n in found}), graph[vertex].bit_count(), -vertex)
            for vertex in range(len(graph))
            if vertex not in found
        }
        found = greedy(graph, [*found, max(rank, key=rank.__getitem__)])
    yield "most colours around first", list(found)
    exact = coloring(graph, colors) or []
    yield "colour by colour", sorted(range(len(graph)), key=exact.__getitem__)


# --- what shows that fewer colours do not do ---------------------------------------------------------------------


def clique(graph: Graph, size: int) -> list[int] | None:
    """The first `size` vertices that are all joined; None where there are none."""
    return next(cliques(graph, size), None)


def cliques(graph: Graph, size: int, among: int = -1) -> Iterator[list[int]]:
    """All `size` vertices of the set `among` that are all joined, ascending; for a size of 0, nothing once."""
    among &= (1 << len(graph)) - 1
    if size == 0:
        yield []
    elif among.bit_count() >= size:
        for vertex in members(among):
            for rest in cliques(graph, size - 1, among & graph[vertex] & -2 << vertex):
                yield [vertex, *rest]


def common(graph: Graph, vertices: Iterable[int]) -> int:
    """The set of those that are joined to all of these vertices."""
    return functools.reduce(int.__and__, (graph[vertex] for vertex in vertices), (1 << len(graph)) - 1)


def odd_cycle(graph: Graph, among: int) -> list[int] | None:
    """A shortest odd cycle of the set `among`; None where there is none, which is where two colours do."""
    cycles = (_odd_cycle_from(graph, start, among) for start in members(among))
    return min((cycle for cycle in cycles if cycle), key=len, default=None)


def _odd_cycle_from(graph: Graph, start: int, among: int) -> list[int] | None:
    """Breadth first: a shortest odd cycle is closed by an edge between two vertices that are equally far away."""
    paths, queue = {start: [start]}, [start]
    for vertex in queue:
        path = paths[vertex]
        for other in members(graph[vertex] & among):
            if other not in paths:
                paths[other] = [*path, other]
                queue.append(other)
            elif len(paths[other]) == len(path) and not set(path[1:]) & set(paths[other][1:]):
                return path + paths[other][:0:-1]
    return None


# --- drawing graphs ----------------------------------------------------------------------------------------------


def edge_range(vertices: int, colors: int) -> tuple[int, int]:
    """How few and how many edges a connected graph has that takes `colors` colours.

    Few: a clique with trees at it. Many: the graph of Turán, whose classes are as equal as can be.
    """
    classes = [vertices // colors + (place < vertices % colors) for place in range(colors)]
    return colors * (colors - 1) // 2 + vertices - colors, (vertices**2 - sum(size**2 for size in classes)) // 2


def draw_graph(random: np.random.Generator, vertices: int, count: int, colors: int) -> list[Edge]:
    """The edges, sorted, of a connected graph that takes `colors` colours.

    Args:
        random: drawn from more or less often.
        vertices: how many, of which `colors` have a colour of their own.
        count: how many edges, of `edge_range`.
        colors: the chromatic number.
    """
    pairs = _pairs(vertices)
    for _ in range(TRIES):
        edges = [pairs[place] for place in random.permutation(len(pairs))[:count]]
        graph = graph_of(vertices, edges)
        if connected(graph) and coloring(graph, colors) and not coloring(graph, colors - 1):
            return sorted(edges)
    return _around_a_clique(random, vertices, count, colors)


def connected(graph: Graph) -> bool:
    """Whether each vertex can be reached from the first."""
    reached, fresh = 1, 1
    while fresh:
        near = functools.reduce(int.__or__, (graph[vertex] for vertex in members(fresh)))
        fresh = near & ~reached
        reached |= near
    return reached == (1 << len(graph)) - 1


@functools.cache
def _pairs(vertices: int) -> Sequence[Edge]:
    return list(itertools.combinations(range(vertices), 2))


def _around_a_clique(random: np.random.Generator, vertices: int, count: int, colors: int) -> list[Edge]:
    """A clique, to which the other vertices are joined one by one, and edges between classes until there are enough."""
    order: list[int] = random.permutation(vertices).tolist()
    pairs: list[Edge] = []
    while len(pairs) < count:
        classes = [*range(colors), *random.integers(colors, size=vertices - colors).tolist()]
        pairs = [(one, other) for one, other in _pairs(vertices) if classes[one] != classes[other]]
    edges = {pair for pair in pairs if pair[1] < colors}
    for vertex in range(colors, vertices):
        earlier = [other for other in range(vertex) if classes[other] != classes[vertex]]
        edges.add((earlier[random.integers(len(earlier))], vertex))
    rest = [pair for pair in pairs if pair not in edges]
    edges.update(rest[place] for place in random.permutation(len(rest))[: count - len(edges)])
    return sorted((min(order[a], order[b]), max(order[a], order[b])) for a, b in edges)
