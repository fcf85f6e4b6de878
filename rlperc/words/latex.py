"""The smallest parts of LaTeX formulas, read into exact values: numbers, letters and words.

The reading is that of math-verify, in which letters lose their case. What it reads in another way is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from rlperc.words.exact import Exact, indeterminate, rational

# What sympy makes of it: that decides how math-verify compares it.
Kind = Literal["integer", "rational", "decimal", "percent", "symbol", "infinity", "compound"]


@dataclass(frozen=True, slots=True)
class Value:
    """A number or an expression. `has_decimal`: a decimal stands in it, so that comparing it is a matter of rounding."""

    exact: Exact
    kind: Kind = "compound"
    has_decimal: bool = False


class NotReadError(ValueError):
    """The text is not plainly an answer of the forms read here."""


_TOKEN = re.compile(
    r"""(?P<skip>\s+|\\[,;: !]|\\(?:quad|qquad|displaystyle)(?![a-zA-Z])
        |\\left(?=[(\[]|\\\{)|\\right(?=[)\]]|\\\}))
    |(?:\d+\.\d+|\.\d+|\d+)(?:\s?\\?%)?
    |\\(?:text|mathrm)(?:bf|it|rm|normal)?\{[a-zA-Z ]*\}
    |\\[a-zA-Z]+|\\[{}]
    |[a-zA-Z]
    |[-+*/^_(){}\[\],=]""",
    re.VERBOSE | re.ASCII,
)
_DIGITS = frozenset(".0123456789")
# d and e are operators to math-verify; what i, o and E mean depends on what stands around them.
LETTERS = frozenset("abcfghjklmnpqrstuvwxyzABCDFGHJKLMNPQRSTUVWXYZ")


def tokens(text: str) -> Iterator[str]:
    """Split into tokens. Raises NotReadError at a sign that means nothing here."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise NotReadError(f"the sign {text[position]!r}")
        if match.lastgroup != "skip":
            yield match[0]
        position = match.end()


def is_number(token: str) -> bool:
    """Whether a token begins with a digit or a decimal point."""
    return token[:1] in _DIGITS and bool(token)


def read_number(text: str) -> Value:
    """The value of an integer or a decimal, or of either with a percent sign."""
    if text[-1] == "%":
        number = read_number(text.rstrip("\\% \t\n"))
        return Value(number.exact, "percent", number.has_decimal)
    decimal = "." in text
    if len(text.lstrip("-").replace(".", "").lstrip("0")) > (15 if decimal else 40):
        raise NotReadError("too many digits")
    return Value(rational(Fraction(text)), "decimal" if decimal else "integer", decimal)


def read_letter(text: str) -> Value:
    """The value of a letter."""
    if text not in LETTERS:
        raise NotReadError(f"the letter {text!r}")
    return Value(indeterminate(text.lower()), "symbol")


def is_text(token: str) -> bool:
    r"""Whether a token is `\text{…}`."""
    return token[-1:] == "}" and len(token) > 2


def read_text(token: str) -> Value:
    """The value of words that stand beside other things: one factor."""
    name = token.partition("{")[2].rstrip("}").replace(" ", "").lower()
    if len(name) < 2:
        raise NotReadError("a letter as text")
    return Value(indeterminate(f"text {name}"))
