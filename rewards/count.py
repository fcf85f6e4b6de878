"""How many there are, with credit for coming close, for one kind of object or for several.

Source: counting as a task with a reward of its own in Perception-R1 (arXiv 2504.07954); the credit here is 1 minus the
relative error, so that groups without a right count still differ, and `exact` gives the exact match of R1-V and VLM-R1.
"""

from typing import Any

from rlperc import Completion, Score, reward
from rlperc.words.answers import number
from rlperc.words.response import Where, stated_text
from rlperc.words.structure import read_stated
from rlperc.words.text import normalise

MAX_CLASSES = 200
MAX_CLASS_CHARACTERS = 100

Counts = dict[str, float | None]


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def count(
    completion: Completion,
    answer: str | None = None,
    perception: str | None = None,
    *,
    span: Where = "answer",
    exact: bool = False,
) -> Score | None:
    """max(0, 1 - |stated - gold| / max(gold, 1)), or with `exact` 1 for the right count and else 0.

    The count is read in the span that `span` names, and the gold count in the column of the same name. It is one whole
    number, 0 or more; "3 or 4" and "3.5" are none. Where gold is a JSON object as {"car": 3, "dog": 1}, so is what is
    stated, and the score is the mean over the classes of both. A class that is not stated, or stated though gold has none
    of it, scores 0; stating 0 of a class that gold does not name changes nothing.
    """
    text = stated_text(completion, span)
    truth = perception if span == "perception" else answer
    if truth is None:
        return None
    gold, several = _whole(number(truth)), _read_counts(truth)
    if gold is None and (several is None or None in several.values()):
        return None
    if text is None:
        return Score(0.0, why=f"no {span}")
    if gold is not None:
        stated = _whole(number(text))
        if stated is None:
            return Score(0.0, why="not one whole number")
        return Score(_credit(stated, gold, exact), why="" if stated == gold else f"{stated:g} instead of {gold:g}")
    counts = _read_counts(text)
    if counts is None:
        return Score(0.0, why="not one JSON object of counts")
    return _mean_credit(counts, several or {}, exact)


def _mean_credit(stated: Counts, gold: Counts, exact: bool) -> Score:
    classes = gold.keys() | {name for name, value in stated.items() if value != 0}
    credits = [_credit(stated.get(name), gold.get(name), exact) for name in classes]
    right = sum(credit == 1.0 for credit in credits)
    value = sum(credits) / len(credits) if credits else 1.0
    return Score(value, why="" if right == len(credits) else f"{right} of {len(credits)} classes counted right")


def _credit(stated: float | None, gold: float | None, exact: bool) -> float:
    if stated is None or gold is None:
        return 0.0
    return float(stated == gold) if exact else max(0.0, 1.0 - abs(stated - gold) / max(gold, 1.0))


def _read_counts(text: str) -> Counts | None:
    """The classes of a JSON object and their counts, None for what is no count; None where it is not one such object."""
    value = read_stated(text)
    if not isinstance(value, dict) or len(value) > MAX_CLASSES or any(len(name) > MAX_CLASS_CHARACTERS for name in value):
        return None
    counts = {normalise(name, fold_case=True): _whole(stated) for name, stated in value.items()}
    return counts if len(counts) == len(value) else None


def _whole(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value >= 0 and value == value // 1 else None
