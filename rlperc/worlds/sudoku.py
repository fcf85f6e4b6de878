"""Pictures of Sudoku grids, to be read and then filled in without a guess.

After the Sudoku task of arXiv 2605.29496, whose pictures are 369 pixels square and whose test rows show 16 blanks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from rlperc.words.structure import canonical
from rlperc.words.text import label
from rlperc.worlds import About, Item, Split, knobs
from rlperc.worlds.streams import streams
from rlperc.worlds.styles import STYLES, Color, Floats, Style, blend_in, draw_style, filled, glyph, to_image
from rlperc.worlds.sudoku_rules import BOX_SIDES, MOST_BLANKS, Cells, Filled, Look, complete, digits_of, fill, layout, puzzle

USUAL_BLANKS = {4: 6, 9: 16}
BLANK_MARKS = ("0", "-", ".")

ABOUT = About(
    summary="Sudoku grids, 9x9 or 4x4, that can be filled in without guessing",
    perception="the grid as a JSON list of rows, with 0 for a blank",
    answer="the full grid as a JSON list of rows",
    answer_reward="sudoku_valid",
    perception_reward="perception_cells",
    settings={
        "small": {"size": 4, "blanks": 5, "cell": 16},
        "paper": {"size": 9, "blanks": 16, "cell": 41},
        "hard": {"size": 9, "blanks": 36, "cell": 41, "noise": 0.15},
    },
)


def items(
    count: int,
    seed: int,
    split: Split,
    *,
    size: int = 9,
    blanks: int | None = None,
    cell: int = 41,
    noise: float = 0.04,
    style: str | None = None,
    misread: Mapping[int | str, int] | None = None,
    misread_probability: float | None = None,
) -> Iterator[Item]:
    """Yield `count` grids to fill in.

    Args:
        count: how many items.
        seed: fixes the items together with `split` and the knobs.
        split: `test` has fonts and papers of its own.
        size: rows and columns of the grid, 9 or 4.
        blanks: cells left blank, 1 to 50 of a 9x9 grid (16 where None), 1 to 10 of a 4x4 grid (6 where None).
        cell: side of a cell in pixels, 10 to 64; the image is `cell * size` pixels square.
        noise: standard deviation of the pixel noise, in units of the full range, 0 to 1.
        style: `seen` or `held_out`, whatever the split.
        misread: what the teacher of `response` misreads, `{6: 8, 7: 0}`, 0 for a blank; p* and the answer stay true.
        misread_probability: chance that the teacher misreads such a cell. It does so only where what it then states can
            still be filled in without guessing: a digit can mostly be overlooked, `{6: 0}`, and hardly ever be another one.
    """
    blanks = _checked(size, blanks, cell, noise, style)
    confused = knobs.confusion("misread", misread, misread_probability, range(size + 1))
    for content, brush, teacher in streams(count, seed, split):
        clues, solved = puzzle(content, size, blanks)
        wrong = teacher.random(len(clues)) < (misread_probability or 0)
        stated, said = _misread(clues, solved, confused, np.flatnonzero(wrong).tolist())
        yield Item(
            image=_draw(brush, clues, cell, draw_style(brush, split, style), noise),
            question=_question(size),
            answer=_written(solved.cells),
            perception=_written(clues),
            stated=_written(stated),
            think=_explain(stated, said.looks),
            concluded=_written(said.cells),
            task=canonical({"world": "sudoku", "size": size}),
        )


def _checked(size: Any, blanks: Any, cell: Any, noise: Any, style: Any) -> int:
    """Refuse knobs that cannot be; return how many blanks there are to be."""
    knobs.choice("size", size, tuple(BOX_SIDES))
    if blanks is not None:
        knobs.whole(f"blanks of a {size}x{size} grid", blanks, 1, MOST_BLANKS[size])
    knobs.whole("cell", cell, 10, 64)
    knobs.number("noise", noise, 0, 1)
    knobs.choice("style", style, (None, *STYLES))
    return USUAL_BLANKS[size] if blanks is None else int(blanks)


def _question(size: int) -> str:
    box = BOX_SIDES[size]
    return f"Fill in the Sudoku: each row, each column and each {box}x{box} box has each digit from 1 to {size} once."


# --- answers -----------------------------------------------------------------------------------------------------


def solve(task: dict[str, Any], perception: Any) -> str | None:
    """The full grid for the stated clues; None where they are no grid of the right size, or it cannot be filled in.

    A blank is 0, "-", ".", "" or null, a digit a number or a string, and a row may be one string.
    """
    clues = _read(perception, task["size"])
    full = None if clues is None else complete(clues)
    return None if full is None else _written(full)


def _read(value: Any, size: int) -> Cells | None:
    if not isinstance(value, list) or len(value) != size:
        return None
    if not all(isinstance(row, list | str) and len(row) == size for row in value):
        return None
    cells = [_digit(cell, size) for row in value for cell in row]
    return None if -1 in cells else cells


def _digit(cell: Any, size: int) -> int:
    """1 to `size`; 0 for a blank; -1 for anything else."""
    text = label(cell)
    if cell is None or cell == "" or text in BLANK_MARKS:
        return 0
    return int(text) if text in tuple("123456789")[:size] else -1


def _written(cells: Cells) -> str:
    side = math.isqrt(len(cells))
    return canonical([cells[start : start + side] for start in range(0, len(cells), side)])


def _misread(clues: Cells, solved: Filled, confused: Mapping[int, int], wrong: list[int]) -> tuple[Cells, Filled]:
    """What a teacher states that misreads some cells, and how it fills that in; the cells where it cannot, it reads right."""
    stated = clues
    for cell in wrong:
        taken_for = confused.get(clues[cell], clues[cell])
        if taken_for != clues[cell]:
            tried = [*stated[:cell], taken_for, *stated[cell + 1 :]]
            filled_in = fill(tried)
            if filled_in is not None:
                stated, solved = tried, filled_in
    return stated, solved


def _explain(clues: Cells, looks: list[Look]) -> str:
    """A line for each look at a blank: what its row, column and box hold by then, and what is left for it."""
    side = math.isqrt(len(clues))
    places, units, _ = layout(side)
    shown, lines = [str(digit) if digit else "" for digit in clues], []
    for cell, digits in looks:
        row, column, box = (" ".join([shown[i] for i in units[unit] if shown[i]]) or "-" for unit in places[cell])
        left = digits_of(digits)
        name = f"r{cell // side + 1}c{cell % side + 1}"
        lines.append(f"{name}: row {row}, column {column}, box {box} -> {' '.join(map(str, left))}")
        if len(left) == 1:
            shown[cell] = str(left[0])
    return "\n".join(lines) or "no blanks"


# --- images ------------------------------------------------------------------------------------------------------


def _draw(random: np.random.Generator, cells: Cells, cell: int, style: Style, noise: float) -> Image.Image:
    """Draw a grid: in each square of `cell` pixels a digit, or none, and its part of the rules."""
    side = math.isqrt(len(cells))
    # The text takes the middle of its glyph's square, which may be larger than the cell.
    windows = _windows(style.font, int(random.uniform(0.95, 1.1) * cell), cell)
    top, left = (random.integers(places, size=(side, side)) for places in windows.shape[1:3])
    ink = windows[np.reshape(cells, (side, side)), top, left]
    canvas = _ruled(side, cell, style.paper, style.line).copy()
    blend_in(canvas, ink.swapaxes(1, 2).reshape(side * cell, side * cell), style.ink)
    return to_image(canvas, random, noise)


@functools.lru_cache(maxsize=128)
def _windows(font: str, square: int, cell: int) -> Floats:
    """Each digit, 0 being a blank, at each place in a cell. Shape: (10, places down, places across, cell, cell).

    Args:
        font: of a style.
        square: side of the square of a digit's glyph, up to 1.1 times `cell`.
        cell: side of a cell, in which a digit is up to a tenth of that off the middle, and on no rule.
    """
    glyphs = np.stack([glyph(str(digit), font, square) for digit in range(1, 10)])
    # Fonts have their digits off the middle of a line: centred is what any of them has ink on.
    down, across = (np.flatnonzero(glyphs.any(axis=others)) for others in ((0, 2), (0, 1)))
    ink = glyphs[:, down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    free = [cell - extent for extent in ink.shape[1:]]
    room = [min(2 * (cell // 10), pixels - 2 * _thick(cell)) for pixels in free]
    digits = np.zeros((10, cell + room[0], cell + room[1]), dtype=np.float32)
    top, left = ((pixels + more) // 2 for pixels, more in zip(free, room, strict=True))
    digits[1:, top : top + ink.shape[1], left : left + ink.shape[2]] = ink
    return sliding_window_view(digits, (cell, cell), axis=(1, 2))


@functools.lru_cache(maxsize=16)
def _ruled(side: int, cell: int, paper: Color, line: Color) -> Floats:
    """The empty grid. Rules keep within the cells: thick ones on both sides of a box's edge, thin ones on one of a cell's."""
    box, thick, thin = BOX_SIDES[side], _thick(cell), max(1, cell // 32)
    across = np.zeros((side, cell), dtype=np.float32)
    across[:, :thin] = 1
    across[::box, :thick] = 1
    across[box - 1 :: box, -thick:] = 1
    canvas = filled(side * cell, side * cell, paper)
    blend_in(canvas, np.maximum(across.reshape(-1, 1), across.reshape(1, -1)), line)
    canvas.flags.writeable = False
    return canvas


def _thick(cell: int) -> int:
    """Pixels of a box's edge in each of the cells beside it."""
    return max(1, cell // 16)
