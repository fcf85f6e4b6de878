"""The share of a grid's cells that were read right.

Source: the perception term a_p of arXiv 2605.29496 (R = alpha * a_p + (1 - alpha) * a), with credit for each cell
so that groups without a perfect reading still differ.
"""

from rlperc import Completion, Score, reward
from rlperc.words.structure import read_grid, same_cell, shape


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def perception_cells(completion: Completion, perception: str | None) -> Score | None:
    """Cells of the stated grid that equal the column `perception` (JSON, a list of rows), over all cells."""
    gold = read_grid(perception) if perception is not None else None
    if gold is None:
        return None
    if completion.perception is None:
        return Score(0.0, why="no perception")
    stated = read_grid(completion.perception)
    if stated is None:
        return Score(0.0, why="the perception is not a grid in JSON")
    if shape(stated) != shape(gold):
        return Score(0.0, why="the grid has the wrong shape: {}x{}".format(*shape(stated)))
    cells = [(s, g) for left, right in zip(stated, gold, strict=True) for s, g in zip(left, right, strict=True)]
    right = sum(same_cell(s, g) for s, g in cells)
    return Score(right / len(cells), why="" if right == len(cells) else f"{len(cells) - right} of {len(cells)} cells misread")
