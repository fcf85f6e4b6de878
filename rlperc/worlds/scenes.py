"""Objects on an invisible grid, and questions about their looks, places, numbers and relations.

Shapes of one color each, as in CLEVR (J. Johnson et al., arXiv 1612.06890), but flat and on exact places, so that a
list of the objects says all that there is. Every question is drawn first, then an answer, each as likely as the others,
and then a scene that has it: who sees no image cannot do better than guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rlperc.errors import RecipeError
from rlperc.words.structure import canonical
from rlperc.worlds import About, Item, Split, knobs
from rlperc.worlds.scene_making import Look, Space, space_of, templates
from rlperc.worlds.scene_pictures import Drawing, draw
from rlperc.worlds.scene_questions import COLORS, LOOKS, SHAPES, SIZES, question, solve, work_out
from rlperc.worlds.streams import streams
from rlperc.worlds.styles import STYLES, draw_style

__all__ = ["ABOUT", "items", "solve"]

MAX_GRID = 6
ABOUT = About(
    summary="Colored shapes on an invisible grid: what is where, how many, and how they stand to each other",
    perception="the objects from top to bottom and from left to right as a JSON list, such as "
    '[{"color":"red","column":2,"row":1,"shape":"circle","size":"large"}]',
    answer="a number, yes or no, or the word for a color, a shape or a size",
    answer_reward="answer_exact",
    perception_reward="objects_matched",
    settings={
        "small": {"grid": 2, "objects": (2, 4), "colors": 4, "shapes": 3, "sizes": 1, "cell": 16},
        "usual": {"hops": 2},
        "hard": {
            **{"grid": 6, "objects": (12, 20), "colors": 8, "shapes": 6, "sizes": 3},
            **{"cell": 64, "occlusion": 0.3, "clutter": 12, "hops": 3},
        },
    },
    unordered=1,
    columns={"cells": "string"},
)


def items(
    count: int,
    seed: int,
    split: Split,
    *,
    grid: int = 3,
    objects: int | Sequence[int] = (3, 6),
    cell: int = 42,
    colors: int = 6,
    shapes: int = 4,
    sizes: int = 2,
    hops: int = 1,
    jitter: float = 0.5,
    occlusion: float = 0.0,
    clutter: int = 0,
    noise: float = 0.03,
    style: str | None = None,
    misread: Mapping[str, str] | None = None,
    misread_probability: float | None = None,
) -> Iterator[Item]:
    """Yield `count` scenes with a question each.

    Args:
        count: how many items.
        seed: fixes the items together with `split` and the knobs.
        split: `test` has styles of its own: papers, outlines, a texture, and hues that lean the other way.
        grid: rows and columns of places, 1 to 6; each place holds at most one object.
        objects: how many objects, or the fewest and the most, 1 to `grid * grid`.
        cell: pixels of a place, 12 to 96; the image is `grid * cell` pixels square.
        colors: how many colors there are, 2 to 8; the more, the nearer their hues.
        shapes: how many shapes there are, 2 to 6.
        sizes: how many sizes there are, 1 to 3.
        hops: steps that a question takes, 1 to 3. 1: one object by its place, or one count. 2: from one object to
            another beside it or like it. 3: two such steps, or two counts compared.
        jitter: how far objects stand off the middle of their places, as a share of the room there, 0 to 1.
        occlusion: share of an object that a bar or its neighbour may cover, 0 to 0.5; about every other one is covered.
        clutter: thin strokes behind the objects, 0 to 20.
        noise: standard deviation of the pixel noise, in units of the full range, 0 to 1.
        style: `seen` or `held_out` for that of another split; by the split where None.
        misread: looks the teacher of `response` takes for others, `{"red": "orange"}`; p* and the answer stay true.
        misread_probability: chance that the teacher misreads such a look, drawn for each object; where the question
            could not be answered from what it would state, it reads right.
    """
    space = _space(grid, objects, colors, shapes, sizes, hops)
    confused = _confused(misread, misread_probability, space)
    drawing = _drawing(grid, cell, jitter, occlusion, clutter, noise, style)
    kinds = templates(space, hops)
    for content, brush, teacher in streams(count, seed, split):
        asked, scene = kinds[content.integers(len(kinds))](content, space)
        task = {"world": "scenes", "grid": grid, **asked}
        stated = _misread(teacher, task, scene, confused, misread_probability or 0) if confused else scene
        think, said = work_out(task, stated)
        yield Item(
            image=draw(brush, scene, drawing, draw_style(brush, split, style)),
            question=question(task),
            answer=work_out(task, scene)[1],
            perception=canonical(scene),
            stated=canonical(stated),
            think=think,
            concluded=said,
            task=canonical(task),
            columns={"cells": canonical(_cells(scene, space))},
        )


def columns(task: dict[str, Any], answer: str) -> dict[str, Any]:
    """None of this world's own columns belongs to an answer."""
    return {}


def _cells(scene: Sequence[Look], space: Space) -> list[list[str]]:
    """What each place shows, in words, for a stage of kind `contrast`: p* is a list, which says no places of its own."""
    told = [key for key in LOOKS if key in space.telling]
    cells = [["nothing"] * space.grid for _ in range(space.grid)]
    for thing in scene:
        cells[thing["row"] - 1][thing["column"] - 1] = " ".join(str(thing[key]) for key in told)
    return cells


# --- knobs -------------------------------------------------------------------------------------------------------


def _space(grid: Any, objects: Any, colors: Any, shapes: Any, sizes: Any, hops: Any) -> Space:
    """Refuse what cannot be; return what scenes may hold."""
    knobs.whole("grid", grid, 1, MAX_GRID)
    knobs.whole("colors", colors, 2, len(COLORS))
    knobs.whole("shapes", shapes, 2, len(SHAPES))
    knobs.whole("sizes", sizes, 1, len(SIZES))
    knobs.whole("hops", hops, 1, 3)
    fewest, most = _range(objects, grid * grid)
    if hops > 1 and grid == 1:
        raise RecipeError(f"hops: {hops} with grid: 1", "there is no place beside the only one", "hops: 1, or grid: 2 to 6")
    if fewest < hops:
        raise RecipeError(
            f"objects: {objects} with hops: {hops}", "a step leads from one object to another", f"objects: {hops} or more"
        )
    words = {"size": _sizes(sizes), "color": COLORS[:colors], "shape": SHAPES[:shapes]}
    return space_of(grid, (fewest, most), words)


def _sizes(count: int) -> tuple[str, ...]:
    return {1: ("large",), 2: ("small", "large")}.get(count, SIZES)


def _range(objects: Any, places: int) -> tuple[int, int]:
    ends = (objects, objects) if type(objects) is int else objects
    whole = isinstance(ends, list | tuple) and len(ends) == 2 and all(type(end) is int for end in ends)
    if not whole or not 1 <= ends[0] <= ends[1] <= places:
        raise RecipeError(
            f"objects: {objects}",
            f"it has to be a whole number, or the fewest and the most, and there are {places} places",
            f"1 to {places}, or [{min(2, places)}, {places}]",
        )
    return ends[0], ends[1]


def _confused(misread: Any, probability: Any, space: Space) -> dict[str, str]:
    known = {value: key for key in LOOKS for value in sorted({look[key] for look in space.looks})}
    confused: dict[str, str] = knobs.confusion("misread", misread, probability, list(known))
    for shown, read in confused.items():
        if known[shown] != known[read]:
            mixed = f"one is a {known[shown]}, the other a {known[read]}"
            raise RecipeError(f"misread: {shown} for {read}", mixed, f"another {known[shown]} for {shown}")
    return confused


def _drawing(grid: int, cell: Any, jitter: Any, occlusion: Any, clutter: Any, noise: Any, style: Any) -> Drawing:
    knobs.whole("cell", cell, 12, 96)
    knobs.number("jitter", jitter, 0, 1)
    knobs.number("occlusion", occlusion, 0, 0.5)
    knobs.whole("clutter", clutter, 0, 20)
    knobs.number("noise", noise, 0, 1)
    knobs.choice("style", style, (None, *STYLES))
    return Drawing(grid, cell, jitter, occlusion, clutter, noise)


# --- a teacher that misreads -------------------------------------------------------------------------------------


def _misread(
    random: np.random.Generator, task: Mapping[str, Any], scene: list[Look], confused: Mapping[str, str], probability: float
) -> list[Look]:
    """What the teacher states: misread object by object, as long as the question has an answer."""
    stated = list(scene)
    wrong = (random.random((len(scene), len(LOOKS))) < probability).tolist()
    for i, thing in enumerate(scene):
        for is_wrong, key in zip(wrong[i], LOOKS, strict=True):
            if is_wrong and thing[key] in confused:
                kept, stated[i] = stated[i], {**stated[i], key: confused[thing[key]]}
                if solve(task, stated) is None:
                    stated[i] = kept
    return stated
