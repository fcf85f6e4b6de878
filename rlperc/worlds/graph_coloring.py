"""Pictures of graphs, to be coloured with as few colours as it takes.

The graph colouring task of arXiv 2605.29496: some seven labelled vertices, p* is the edge list, and a model first says how many
colours it takes and then which vertex gets which. The paper's graphs and pictures are its own; these are drawn anew.
"""

from __future__ import annotations

import functools
import json
import math
import string
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rlperc.errors import RecipeError
from rlperc.words.structure import canonical
from rlperc.worlds import About, Item, Split, graphs, knobs
from rlperc.worlds.graphs import Edge, Graph
from rlperc.worlds.streams import streams
from rlperc.worlds.styles import STYLES, Color, Floats, Style, draw_style, glyph, to_image

MAX_VERTICES = 12
COLORS = (2, 5)
# Of a label's square, in radii of its disc: half of its side, and so how far a disc's middle is from the image's rim.
REACH = 1.2

ABOUT = About(
    summary="Graphs of 3 to 12 vertices: how many colours they take, and which vertex gets which",
    perception="the edges as a JSON list of pairs of vertices, the smaller one first, such as [[0,1],[0,3],[1,2]]",
    answer='a JSON object from vertex to colour, such as {"0":"a","1":"b","2":"a"}',
    answer_reward="coloring_valid",
    perception_reward="perception_edges",
    settings={
        "small": {"vertices": 5, "density": [0.5, 0.9], "size": 64, "jitter": 0.1, "shuffled": False},
        "paper": {"vertices": [6, 8], "density": [0.4, 0.7], "size": 448},
        "hard": {"vertices": [10, 12], "density": [0.5, 0.8], "size": 448},
    },
    unordered=2,
    columns={"vertices": "int32", "colors": "int32"},
)

Solved = tuple[str, str]  # (reasoning, answer)
Places = NDArray[np.complex128]
"""Where each vertex is, in pixels: x + y i. Shape: (vertices,)."""


def items(
    count: int,
    seed: int,
    split: Split,
    *,
    vertices: int | Sequence[int] = 7,
    density: float | Sequence[float] = (0.3, 0.6),
    colors: int | None = None,
    size: int = 448,
    jitter: float = 0.2,
    shuffled: bool = True,
    noise: float = 0.03,
    style: str | None = None,
    missed_probability: float = 0.0,
) -> Iterator[Item]:
    """Yield `count` connected graphs to colour; an isolated vertex could be given any colour, without a look.

    Args:
        count: how many items.
        seed: fixes the items together with `split` and the knobs.
        split: `test` has fonts and papers of its own.
        vertices: how many, 3 to 12, or [least, most], of which each is equally likely.
        density: share of the pairs of vertices that are joined, 0.1 to 0.95, or [least, most]: ten edges are all that 5
            vertices can have and too few for 12. There are at least `vertices` - 1.
        colors: the chromatic number, 2 to 5, below `vertices`; None for each that size and density allow, equally often.
        size: side of the image in pixels, 32 to 512; labels have to be legible, so that 5 vertices take 40 and 12 take 167.
        jitter: how far vertices stray on a circle, 0 to 0.5 of their distance there; less where an edge would meet a third.
        shuffled: whether labels stand in any order, and not clockwise from the top.
        noise: standard deviation of the pixel noise, in units of the full range.
        style: `seen` or `held_out`; None for what the split has.
        missed_probability: chance that the teacher of `response` overlooks an edge, drawn for each; p* and the answer stay true.
    """
    sizes, shares = _checked(vertices, density, colors, size, jitter, shuffled, noise, style, missed_probability)
    ways = {v: _ways(v, shares, colors) for v in range(sizes[0], sizes[1] + 1)}
    for content, brush, teacher in streams(count, seed, split):
        v = int(content.integers(sizes[0], sizes[1] + 1))
        least, counts = [*ways[v].items()][content.integers(len(ways[v]))]
        edges = graphs.draw_graph(content, v, counts[content.integers(len(counts))], least)
        seen = teacher.random(len(edges)) >= missed_probability
        stated = [edge for edge, one in zip(edges, seen.tolist(), strict=True) if one]
        chosen = draw_style(brush, split, style)
        places = _place(brush, v, edges, size, jitter, shuffled)
        think, said = _work_out(v, stated)
        answer = said if stated == edges else _work_out(v, edges)[1]
        yield Item(
            image=_draw(brush, chosen, places, edges, size, noise),
            question=_question(v),
            answer=answer,
            perception=canonical(edges),
            stated=canonical(stated),
            think=think,
            concluded=said,
            task=canonical({"world": "graph_coloring", "vertices": v}),
            columns={"vertices": v, "colors": least},
        )


def solve(task: dict[str, Any], perception: Any) -> str | None:
    """Colour the graph of a stated list of edges; None where it is no list of edges between these vertices.

    Args:
        task: has the number of `vertices`.
        perception: the list, or an object that has it as `edges`; vertices as numbers or text. An edge may come twice.
    """
    stated = perception.get("edges") if isinstance(perception, dict) else perception
    edges = graphs.read_edges(task["vertices"], stated)
    return None if edges is None else _work_out(task["vertices"], edges)[1]


def columns(task: dict[str, Any], answer: str) -> dict[str, Any]:
    """The numbers of vertices and colours, of a task that `solve` answered so."""
    return {"vertices": task["vertices"], "colors": len(set(json.loads(answer).values()))}


# --- knobs -------------------------------------------------------------------------------------------------------


def _checked(
    vertices: Any, density: Any, colors: Any, size: Any, jitter: Any, shuffled: Any, noise: Any, style: Any, missed: Any
) -> tuple[list[int], list[float]]:
    """Refuse knobs that cannot be; return the least and most of vertices and of density."""
    sizes, shares = _ends(vertices), _ends(density)
    for end in sizes:
        knobs.whole("vertices", end, 3, MAX_VERTICES)
    for end in shares:
        knobs.number("density", end, 0.1, 0.95)
    if colors is not None:
        knobs.whole("colors", colors, *COLORS)
    knobs.whole("size", size, 32, 512)
    knobs.number("jitter", jitter, 0, 0.5)
    knobs.choice("shuffled", shuffled, (False, True))
    knobs.number("noise", noise, 0, 1)
    knobs.choice("style", style, (None, *STYLES))
    knobs.number("missed_probability", missed, 0, 1)
    fitting = next(side for side in range(32, 513) if _legible(side, max(sizes)))
    if size < fitting:
        asked, why = f"size: {size}, vertices: {vertices}", "labels would be too small to be read"
        raise RecipeError(asked, why, f"size: {fitting} or more, or fewer vertices")
    return sorted(sizes), sorted(shares)


def _ends(value: Any) -> list[Any]:
    """Least and most of a knob that is both or one value, which is both then."""
    return [*value] if isinstance(value, list | tuple) and len(value) == 2 else [value, value]


def _ways(vertices: int, shares: Sequence[float], colors: int | None) -> dict[int, range]:
    """How many edges a graph may have, by its chromatic number. Raises RecipeError where there is no such graph."""
    pairs = vertices * (vertices - 1) // 2
    low, high = (max(vertices - 1, round(share * pairs)) for share in shares)
    bounds = {k: graphs.edge_range(vertices, k) for k in range(COLORS[0], min(COLORS[1], vertices - 1) + 1)}
    ways = {k: range(max(low, fewest), min(high, most) + 1) for k, (fewest, most) in bounds.items() if colors in (None, k)}
    found = {k: counts for k, counts in ways.items() if counts}
    if not found:
        asked = f"vertices: {vertices}, density: {shares[0]} to {shares[1]}, colors: {colors}"
        why = f"with {low} to {high} edges, no connected graph takes {colors or '2 to 5'} colours, fewer than it has vertices"
        ends = [count / pairs for k in ways for count in bounds[k]]
        instead = f"a density within {min(ends):.2f} to {max(ends):.2f}" if ends else f"colors: {max(bounds)} at most"
        raise RecipeError(asked, why, instead)
    return found


# --- reasoning ---------------------------------------------------------------------------------------------------


def _question(vertices: int) -> str:
    return (
        f"This graph has {vertices} vertices, labelled 0 to {vertices - 1}. Find its chromatic number. Then give each vertex a "
        "colour, a, b, c and so on, so that joined vertices differ and there are no more colours than that."
    )


def _work_out(vertices: int, edges: list[Edge]) -> Solved:
    """The reasoning, written out step by step, and the answer."""
    graph = graphs.graph_of(vertices, edges)
    least = graphs.chromatic(graph)
    steps, found = [_bound(graph, least)], dict[int, int]()
    for name, order in graphs.greedy_orders(graph, least):
        found = graphs.greedy(graph, order)
        steps += [f"{name}:", *_assign(graph, found, least)]
        if max(found.values()) < least:
            break
    return "\n".join(steps), canonical({str(vertex): _letter(color) for vertex, color in found.items()})


def _bound(graph: Graph, least: int) -> str:
    """Why fewer colours do not do: a clique, an odd cycle, or vertices that are joined to all of an odd cycle."""
    if least == 1:
        return "none are joined: 1 does"
    joined = graphs.clique(graph, least)
    if joined:
        return f"{_listed(joined)} are {'all ' * (least > 2)}joined: at least {least}"
    for hub in graphs.cliques(graph, least - 3):
        cycle = graphs.odd_cycle(graph, graphs.common(graph, hub))
        if cycle:
            around = f", all joined to {_listed(hub)}" if hub else ""
            return f"{_listed(cycle)} is an odd cycle{around}: at least {least}"
    return f"{least - 1} do not do: at least {least}"


def _assign(graph: Graph, found: dict[int, int], least: int) -> list[str]:
    """A line for each vertex, up to the first that is left without a colour."""
    lines: list[str] = []
    done: set[int] = set()
    for vertex, color in found.items():
        around = [f"{other} {_letter(found[other])}" for other in graphs.members(graph[vertex]) if other in done]
        given = _letter(color) if color < least else "none left"
        lines.append(f"{vertex}:{' joined to ' * bool(around)}{', '.join(around)} -> {given}")
        if color == least:
            break
        done.add(vertex)
    return lines


def _letter(color: int) -> str:
    return string.ascii_lowercase[color]


def _listed(vertices: Sequence[int]) -> str:
    return ",".join(map(str, vertices))


# --- images ------------------------------------------------------------------------------------------------------


def _radius(size: int, vertices: int) -> float:
    """Of the discs, in pixels, so that on the circle no edge comes close to a third vertex, and no disc to another."""
    turn = 2 * math.pi / vertices
    room = min(0.7 * (1 - math.cos(turn)), 0.62 * math.sin(turn / 2))  # for each pixel of the circle's radius
    return min(3.5 + 0.055 * size, room * size / 2 / (1 + REACH * room))


def _legible(size: int, vertices: int) -> bool:
    return _radius(size, vertices) >= (5 if vertices <= 10 else 7)


def _place(random: np.random.Generator, vertices: int, edges: list[Edge], size: int, jitter: float, shuffled: bool) -> Places:
    """Strew the vertices about a circle; less and less until edges keep away from all but their ends."""
    radius = _radius(size, vertices)
    circle = size / 2 - REACH * radius
    spacing = 2 * circle * math.sin(math.pi / vertices)
    turns = random.permutation(vertices) if shuffled else np.arange(vertices)
    regular = -1j * circle * np.exp(2j * np.pi / vertices * turns)
    while True:
        stray = random.uniform(-1, 1, (2, vertices)) * jitter * spacing
        places: Places = regular + stray[0] + 1j * stray[1]
        places = places.real.clip(-circle, circle) + 1j * places.imag.clip(-circle, circle)
        if _clear(places, edges, radius):
            return places + (1 + 1j) * size / 2
        jitter *= 0.9


def _clear(places: Places, edges: list[Edge], radius: float) -> bool:
    """Whether no disc comes close to another, nor to an edge between two others."""
    room = radius + max(1.5, 0.3 * radius)
    apart = np.abs(places[:, None] - places) + 3 * radius * np.eye(len(places))
    if apart.min() < radius + room:
        return False
    starts, ends = np.array(edges).T
    edge = places[ends] - places[starts]
    off = places[:, None] - places[starts]
    along = ((off * edge.conj()).real / np.abs(edge) ** 2).clip(0, 1)
    distance = np.abs(off - along * edge)
    distance[starts, range(len(edges))] = distance[ends, range(len(edges))] = room
    return bool(distance.min() >= room)


def _draw(random: np.random.Generator, style: Style, places: Places, edges: list[Edge], size: int, noise: float) -> Image.Image:
    """Draw edges and discs in ink, four times as large at first, and labels in the paper's colour on the discs."""
    radius = _radius(size, len(places))
    centers = [(round(place.real), round(place.imag)) for place in places.tolist()]
    large = Image.new("L", (4 * size, 4 * size))
    pen = ImageDraw.Draw(large)
    for one, other in edges:
        pen.line([(4 * x, 4 * y) for x, y in (centers[one], centers[other])], 255, max(6, round(0.022 * size)))
    for x, y in centers:
        pen.ellipse([4 * (x - radius), 4 * (y - radius), 4 * (x + radius) - 1, 4 * (y + radius) - 1], 255)
    ink = np.array(large.reduce(4))
    half = int((REACH if len(places) <= 10 else 0.8) * radius)
    for vertex, (x, y) in enumerate(centers):
        square = ink[y - half : y + half, x - half : x + half]
        square[...] = square * (1 - glyph(str(vertex), style.font, 2 * half))
    return to_image(_shades(style.paper, style.ink).take(ink, axis=0), random, noise)


@functools.cache  # a look-up is several times as fast as to mix the colours of each pixel
def _shades(paper: Color, ink: Color) -> Floats:
    """From one colour to the other. Shape: (256, 3)."""
    return np.linspace(paper, ink, 256, dtype=np.float32)
