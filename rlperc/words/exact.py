"""Exact arithmetic with what answers to mathematics are made of: fractions of polynomials with rational coefficients.

The indeterminates are letters, pi (which satisfies no polynomial), square roots of primes (which are independent of each
other, and whose square is the prime) and functions of such a fraction, as `sin`. Without functions, two values are equal
exactly if cross-multiplying gives the same polynomial; with them, values found equal are, and others may be equal too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

# A letter or constant with nothing behind it, or a function with its arguments, each as the items of top and bottom.
Indeterminate = tuple[str, tuple[Any, ...]]
# A monomial is its indeterminates with their exponents, sorted; the coefficient stands in the polynomial.
Monomial = tuple[tuple[Indeterminate, int], ...]
Polynomial = dict[Monomial, Fraction]

MAX_TERMS = 32
MAX_COEFFICIENT_BITS = 512
MAX_EXPONENT = 32
MAX_MONOMIAL_EXPONENT = 10_000
MAX_RADICAND = 1_000_000
PI = "π"
_ROOT = "√"

FUNCTIONS: dict[str, Callable[..., float]] = {
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log10", "sqrt", "pow")},
    "ln": math.log,
    "log": math.log,
    **{"arc" + name: getattr(math, "a" + name) for name in ("sin", "cos", "tan")},
    "sec": lambda x: 1 / math.cos(x),
    "csc": lambda x: 1 / math.sin(x),
    "cot": lambda x: 1 / math.tan(x),
}


class NotExactError(ValueError):
    """The value is not one of these, or too large to be worth the time."""


class Exact(NamedTuple):
    """A fraction of two polynomials. The denominator is never zero; the fraction need not be in lowest terms."""

    top: Polynomial
    bottom: Polynomial


_ONE: Polynomial = {(): Fraction(1)}


def rational(value: Fraction | int) -> Exact:
    """A rational number."""
    return Exact({(): Fraction(value)} if value else {}, _ONE)


def indeterminate(name: str) -> Exact:
    """A letter, or `PI`."""
    return Exact({(((name, ()), 1),): Fraction(1)}, _ONE)


def apply(name: str, *arguments: Exact) -> Exact:
    """A function, one of FUNCTIONS, of its arguments; nothing is known of it but how to estimate it."""
    frozen = tuple(tuple(tuple(sorted(part.items())) for part in _scaled(argument)) for argument in arguments)
    return Exact({(((name, frozen), 1),): Fraction(1)}, _ONE)


def add(left: Exact, right: Exact) -> Exact:
    """The sum."""
    if left.bottom == right.bottom:
        return Exact(_sum(left.top, right.top), left.bottom)
    top = _sum(_product(left.top, right.bottom), _product(right.top, left.bottom))
    return Exact(top, _product(left.bottom, right.bottom))


def multiply(left: Exact, right: Exact) -> Exact:
    """The product."""
    return Exact(_product(left.top, right.top), _product(left.bottom, right.bottom))


def negate(value: Exact) -> Exact:
    """The value with the other sign."""
    return Exact({monomial: -coefficient for monomial, coefficient in value.top.items()}, value.bottom)


def divide(left: Exact, right: Exact) -> Exact:
    """The quotient. Raises NotExactError for a division by zero."""
    return multiply(left, _inverse(right))


def power(base: Exact, exponent: int) -> Exact:
    """A whole power, negative ones included. Raises NotExactError where it is undefined or too large."""
    if exponent <= 0 and not base.top:
        raise NotExactError("zero to a power that is not positive")
    if exponent < 0:
        base, exponent = _inverse(base), -exponent
    return Exact(_power(base.top, exponent), _power(base.bottom, exponent))


def square_root(value: Exact) -> Exact:
    """The square root: of a rational number in terms of primes, of anything else as a function."""
    number = as_fraction(value)
    if number is None or number < 0:
        return apply("sqrt", value)
    whole, primes = _take_root(number.numerator * number.denominator)
    monomial = tuple(sorted(((_ROOT + str(prime), ()), 1) for prime in primes))
    coefficient = Fraction(whole, number.denominator)
    return Exact({monomial: coefficient} if coefficient else {}, _ONE)


def same(left: Exact, right: Exact) -> bool:
    """Whether they are equal for every value of the letters, as far as that follows without knowing any function."""
    if left.bottom == right.bottom:
        return left.top == right.top
    return _product(left.top, right.bottom) == _product(right.top, left.bottom)


def as_fraction(value: Exact) -> Fraction | None:
    """The rational number it is, or None where it is none or is not written as one."""
    if value.top.keys() <= _ONE.keys() and value.bottom.keys() == _ONE.keys():
        return value.top.get((), Fraction(0)) / value.bottom[()]
    return None


def letters(value: Exact) -> set[str]:
    """The letters in it, those inside functions included."""
    return _letters(part.items() for part in value)


def coefficients(value: Exact, letter: str) -> list[Exact] | None:
    """The value as a polynomial in one letter, the constant term first; None where the letter stands elsewhere too."""
    if letter in _letters([value.bottom.items()]):
        return None
    parts: dict[int, Polynomial] = {}
    for monomial, coefficient in value.top.items():
        rest = tuple(factor for factor in monomial if factor[0] != (letter, ()))
        if letter in _letters([[(rest, coefficient)]]):
            return None
        parts.setdefault(dict(monomial).get((letter, ()), 0), {})[rest] = coefficient
    return [Exact(parts.get(exponent, {}), value.bottom) for exponent in range(max(parts, default=0) + 1)]


def estimate(value: Exact, scale: float = 1.0) -> float:
    """The value as a float, good to 10 places; letters stand for fixed numbers that have no simple relation to each other.

    Args:
        value: of which letters may be part.
        scale: letters stand for numbers between 0.2 and 0.9 times this.

    Raises:
        NotExactError: it is not finite, not real, or lost in the difference of large numbers.
    """
    try:
        result = _estimate(value.top.items(), scale) / _estimate(value.bottom.items(), scale)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise NotExactError("no real number within reach") from error
    if not math.isfinite(result):
        raise NotExactError("beyond floating point")
    return result


def _inverse(value: Exact) -> Exact:
    if not value.top:
        raise NotExactError("division by zero")
    return Exact(value.bottom, value.top)


def _scaled(value: Exact) -> Exact:
    """The same with the denominator 1, where that is a number."""
    if value.bottom == _ONE or value.bottom.keys() != _ONE.keys():
        return value
    return Exact({monomial: coefficient / value.bottom[()] for monomial, coefficient in value.top.items()}, _ONE)


def _collected(terms: Iterable[tuple[Monomial, Fraction]]) -> Polynomial:
    result: Polynomial = {}
    for monomial, coefficient in terms:
        total = result.get(monomial, 0) + coefficient
        if total:
            result[monomial] = Fraction(total)
        else:
            result.pop(monomial, None)
        if len(result) > MAX_TERMS:
            raise NotExactError("too many terms")
    return result


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    return _collected((*left.items(), *right.items()))


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    if left == _ONE:
        return right
    if right == _ONE:
        return left
    return _collected(_times(term, other) for term in left.items() for other in right.items())


def _times(left: tuple[Monomial, Fraction], right: tuple[Monomial, Fraction]) -> tuple[Monomial, Fraction]:
    coefficient = left[1] * right[1]
    if coefficient.numerator.bit_length() + coefficient.denominator.bit_length() > MAX_COEFFICIENT_BITS:
        raise NotExactError("too many digits")
    if not left[0] or not right[0]:
        return left[0] or right[0], coefficient
    exponents = dict(left[0])
    for indeterminate, exponent in right[0]:
        total = exponents.get(indeterminate, 0) + exponent
        if indeterminate[0].startswith(_ROOT) and total == 2:
            coefficient *= int(indeterminate[0].removeprefix(_ROOT))
            del exponents[indeterminate]
        else:
            exponents[indeterminate] = total
    return tuple(sorted(exponents.items())), coefficient


def _power(base: Polynomial, exponent: int) -> Polynomial:
    if base == _ONE:
        return base
    if len(base) == 1 and MAX_EXPONENT < exponent <= MAX_MONOMIAL_EXPONENT:
        ((monomial, coefficient),) = base.items()
        if abs(coefficient) == 1 and not any(name.startswith(_ROOT) for (name, _), _ in monomial):
            sign = coefficient if exponent % 2 else Fraction(1)
            return {tuple((name, e * exponent) for name, e in monomial): sign}
    most = MAX_EXPONENT if base.keys() != _ONE.keys() else MAX_COEFFICIENT_BITS
    if exponent > most:
        raise NotExactError("too large an exponent")
    result = _ONE
    for _ in range(exponent):
        result = _product(result, base)
    return result


@functools.lru_cache(maxsize=1024)
def _take_root(number: int) -> tuple[int, tuple[int, ...]]:
    """`(a, primes)` with sqrt(number) = a * sqrt(product of the primes)."""
    if number > MAX_RADICAND:
        raise NotExactError("too large a radicand")
    whole, primes, factor = 1, [], 2
    while factor * factor <= number:
        while number % (factor * factor) == 0:
            whole, number = whole * factor, number // (factor * factor)
        if number % factor == 0:
            primes.append(factor)
            number //= factor
        factor += 1
    if number > 1:
        primes.append(number)
    return (whole if number else 0), tuple(primes)


def _letters(parts: Iterable[Iterable[tuple[Monomial, Fraction]]]) -> set[str]:
    found = set()
    for (name, arguments), _ in (factor for part in parts for monomial, _ in part for factor in monomial):
        if arguments:
            found |= _letters(part for argument in arguments for part in argument)
        elif name != PI and not name.startswith(_ROOT):
            found.add(name)
    return found


def _estimate(terms: Iterable[tuple[Monomial, Fraction]], scale: float) -> float:
    values = [float(coefficient) * math.prod(_stand_in(n, scale) ** e for n, e in monomial) for monomial, coefficient in terms]
    total = math.fsum(values)
    if values and abs(total) < 1e-4 * max(map(abs, values)):
        raise NotExactError("the difference of large numbers")
    return total


@functools.lru_cache(maxsize=4096)
def _stand_in(indeterminate: Indeterminate, scale: float) -> float:
    name, arguments = indeterminate
    if arguments:
        return FUNCTIONS[name](*(_estimate(top, scale) / _estimate(bottom, scale) for top, bottom in arguments))
    if name == PI:
        return math.pi
    if name.startswith(_ROOT):
        return math.sqrt(int(name.removeprefix(_ROOT)))
    # Steps of the golden ratio never come close to a simple relation.
    return scale * (0.2 + 0.7 * (sum(map(ord, name)) * 0.6180339887498949 % 1))
