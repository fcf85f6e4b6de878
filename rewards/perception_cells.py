"""The share of a grid's cells that were read right; the others are marked.

Source: the perception term a_p of arXiv 2605.29496 (R = alpha * a_p + (1 - alpha) * a), with credit for each cell
so that groups without a perfect reading still differ. Marking what was read wrong, for its tokens to be penalised:
Perceval, CVPR 2026.
"""

from itertools import chain

from rlperc import Completion, Score, reward
from rlperc.reward.contract import MAX_RANGES, Ranges
from rlperc.words.response import find_span
from rlperc.words.structure import cell_spans, read_grid, same_cell, shape


@reward(range=(0.0, 1.0), credits="perception", bounded=True, marks=True)
def perception_cells(completion: Completion, perception: str | None) -> Score | None:
    """Cells of the stated grid that equal the column `perception` (JSON, a list of rows), over all cells.

    Marks each misread cell as wrong; or all that the perception says, where it is no grid of that shape or more than 1,000
    cells are misread.
    """
    gold = read_grid(perception) if perception is not None else None
    if gold is None:
        return None
    if completion.perception is None:
        return Score(0.0, why="no perception")
    stated = read_grid(completion.perception)
    if stated is None:
        return Score(0.0, why="the perception is not a grid in JSON", wrong=_everything(completion))
    if shape(stated) != shape(gold):
        why = "the grid has the wrong shape: {}x{}".format(*shape(stated))
        return Score(0.0, why=why, wrong=_everything(completion))
    cells = zip(chain.from_iterable(stated), chain.from_iterable(gold), strict=True)
    right = [same_cell(s, g) for s, g in cells]
    misread = right.count(False)
    why = f"{misread} of {len(right)} cells misread" if misread else ""
    return Score(right.count(True) / len(right), why=why, wrong=_misread(completion, right))


def _everything(completion: Completion) -> Ranges:
    span = find_span(completion.text, completion.tags.perception)
    return ((span.start, span.end),) if span.start < span.end else ()


def _misread(completion: Completion, right: list[bool]) -> Ranges:
    if right.count(False) > MAX_RANGES:
        return _everything(completion)
    span = find_span(completion.text, completion.tags.perception)
    cells = cell_spans(completion.text[span.start : span.end])
    return tuple((span.start + a, span.start + b) for (a, b), is_right in zip(cells, right, strict=True) if not is_right)
