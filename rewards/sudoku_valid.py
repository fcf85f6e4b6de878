"""A solved Sudoku that keeps the clues in the image.

Source: the Sudoku task of arXiv 2605.29496, whose rows hold the clue grid and no solution: any grid is right that agrees with
the clues and repeats no digit in a row, a column or a box.
"""

from typing import Any

from rlperc import Completion, Score, reward
from rlperc.words.structure import read_stated
from rlperc.words.text import label

BOX_SIDES = {4: 2, 9: 3}  # the side of a grid, and of its boxes
DIGITS = ("1", "2", "3", "4", "5", "6", "7", "8", "9")
BLANKS = ("0", "-", ".")

Grid = list[list[int]]


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def sudoku_valid(completion: Completion, perception: str | None) -> Score | None:
    """1 where `<answer>` is a full grid with the clues of the column `perception` and no digit twice in any unit.

    Both are JSON, a list of 9 rows of 9, or of 4 rows of 4. A cell is a digit as a number or a string; a row of the answer
    may also be one string of digits. A clue grid marks a blank with 0, "-", ".", "" or null; one that breaks the rules
    itself has no solution, and its row is skipped.
    """
    clues = _read_grid(read_stated(perception), blanks=True) if perception is not None else None
    if clues is None or _repeats(clues):
        return None
    if completion.answer is None:
        return Score(0.0, why="no answer")
    stated = _read_grid(read_stated(completion.answer), blanks=False)
    if stated is None or len(stated) != len(clues):
        return Score(0.0, why=f"the answer is not a full {len(clues)}x{len(clues)} grid in JSON")
    cells = [pair for row, given in zip(stated, clues, strict=True) for pair in zip(row, given, strict=True)]
    changed = sum(clue not in (0, cell) for cell, clue in cells)
    if changed:
        return Score(0.0, why=f"{changed} {'clue' if changed == 1 else 'clues'} changed")
    repeated = _repeats(stated)
    return Score(0.0, why=f"{repeated} repeats a digit") if repeated else Score(1.0)


def _read_grid(value: Any, *, blanks: bool) -> Grid | None:
    """A square grid of digits, 0 for a blank; None for anything else, and for blanks where there must be none."""
    if not isinstance(value, list) or len(value) not in BOX_SIDES:
        return None
    side = len(value)
    rows = [list(row) if isinstance(row, str) else row for row in value]
    if not all(isinstance(row, list) and len(row) == side for row in rows):
        return None
    grid = [[_digit(cell, side) for cell in row] for row in rows]
    return grid if all(digit > 0 or (digit == 0 and blanks) for row in grid for digit in row) else None


def _digit(cell: Any, side: int) -> int:
    """1 to `side`; 0 for a blank; -1 for anything else."""
    text = label(cell)
    if text in BLANKS or cell is None or cell == "":
        return 0
    return int(text) if text in DIGITS[:side] else -1


def _repeats(grid: Grid) -> str:
    """The first row, column or box that holds a digit twice, blanks aside, counted from 1; empty where none does."""
    side, box = len(grid), BOX_SIDES[len(grid)]
    places = range(side)
    units = {f"row {i + 1}": grid[i] for i in places}
    units |= {f"column {i + 1}": [row[i] for row in grid] for i in places}
    for i in places:
        top, left = i // box * box, i % box * box
        units[f"box {i + 1}"] = [grid[top + j // box][left + j % box] for j in places]
    for name, unit in units.items():
        digits = [digit for digit in unit if digit]
        if len(set(digits)) < len(digits):
            return name
    return ""
