"""The answer follows from what the model says it saw, whether or not it saw right: reasoning by itself.

Source: the reasoning half of the split in arXiv 2605.29496, judged on the model's own perception by the world's
solver. With weight 0 it is the probe that reward coupling is measured against.
"""

from rlperc import Completion, Score, reward
from rlperc.words.answers import number
from rlperc.words.structure import read_json

MAX_WORD = 1000  # characters of an answer that is not a number


@reward(range=(0.0, 1.0), credits="reasoning", bounded=True)
def answer_follows(completion: Completion, task: str | None) -> Score | None:
    """1 where the solver gets the stated answer from the stated perception; `task` comes with a world's rows."""
    from rlperc.worlds import solve

    formal = read_json(task) if task is not None else None
    if task is None or not isinstance(formal, dict) or "world" not in formal:
        return None  # the row is of no world
    if completion.perception is None or completion.answer is None:
        return Score(0.0, why="no perception or no answer")
    solved = solve(task, completion.perception)
    if solved is None:
        return Score(0.0, why="the perception does not describe this kind of image")
    return Score(1.0) if _same(completion.answer, solved) else Score(0.0, why=f"the perception gives {solved}")


def _same(stated: str, solved: str) -> bool:
    value = number(solved)
    if value is not None:
        return number(stated) == value
    return len(stated) < MAX_WORD and stated.casefold() == solved.casefold()
