"""The stated answer is the gold answer, as text.

Source: exact match after normalisation, as SQuAD's evaluation (arXiv 1606.05250) scores short answers; articles
and inner punctuation are kept here.
"""

from rlperc import Completion, Score, reward
from rlperc.words.answers import MAX_ANSWER_CHARACTERS, plain_text


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def answer_exact(completion: Completion, answer: str | None) -> Score | None:
    """1 where `<answer>` and the column `answer` are the same text, else 0.

    The same: after Unicode NFKC and case folding, with runs of whitespace as one space, and without quotes, stars and
    `.,:;…` around the whole. An empty text equals nothing.
    """
    gold = plain_text(str(answer)) if answer is not None else ""
    if not gold:
        return None
    if not completion.answer:
        return Score(0.0, why="no answer")
    if len(completion.answer) > max(MAX_ANSWER_CHARACTERS, 2 * len(gold)):
        return Score(0.0, why="the answer is too long")
    return Score(1.0) if plain_text(completion.answer) == gold else Score(0.0, why="the answer differs")
