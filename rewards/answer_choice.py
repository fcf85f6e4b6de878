"""The response names the right one of several choices, by its letter or by its text, and no other.

Source: exact match on multiple-choice questions, as in the perception stage of arXiv 2605.20177; what must not pay is in
Visual-RFT#79 (all choices listed) and Visual-RFT#176 (an empty answer).
"""

from rlperc import Completion, Score, reward
from rlperc.words.answers import read_choice


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def answer_choice(completion: Completion, answer: str | None, choices: list[str] | None = None) -> Score | None:
    """1 where `<answer>` names the choice that the column `answer` names, and only that; else 0.

    Args:
        completion: the response.
        answer: the gold choice, a letter or the text of one of `choices`.
        choices: the texts of the choices in the order of their letters; without them answers are letters alone.
    """
    if choices is not None and (not isinstance(choices, list) or not choices or not all(isinstance(c, str) for c in choices)):
        return None
    gold = read_choice(str(answer), choices) if answer is not None else None
    if gold is None:
        return None
    if not completion.answer:
        return Score(0.0, why="no answer")
    stated = read_choice(completion.answer, choices)
    if stated is None:
        return Score(0.0, why="the answer is not one of the choices alone")
    return Score(1.0) if stated == gold else Score(0.0, why=f"{_letter(stated)} instead of {_letter(gold)}")


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"choice {index + 1}"
