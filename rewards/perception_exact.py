"""The whole perception was read right: a_p as it is measured.

Source: perception accuracy a_p of arXiv 2605.29496, section 1.
"""

from rlperc import Completion, Score, reward
from rlperc.words.structure import MAX_CHARACTERS, read_json, read_stated, same_value
from rlperc.worlds import in_order


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def perception_exact(completion: Completion, perception: str | None, task: str | None = None) -> Score | None:
    """1 where `<perception>` says the same as the column `perception`: as JSON where that is JSON, else as text.

    Lists are the same in any order where a world's `task` says so: edges, objects. Text is the same however it is spaced.
    A blank `perception` is no gold, so its row is skipped.
    """
    if perception is None or not perception.strip():
        return None
    if completion.perception is None:
        return Score(0.0, why="no perception")
    if len(completion.perception) > max(MAX_CHARACTERS, 2 * len(perception)):
        return Score(0.0, why="the perception is too long")
    gold, stated = read_json(in_order(task, perception)), read_stated(in_order(task, completion.perception))
    same = same_value(stated, gold) if gold is not None else completion.perception.split() == perception.split()
    return Score(1.0) if same else Score(0.0, why="the perception differs")
