"""Sudoku by itself: full grids, clues that need no guessing, and filling in the blanks. Sides of 9 and of 4.

A grid is the list of its cells in reading order, 0 for a blank. Its units are the rows, then the columns, then the boxes;
the digits of a unit are the bits of a number, bit 1 for a 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOX_SIDES = {4: 2, 9: 3}  # the side of a grid, and of its boxes
# Dug until no cell more could be, none of 3,000 grids was left with fewer than 10 blanks, none of 1,500 with fewer than 51.
MOST_BLANKS = {4: 10, 9: 50}
BASES = 256  # grids of each side, which all others are made from
MAX_GRIDS = 100  # until one is found that has as many blanks
MAX_STEPS = 10_000  # digits that `complete` tries, a tenth of a second; a puzzle of this world takes one for each blank

Cells = list[int]
Digits = int
"""A set of digits, as bits."""


class Look(NamedTuple):
    """At a blank: the digits that its row, its column and its box leave it. Where that is one, it is filled in."""

    cell: int
    left: Digits


class Filled(NamedTuple):
    """A grid filled in without guessing."""

    looks: list[Look]
    cells: Cells


class Layout(NamedTuple):
    """Of a grid of some side."""

    places: list[tuple[int, int, int]]
    """For each cell: its row, its column and its box, as numbers of units."""
    units: list[list[int]]
    """For each unit: its cells in reading order."""
    every: Digits


@functools.cache
def layout(side: int) -> Layout:
    """The units of a grid, of 4 or 9 rows."""
    box = BOX_SIDES[side]
    places: list[tuple[int, int, int]] = []
    units: list[list[int]] = [[] for _ in range(3 * side)]
    for cell in range(side * side):
        row, column = divmod(cell, side)
        mine = (row, side + column, 2 * side + row // box * box + column // box)
        places.append(mine)
        for unit in mine:
            units[unit].append(cell)
    return Layout(places, units, (2 << side) - 2)


def digits_of(digits: Digits) -> list[int]:
    """A set of digits, in ascending order."""
    return [digit for digit in range(1, digits.bit_length()) if digits >> digit & 1]


# --- making -------------------------------------------------------------------------------------------------------


def puzzle(random: np.random.Generator, side: int, blanks: int) -> tuple[Cells, Filled]:
    """A grid of clues that has one solution, and how to find it without guessing.

    Args:
        random: drawn from as often as it takes.
        side: 4 or 9.
        blanks: how many cells to leave blank, 1 to `MOST_BLANKS[side]`.
    """
    for _ in range(MAX_GRIDS):
        clues = _dig(random, full_grid(random, side), blanks)
        filled = fill(clues)
        if clues.count(0) == blanks and filled is not None:
            return clues, filled
    raise RuntimeError(f"of {MAX_GRIDS} grids of side {side} none had {blanks} blanks")


def full_grid(random: np.random.Generator, side: int) -> Cells:
    """A solved grid: one of some with its digits renamed, its bands, stacks and the lines in them put in another order."""
    box, bases = BOX_SIDES[side], _bases(side)
    rows, columns = _shuffled_lines(random, box)[:, None], _shuffled_lines(random, box)
    grid = random.permutation(side)[bases[random.integers(len(bases))][rows, columns] - 1] + 1
    cells: Cells = (grid if random.integers(2) else grid.T).ravel().tolist()
    return cells


@functools.cache  # to search for each grid anew would take half of a row's time
def _bases(side: int) -> NDArray[np.int64]:
    """Solved grids, the same ones always: many, since renaming and reordering keep which three digits stand in a box's row.

    Shape: (BASES, side, side).
    """
    random = np.random.default_rng(0)
    found: list[Cells] = []
    while len(found) < BASES:
        full = complete(_diagonal(random, side))
        if full is not None:
            found.append(full)
    return np.reshape(found, (BASES, side, side))


def _diagonal(random: np.random.Generator, side: int) -> Cells:
    """A grid with only the boxes on its diagonal, which do not meet."""
    cells = [0] * (side * side)
    for box in range(0, side, BOX_SIDES[side] + 1):
        for cell, digit in zip(layout(side).units[2 * side + box], random.permutation(side).tolist(), strict=True):
            cells[cell] = digit + 1
    return cells


def _shuffled_lines(random: np.random.Generator, box: int) -> NDArray[np.int64]:
    """The lines of a grid, those of a band still next to each other."""
    within = random.random((box, box)).argsort(axis=1)
    return (random.permutation(box)[:, None] * box + within).ravel()


def _dig(random: np.random.Generator, full: Cells, blanks: int) -> Cells:
    """Blank cells in a random order, each only where `fill` still gets it all back; fewer than `blanks` where no more can be."""
    places, _, every = layout(math.isqrt(len(full)))
    cells, dug = list(full), 0
    used = [every] * (3 * math.isqrt(len(full)))
    for cell in random.permutation(len(full)).tolist():
        row, column, box = places[cell]
        digit = 1 << full[cell]
        cells[cell] = 0
        _toggle(used, places[cell], digit)
        # The first saves the time of the second: what is a single at once can be put back at once.
        if used[row] | used[column] | used[box] == every ^ digit or fill(cells) is not None:
            dug += 1
            if dug == blanks:
                break
        else:
            cells[cell] = full[cell]
            _toggle(used, places[cell], digit)
    return cells


# --- filling in ---------------------------------------------------------------------------------------------------


def fill(clues: Cells) -> Filled | None:
    """Look at the blanks in reading order, round after round, and fill in those that have one digit left.

    None where that does not fill all of them: the clues break the rules, have no solution, or need more than this.
    A grid that is filled in so has no other solution.
    """
    used = used_digits(clues)
    if used is None:
        return None
    places, _, every = layout(math.isqrt(len(clues)))
    cells, looks = list(clues), []
    blanks = [cell for cell, digit in enumerate(clues) if not digit]
    while blanks:
        rest = []
        for cell in blanks:
            row, column, box = places[cell]
            left = every & ~(used[row] | used[column] | used[box])
            looks.append(Look(cell, left))
            if not left:
                return None
            if left.bit_count() > 1:
                rest.append(cell)
                continue
            cells[cell] = left.bit_length() - 1
            _toggle(used, places[cell], left)
        if len(rest) == len(blanks):
            return None
        blanks = rest
    return Filled(looks, cells)


def used_digits(cells: Cells) -> list[Digits] | None:
    """The digits of each unit; None where a unit has one twice."""
    side = math.isqrt(len(cells))
    used = [0] * (3 * side)
    for digit, units in zip(cells, layout(side).places, strict=True):
        if digit:
            for unit in units:
                if used[unit] >> digit & 1:
                    return None
                used[unit] |= 1 << digit
    return used


def complete(clues: Cells) -> Cells | None:
    """Fill in the blanks, by trying where it must; None where there is no way or none within `MAX_STEPS`.

    Of several solutions always the same one.
    """
    used = used_digits(clues)
    if used is None:
        return None
    cells = list(clues)
    blanks = [cell for cell, digit in enumerate(clues) if not digit]
    return cells if _search(cells, used, blanks, iter(range(MAX_STEPS))) else None


def _search(cells: Cells, used: list[Digits], blanks: list[int], steps: Iterator[int]) -> bool:
    """Fill in `cells`, the blank with the fewest digits left first; `steps` says how many more may be tried."""
    if not blanks:
        return True
    places, _, every = layout(math.isqrt(len(cells)))
    taken = [used[row] | used[column] | used[box] for row, column, box in map(places.__getitem__, blanks)]
    most = max(taken, key=int.bit_count)
    cell = blanks[taken.index(most)]
    others = [blank for blank in blanks if blank != cell]
    for digit in digits_of(every & ~most):
        if next(steps, None) is None:
            return False
        cells[cell] = digit
        _toggle(used, places[cell], 1 << digit)
        if _search(cells, used, others, steps):
            return True
        _toggle(used, places[cell], 1 << digit)
    return False


def _toggle(used: list[Digits], units: tuple[int, int, int], digit: Digits) -> None:
    """Put a digit into a cell's units, or take it out."""
    for unit in units:
        used[unit] ^= digit
