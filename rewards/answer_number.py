"""The stated answer is the gold number.

Source: exact-match outcome reward as in DeepSeekMath (arXiv 2402.03300), section 4, with a stated tolerance.
"""

from rlperc import Completion, Score, reward
from rlperc.words.answers import number


@reward(range=(0.0, 1.0), credits="outcome")
def answer_number(
    completion: Completion, answer: str, *, tolerance: float = 0.0, relative_tolerance: float = 0.0
) -> Score | None:
    """1 where `<answer>` holds one number equal to the column `answer`, within either tolerance; else 0."""
    gold = number(str(answer))
    if gold is None:
        return None  # the gold answer is no number, so this row is another reward's
    if completion.answer is None:
        return Score(0.0, why="no answer")
    stated = number(completion.answer)
    if stated is None:
        return Score(0.0, why="the answer is not one number")
    if abs(stated - gold) <= max(tolerance, relative_tolerance * abs(gold)):
        return Score(1.0)
    return Score(0.0, why=f"{stated:g} instead of {gold:g}")
