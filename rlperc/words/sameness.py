"""When two answers to mathematics are the same, in exact arithmetic.

The rules are those of math-verify 0.9 (`verify`): numbers and expressions agree where their difference is zero, decimals
where they agree rounded to six places, `5%` agrees with 5 and with 0.05, sets without regard to order and tuples with it.
Wherever rounding inside sympy could decide, the question is left open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from rlperc.words.exact import Exact, NotExactError, add, as_fraction, coefficients, estimate, letters, negate, same
from rlperc.words.forms import SETS, Answer, Equation, Group, Union, Word, position
from rlperc.words.latex import Value

_PLACES = 6
# Differences of this size are beyond what rounding, to six places or inside floating point, can hide.
_ROUNDING = Fraction(2, 10**_PLACES)
_NOISE = 1e-9
_VISIBLE = 1e-6
# Where letters stand for small numbers, for large ones and for negative ones: not every expression is real everywhere.
_SCALES = (1.0, 17.0, -1.0)


def same_answer(gold: Answer, stated: Answer) -> bool | None:
    """Whether the stated answer is the gold answer; None where that takes more than exact arithmetic to tell."""
    try:
        return _same(gold, stated)
    except (NotExactError, ArithmeticError):
        return None


def _same(gold: Answer, stated: Answer) -> bool | None:
    if isinstance(gold, Equation) and isinstance(stated, Equation):
        return _same_equation(gold, stated)
    if isinstance(stated, Equation):
        stated = stated.right
    elif isinstance(gold, Equation):
        if not gold.name:
            return None
        gold = gold.right
    if isinstance(gold, Value) and isinstance(stated, Value):
        return _same_value(gold, stated)
    if isinstance(gold, Word) or isinstance(stated, Word):
        return _same_word(gold, stated)
    if isinstance(gold, Union) or isinstance(stated, Union):
        return _same_union(gold, stated)
    groups = (Group("{}", (answer,)) if isinstance(answer, Value) else answer for answer in (gold, stated))
    return _same_group(*(group for group in groups if isinstance(group, Group)))


def _same_equation(gold: Equation, stated: Equation) -> bool | None:
    if not isinstance(gold.right, Value) or not isinstance(stated.right, Value):
        return None
    if (gold.is_chain and not gold.name) or (stated.is_chain and not stated.name):
        return None
    sides = (gold.left, gold.right, stated.left, stated.right)
    if any(side.has_decimal or side.kind in ("percent", "infinity") for side in sides):
        return None
    difference = add(gold.left.exact, negate(gold.right.exact))
    other = add(stated.left.exact, negate(stated.right.exact))
    if same(difference, other) or same(difference, negate(other)):
        return True
    # From here on math-verify solves both.
    if gold.name and gold.name == stated.name and gold.name not in letters(gold.right.exact) | letters(stated.right.exact):
        return _same_value(gold.right, stated.right)
    return False if _leaves(difference, other) else None


def _leaves(difference: Exact, other: Exact) -> bool:
    """Whether some point where the one is zero is surely none where the other is."""
    for letter in sorted(letters(difference)):
        zero = _zero(coefficients(difference, letter))
        polynomial = coefficients(other, letter)
        if zero is None or polynomial is None:
            continue
        terms = [estimate(coefficient) * zero**power for power, coefficient in enumerate(polynomial)]
        return abs(sum(terms)) > _VISIBLE * max(1.0, *map(abs, terms))
    return False


def _zero(polynomial: list[Exact] | None) -> float | None:
    """A zero of a linear or quadratic polynomial, real and not near another."""
    if polynomial is None or len(polynomial) not in (2, 3):
        return None
    c, b, a = [*map(estimate, polynomial), 0.0][:3]
    if len(polynomial) == 2:
        return -c / b
    discriminant = b * b - 4 * a * c
    return (-b - math.sqrt(discriminant)) / (2 * a) if discriminant > _VISIBLE * max(1.0, b * b) else None


def _same_word(gold: Answer, stated: Answer) -> bool | None:
    if isinstance(gold, Word) and isinstance(stated, Word):
        return gold.text == stated.text
    other = stated if isinstance(gold, Word) else gold
    if isinstance(other, Value) and (other.kind in ("symbol", "infinity") or not letters(other.exact)):
        return False
    return None  # letters side by side may spell the word


def _same_group(gold: Group, stated: Group) -> bool | None:
    if gold.name and stated.name and gold.name != stated.name:
        return None
    gold_is_set, stated_is_set = gold.brackets in SETS, stated.brackets in SETS
    if not gold_is_set or not stated_is_set:
        # A tuple agrees with a set as it stands, an open interval with a pair; other intervals only with their like.
        kinds = {group.brackets for group in (gold, stated) if group.brackets not in SETS}
        if len(kinds) > 1 or (kinds != {"()"} and (gold_is_set or stated_is_set)):
            return False
    if len(gold.items) != len(stated.items):
        return False if all(map(_is_plain, (*gold.items, *stated.items))) else None
    if not gold_is_set:
        return _all_same(gold.items, stated.items)
    if len(gold.items) == 1:
        return _same_value(gold.items[0], stated.items[0])
    if any(item.kind == "infinity" for item in stated.items):
        return False
    if not all(map(_is_plain, (*gold.items, *stated.items))):
        return None
    return _all_same(_in_order(gold.items), _in_order(stated.items))


def _is_plain(item: Value) -> bool:
    return item.kind == "infinity" or not letters(item.exact)


def _in_order(items: Sequence[Value]) -> list[Value]:
    return sorted(items, key=lambda item: estimate(item.exact))


def _all_same(gold: Sequence[Value], stated: Sequence[Value]) -> bool | None:
    verdicts = [_same_value(left, right) for left, right in zip(gold, stated, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _same_union(gold: Answer, stated: Answer) -> bool | None:
    pieces, others = _pieces(gold), _pieces(stated)
    if not pieces or not others:
        return None
    if [piece.brackets for piece in pieces] != [piece.brackets for piece in others]:
        return False
    return _all_same([item for piece in pieces for item in piece.items], [item for piece in others for item in piece.items])


def _pieces(answer: Answer) -> list[Group]:
    """Intervals in order, with something between each and the next: then there is one way to write them. Else empty."""
    parts = answer.parts if isinstance(answer, Union) else (answer,) if isinstance(answer, Group) else ()
    if any(len(part.items) != 2 or part.brackets in SETS or any(item.has_decimal for item in part.items) for part in parts):
        return []
    placed = [(position(part.items[0]), position(part.items[1]), part) for part in parts]
    placed.sort(key=lambda piece: piece[:2])
    if not all(low < high for low, high, _ in placed):
        return []
    for (_, end, first), (start, _, second) in pairwise(placed):
        leaves_a_point = first.brackets[1] == ")" and second.brackets[0] == "("
        if start - end < _NOISE and not (leaves_a_point and same(first.items[1].exact, second.items[0].exact)):
            return []
    return [part for _, _, part in placed]


def _same_value(gold: Value, stated: Value) -> bool | None:
    if "percent" in (gold.kind, stated.kind):
        return _same_percentage(gold, stated)
    if "infinity" in (gold.kind, stated.kind):
        return gold.kind == stated.kind and same(gold.exact, stated.exact)
    equal = same(gold.exact, stated.exact)
    if "symbol" in (gold.kind, stated.kind):
        # Compared by name: `x` and `1x` are not the same to math-verify.
        return equal if gold.kind == stated.kind or not equal else None
    constant = not letters(gold.exact) and not letters(stated.exact)
    if constant and "decimal" in (gold.kind, stated.kind):
        return equal or _rounds_to_the_same(_number(gold), _number(stated))
    rounded = gold.has_decimal or stated.has_decimal
    if equal:
        return None if rounded else True
    if not rounded and as_fraction(gold.exact) is not None and as_fraction(stated.exact) is not None:
        return False
    left, right = _both(gold.exact, stated.exact)
    apart = abs(left - right) > (float(_ROUNDING) if rounded else _NOISE) * max(1.0, abs(left), abs(right))
    return False if apart else None


def _both(left: Exact, right: Exact) -> tuple[float, float]:
    """Both at the first point where both can be estimated."""
    for scale in _SCALES:
        try:
            return estimate(left, scale), estimate(right, scale)
        except NotExactError:
            continue
    raise NotExactError("no point where both are real")


def _same_percentage(gold: Value, stated: Value) -> bool | None:
    if letters(gold.exact) or letters(stated.exact) or "infinity" in (gold.kind, stated.kind):
        return False
    if "compound" in (gold.kind, stated.kind):
        return None
    if "decimal" not in (gold.kind, stated.kind) and not gold.has_decimal and not stated.has_decimal:
        as_written = gold.kind in ("percent", "integer") and stated.kind in ("percent", "integer")
        return (as_written and same(gold.exact, stated.exact)) or _number(gold) == _number(stated)
    return _rounds_to_the_same(_number(gold), _number(stated))


def _number(value: Value) -> Fraction:
    number = as_fraction(value.exact)
    if number is None:
        number = Fraction(estimate(value.exact))
    return number / 100 if value.kind == "percent" else number


def _rounds_to_the_same(left: Fraction, right: Fraction) -> bool | None:
    """As sympy compares floating point; None where the last digit of one could fall either way."""
    if left == right:
        return True
    if abs(left - right) > _ROUNDING * max(Fraction(1), abs(left) / 10**9, abs(right) / 10**9):
        return False
    if not all(Fraction(1, 10**4) < abs(number) < 10**8 for number in (left, right)):
        return None
    scaled = [number * 10**_PLACES for number in (left, right)]
    if any(abs(number % 1 - Fraction(1, 2)) < Fraction(1, 1000) for number in scaled):
        return None
    return bool(round(scaled[0]) == round(scaled[1]))
