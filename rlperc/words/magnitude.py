r"""How large the numbers in a formula may become, before anything evaluates them.

`9^{9^{9^9}}` is twelve characters and more digits than there are atoms; a computer algebra system will try.
"""

from __future__ import annotations

import math
import re

MAX_DIGITS = 20_000
MAX_DEPTH = 16
MAX_FACTORIAL = 3_000

_TOKEN = re.compile(r"\d+(?:\.\d+)?(?:E[+-]?\d+)?|\.\d+|\\[a-zA-Z]+|\*\*|[a-zA-Z^!(){}\[\]]", re.ASCII)
# A matrix of any size that the answer asks for.
_SIZED = re.compile(r"\\operatorname\s*\{\s*(?:eye|zeros|ones)\s*\}")
_CONSTANTS = {"e": math.log10(math.e), r"\pi": math.log10(math.pi)}
_BINOMIALS = frozenset([r"\binom", r"\dbinom", r"\tbinom"])


class _TooCostlyError(ValueError):
    pass


def too_costly(text: str) -> str:
    """Why a formula would take too long to evaluate; empty where nothing speaks against it.

    An upper bound of the decimal digits of every power, factorial and binomial coefficient, letters aside.
    """
    if _SIZED.search(text):
        return "a matrix of any size"
    tokens, at = _TOKEN.findall(text), 0
    try:
        while at < len(tokens):  # past each bracket that closes nothing
            at = _size(tokens, at, 0)[1] + 1
    except _TooCostlyError as error:
        return str(error)
    return ""


def _size(tokens: list[str], at: int, depth: int) -> tuple[float, int]:
    """The digits of what stands in one pair of brackets, as if it were all multiplied, and where the bracket closes."""
    if depth > MAX_DEPTH:
        raise _TooCostlyError("too many brackets within brackets")
    total = last = 0.0
    while at < len(tokens) and tokens[at] not in (")", "}", "]"):
        sign = tokens[at]
        if sign in ("^", "**"):
            exponent, at = _exponent(tokens, at + 1, depth)
            last = _bounded(last * 10 ** min(exponent, 10))
            total += last
        elif sign == r"\exp":
            exponent, at = _factor(tokens, at + 1, depth)
            last = _bounded(10 ** min(exponent, 10) * _CONSTANTS["e"])
            total += last
        elif sign == "!":
            last = _factorial(last)
            total += last
            at += 1
        elif sign in _BINOMIALS:
            upper, at = _factor(tokens, at + 1, depth)
            lower, at = _factor(tokens, at, depth)
            last = _bounded(10 ** min(upper, 10) * math.log10(2))
            total += last + lower
        else:
            last, at = _factor(tokens, at, depth)
            total += last
    return _bounded(total), at


def _exponent(tokens: list[str], at: int, depth: int) -> tuple[float, int]:
    """A factor, with the powers that stand on it: `9^9^9` is taken for a tower."""
    size, at = _factor(tokens, at, depth)
    if at < len(tokens) and tokens[at] in ("^", "**"):
        if depth > MAX_DEPTH:
            raise _TooCostlyError("too many brackets within brackets")
        upper, at = _exponent(tokens, at + 1, depth + 1)
        size = _bounded(size * 10 ** min(upper, 10))
    return size, at


def _factor(tokens: list[str], at: int, depth: int) -> tuple[float, int]:
    if at >= len(tokens):
        return 0.0, at
    token = tokens[at]
    if token in ("(", "{", "["):
        size, end = _size(tokens, at + 1, depth + 1)
        return size, end + 1
    if token[0] in ".0123456789":
        mantissa, _, exponent = token.partition("E")
        if len(exponent) > 5 or len(mantissa) > MAX_DIGITS:
            raise _TooCostlyError("a number with too many digits")
        # At least that of 2, for then a product is no smaller than a sum.
        digits = math.log10(max(float(mantissa[:300]), 2)) + max(0, len(mantissa) - 300)
        return digits + abs(int(exponent or 0)), at + 1
    return _CONSTANTS.get(token, 0.0), at + 1


def _factorial(size: float) -> float:
    if 10 ** min(size, 10) > MAX_FACTORIAL:
        raise _TooCostlyError("a factorial with too many digits")
    return 10**size * max(size, 1.0)


def _bounded(size: float) -> float:
    if size > MAX_DIGITS:
        raise _TooCostlyError("a number with too many digits")
    return size
