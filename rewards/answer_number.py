"""The stated answer is the gold number, with the gold unit where that has one.

Source: exact-match outcome reward as in DeepSeekMath (arXiv 2402.03300), section 4, with a stated tolerance. Units are
those of the SI Brochure (BIPM, 9th edition), chapters 3 and 4.
"""

from fractions import Fraction

from rlperc import Completion, Score, reward
from rlperc.words.answers import Quantity, read_quantity


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def answer_number(
    completion: Completion, answer: str | None, *, tolerance: float = 0.0, relative_tolerance: float = 0.0
) -> Score | None:
    """1 where `<answer>` holds one number equal to the column `answer`, within either tolerance; else 0.

    Where the gold answer has a unit, the stated one needs one of the same kind: `35 mm` is `3.5 cm`. Units outside the
    table of `rlperc.words.answers` are compared as text.

    Args:
        completion: the response.
        answer: the gold answer, a number with or without a unit.
        tolerance: how far off the number may be, in the unit of the gold answer.
        relative_tolerance: the same as a share of the gold answer.
    """
    gold = read_quantity(str(answer)) if answer is not None else None
    if gold is None:
        return None  # the gold answer is no number, so this row is another reward's
    if completion.answer is None:
        return Score(0.0, why="no answer")
    stated = read_quantity(completion.answer)
    if stated is None:
        return Score(0.0, why="the answer is not one number")
    if stated.dimension != gold.dimension:
        return Score(0.0, why=_units_differ(stated, gold))
    # Decimals as they are written: 0.3 is a tolerance of three tenths, not of the float below it.
    allowed = max(Fraction(str(tolerance)), Fraction(str(relative_tolerance)) * abs(gold.value))
    if abs(stated.value * stated.factor / gold.factor - gold.value) <= allowed:
        return Score(1.0)
    return Score(0.0, why=f"{_written(stated)} instead of {_written(gold)}")


def _units_differ(stated: Quantity, gold: Quantity) -> str:
    if not stated.unit:
        return f"no unit, where the gold answer has {gold.unit}"
    return f"the unit {stated.unit[:20]} instead of {gold.unit or 'none'}"


def _written(quantity: Quantity) -> str:
    return f"{float(quantity.value):g} {quantity.unit}".strip()
