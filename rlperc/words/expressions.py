"""Reading expressions written in LaTeX into exact values; whatever is not plainly one is refused.

The reading is that of math-verify (the grammar PS.g4 of latex2sympy2_extended), down to where that is unusual: `1/2x` is
1/(2x), and `log` has the base 10. Where that reading depends on more than can be told here, nothing is read.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from rlperc.words.exact import (
    FUNCTIONS,
    PI,
    add,
    apply,
    as_fraction,
    divide,
    indeterminate,
    multiply,
    negate,
    power,
    rational,
    square_root,
)
from rlperc.words.latex import LETTERS, NotReadError, Value, is_number, is_text, read_letter, read_number, read_text, tokens

MAX_DEPTH = 12

_TIMES, _OVER = frozenset(["*", r"\cdot", r"\times"]), frozenset(["/", r"\div"])
_FRACTIONS = frozenset([r"\frac", r"\dfrac", r"\tfrac", r"\cfrac"])
_NAMED = {rf"\{name}": name for name in FUNCTIONS} | {r"\log": "log10"}
_FACTORS = LETTERS | _FRACTIONS | {"(", "{", r"\pi"}
_FUNCTIONS = _NAMED.keys() | {"e", r"\sqrt"}
_AFTER_ARGUMENT = frozenset(["", "+", "-", ")", "}", "]", ",", "="])


class Reader:
    r"""Recursive descent over the tokens of one answer.

    With `repair`, `\frac12` and `\sqrt2` are read as well: math-verify repairs those in gold answers only.
    """

    def __init__(self, text: str, repair: bool) -> None:
        self._tokens = [*tokens(text), ""]
        self._at = 0
        self._depth = 0
        self._repair = repair

    @property
    def next(self) -> str:
        """The token that comes next; empty at the end."""
        return self._tokens[self._at]

    def ahead(self, count: int) -> list[str]:
        """The tokens that come next, `count` of them or fewer."""
        return self._tokens[self._at : self._at + count]

    def take(self) -> str:
        """Step over one token."""
        token = self._tokens[self._at]
        self._at += 1
        return token

    def expect(self, *expected: str) -> None:
        """Step over these tokens, or refuse."""
        for token in expected:
            if self._tokens[self._at] != token:
                raise NotReadError(f"no {token!r} where it belongs")
            self._at += 1

    def separators(self) -> set[str]:
        """The signs that stand between the bracket that comes next and the one that closes it, in no further bracket."""
        depth, found = 0, set()
        for token in self._tokens[self._at :]:
            if token in ("(", "[", "{", r"\{"):
                depth += 1
            elif token in (")", "]", "}", r"\}"):
                depth -= 1
                if depth == 0:
                    break
            elif depth == 1 and not token.isalnum():
                found.add(token)
        return found

    def expression(self) -> Value:
        """A sum."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotReadError("too deep")
        value = self._product()
        while self.next in ("+", "-"):
            minus = self.take() == "-"
            right = self._product()
            exact = negate(right.exact) if minus else right.exact
            value = Value(add(value.exact, exact), "compound", value.has_decimal or right.has_decimal)
        self._depth -= 1
        return value

    def _product(self) -> Value:
        value = self._signed()
        while self.next in _TIMES or self.next in _OVER:
            operation = _quotient if self.take() in _OVER else _times
            value = operation(value, self._signed())
        return value

    def _signed(self) -> Value:
        sign = 1
        while self.next in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        value = self._sequence()
        if sign == 1:
            return value
        kind = value.kind if value.kind in ("integer", "rational", "decimal") else "compound"
        return Value(negate(value.exact), kind, value.has_decimal)

    def _sequence(self, *, functions: bool = True) -> Value:
        """Factors side by side; an integer before a fraction is a mixed number."""
        starts, factors = [self.next], [self._powered()]
        while self._continues(starts[-1], functions):
            # A letter before a bracket is a function, unless what stands in the bracket can only be a factor.
            after_letter = starts[-1] in LETTERS or starts[-1] == r"\pi" or is_text(starts[-1])
            if after_letter and (self.next == "{" or (self.next == "(" and not self.separators() & {"+", "-"})):
                raise NotReadError("a function or a product")
            starts.append(self.next)
            factors.append(self._powered())
        if is_number(self.next):
            raise NotReadError("a number behind a factor")
        for left, right in pairwise(factors):
            if left.kind == "integer" and right.kind in ("integer", "rational"):
                return _mixed(starts, factors)
        value = factors[0]
        for factor in factors[1:]:
            value = _times(value, factor)
        return value

    def _continues(self, last: str, functions: bool) -> bool:
        if is_number(self.next):
            return is_text(last)
        return self.next in _FACTORS or (functions and (self.next in _FUNCTIONS or is_text(self.next)))

    def _powered(self) -> Value:
        base = self._primary()
        if self.next != "^":
            return base
        self.take()
        if self.next == r"\circ":
            self.take()
        elif self.ahead(3) == ["{", r"\circ", "}"]:
            self.expect("{", r"\circ", "}")
        else:
            base = _raised(base, self._exponent())
        if self.next == "^":
            raise NotReadError("a power of a power without brackets")
        return base

    def _exponent(self) -> Value:
        if self.next == "{":
            return self._braced()
        if is_number(self.next):
            return self._primary()
        if self.next == r"\pi":
            self.take()
            return Value(indeterminate(PI))
        return read_letter(self.take())

    def _braced(self) -> Value:
        self.expect("{")
        value = self.expression()
        self.expect("}")
        return value

    def _primary(self) -> Value:
        sign = self.next
        if is_number(sign):
            number = read_number(self.take())
            if number.kind == "percent":
                raise NotReadError("a percentage inside")
            return number
        if sign == "{":
            return self._braced()
        self.take()
        if sign == "(":
            value = self.expression()
            self.expect(")")
            return value
        if sign in _FRACTIONS:
            return self._fraction()
        if sign == r"\sqrt":
            return self._root()
        if sign == r"\pi":
            return Value(indeterminate(PI))
        if sign == "e":
            return self._exponential()
        if sign in _NAMED:
            return self._function(_NAMED[sign])
        return read_text(sign) if is_text(sign) else read_letter(sign)

    def _fraction(self) -> Value:
        if self._repair and is_number(self.next):
            digits = self.take()
            if len(digits) == 2 and digits.isdigit():
                return _quotient(read_number(digits[0]), read_number(digits[1]))
            raise NotReadError("a fraction without braces")
        upper = self._braced()
        return _quotient(upper, self._braced())

    def _root(self) -> Value:
        degree = None
        if self.next == "[":
            self.take()
            if not self.next.isdigit():
                raise NotReadError("a root of an unusual degree")
            degree = read_number(self.take())
            self.expect("]")
        short = self._repair and degree is None and is_number(self.next) and len(self.next) == 1
        radicand = read_number(self.take()) if short else self._braced()
        if degree is not None:
            return Value(apply("pow", radicand.exact, divide(rational(1), degree.exact)), has_decimal=radicand.has_decimal)
        if radicand.has_decimal:
            raise NotReadError("the root of a decimal")
        return Value(square_root(radicand.exact))

    def _exponential(self) -> Value:
        exponent = Value(rational(1))
        if self.next == "^":
            self.take()
            exponent = self._exponent()
        if self.next == "^":
            raise NotReadError("a power of a power without brackets")
        return Value(apply("exp", exponent.exact), has_decimal=exponent.has_decimal)

    def _function(self, name: str) -> Value:
        """A function with its power and its argument, which is `(…)`, or a product that has to be the end of its term."""
        base, exponent = None, None
        if name == "log10" and self.next == "_":
            self.take()
            short = is_number(self.next) and len(self.next) == 1
            base = read_number(self.take()) if short else self._braced()
        if self.next == "^":
            self.take()
            exponent = self._exponent()
            if exponent.kind != "integer" or (as_fraction(exponent.exact) or 0) < 1:
                raise NotReadError("an inverse function")
        if self.next == "(":
            self.take()
            argument = self.expression()
            self.expect(")")
        else:
            argument = self._sequence(functions=False)
            if self.next not in _AFTER_ARGUMENT:
                raise NotReadError("an argument without an end")
        if self.next in ("^", "_"):
            raise NotReadError("a power of a function")
        exact = apply(name, argument.exact) if base is None else apply("log", argument.exact, base.exact)
        value = Value(exact, has_decimal=argument.has_decimal or (base is not None and base.has_decimal))
        return value if exponent is None else _raised(value, exponent)


def _raised(base: Value, exponent: Value) -> Value:
    decimal = base.has_decimal or exponent.has_decimal
    number = as_fraction(exponent.exact)
    if number is not None and number.denominator == 1 and not exponent.has_decimal:
        return Value(power(base.exact, int(number)), has_decimal=decimal)
    return Value(apply("pow", base.exact, exponent.exact), has_decimal=decimal)


def _times(left: Value, right: Value) -> Value:
    return Value(multiply(left.exact, right.exact), "compound", left.has_decimal or right.has_decimal)


def _quotient(upper: Value, lower: Value) -> Value:
    exact = divide(upper.exact, lower.exact)
    if upper.kind == lower.kind == "integer":
        number = as_fraction(exact) or Fraction(0)
        return Value(rational(number), "integer" if number.denominator == 1 else "rational")
    return Value(exact, "compound", upper.has_decimal or lower.has_decimal)


def _mixed(starts: list[str], factors: list[Value]) -> Value:
    if len(factors) == 2 and is_number(starts[0]) and starts[1] in _FRACTIONS:
        number = as_fraction(factors[1].exact)
        if number is not None and number > 0:
            exact = add(factors[0].exact, factors[1].exact)
            return Value(exact, "rational" if number.denominator > 1 else "integer")
    raise NotReadError("an integer before a number")
