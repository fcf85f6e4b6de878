"""Reading answers out of text a model wrote. Nothing is ever evaluated; size is bounded."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from rlperc.words.text import normalise

MAX_NUMBER_CHARACTERS = 64
MAX_ANSWER_CHARACTERS = 2_000
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][+-]?\d{1,2})?", re.ASCII)


def number(text: str) -> float | None:
    """Read text that is one decimal number and nothing else: `-3`, `1,234.5`, `2e3`. None for anything else.

    A sentence around the number is refused on purpose: "3 or 4" must not count as 3.
    """
    exact = exact_number(text)
    return None if exact is None else float(exact)


def exact_number(text: str) -> Fraction | None:
    """Read the same as `number`, without rounding."""
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_NUMBER_CHARACTERS:
        return None
    if not any(c in "0123456789" for c in stripped) or not _NUMBER.fullmatch(stripped):
        return None
    try:
        return Fraction(stripped.replace(",", ""))
    except ValueError:  # "e5": an exponent without digits before it
        return None


class Quantity(NamedTuple):
    """A number with a unit. `dimension` is what the unit measures, `factor` how many of its base unit it is.

    A unit that is not in the table measures what nothing else does, by its text; no unit at all measures the empty text.
    """

    value: Fraction
    unit: str = ""
    dimension: str = ""
    factor: Fraction = Fraction(1)


_PREFIXES = {"": 0, "n": -9, "µ": -6, "u": -6, "m": -3, "c": -2, "d": -1, "k": 3, "M": 6, "G": 9}
_PREFIX_WORDS = {"": 0, "nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "kilo": 3, "mega": 6, "giga": 9}
_SYMBOLS = ("m", "g", "s", "L", "l", "N", "J", "W", "V", "A", "Hz", "Pa")
_WORDS = {
    **{"metre": "m", "meter": "m", "gram": "g", "second": "s", "litre": "l", "liter": "l"},
    **{"newton": "N", "joule": "J", "watt": "W", "volt": "V", "ampere": "A", "hertz": "Hz", "pascal": "Pa"},
}
_OTHERS = {
    **dict.fromkeys(("%", "percent", "per cent"), ("percent", 1)),
    **dict.fromkeys(("°", "degree", "degrees", "deg"), ("degree", 1)),
    **dict.fromkeys(("min", "minute", "minutes"), ("s", 60)),
    **dict.fromkeys(("h", "hr", "hour", "hours"), ("s", 3_600)),
    **dict.fromkeys(("day", "days"), ("s", 86_400)),
    **dict.fromkeys(("week", "weeks"), ("s", 604_800)),
    **dict.fromkeys(("t", "tonne", "tonnes"), ("g", 1_000_000)),
}


def _table() -> dict[str, tuple[str, Fraction]]:
    units = {unit: (dimension, Fraction(factor)) for unit, (dimension, factor) in _OTHERS.items()}
    for symbol in _SYMBOLS:
        for prefix, power in _PREFIXES.items():
            units.setdefault(prefix + symbol, (symbol.replace("L", "l"), Fraction(10) ** power))
    for word, symbol in _WORDS.items():
        for prefix, power in _PREFIX_WORDS.items():
            for plural in ("", "s"):
                units[prefix + word + plural] = (symbol, Fraction(10) ** power)
    return units


# SI units with their prefixes, times, degrees and percent, to what they measure and how many base units they are.
_UNITS = _table()
# A number, then words without digits: "14 15 16" is no quantity.
_QUANTITY = re.compile(r"([+-]?[\d.,]+(?:[eE][+-]?\d{1,2})?)\s*((?:[^\W\d_]|[%°])(?:[^\W\d_]|[%°²³·*/.() -]|\^-?\d)*)?")


def read_quantity(text: str) -> Quantity | None:
    """Read a number with or without a unit behind it: `3.5 cm`, `12%`, `-4`. None for anything else."""
    text = text.strip()
    return _read_quantity(text) if len(text) <= 2 * MAX_NUMBER_CHARACTERS else None


@functools.lru_cache(maxsize=4096)  # a group has one gold answer, and often few stated ones
def _read_quantity(text: str) -> Quantity | None:
    match = _QUANTITY.fullmatch(text)
    value = exact_number(match[1]) if match else None
    if match is None or value is None:
        return None
    unit = normalise((match[2] or "").replace("μ", "µ").rstrip(" ."))
    unit = unit.replace("μ", "µ")  # NFKC makes the micro sign a Greek letter
    # Only words are the same in capitals: MW is not mW.
    known = _UNITS.get(unit) or (_UNITS.get(unit.lower()) if len(unit) > len("min") else None)
    dimension, factor = known or (f"'{unit.lower()}'" if unit else "", Fraction(1))
    return Quantity(value, unit, dimension, factor)


def boxed(text: str) -> str | None:
    r"""The contents of the last `\boxed{…}`; None where there is none, or it is not closed within 2,000 characters."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    start += len(r"\boxed{")
    depth = 1
    for match in re.finditer(r"[{}]", text[start : start + MAX_ANSWER_CHARACTERS]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return text[start : start + match.start()]
    return None


_AROUND = " \t\n.,:;\"'`*“”‘’„«»…"


def plain_text(text: str) -> str:
    """Text made comparable: NFKC, lower case by case folding, single spaces, no quotes, stars or `.,:;…` around it.

    Signs that carry meaning stay, so that `-5`, `5%`, `5!` and `C++` are not `5` and `C`.
    """
    return normalise(text, fold_case=True).strip(_AROUND)


_LETTER = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\{)?[(\[]?([A-Za-z])[)\]]?\}?[.:)]?", re.ASCII)
_LETTER_AND_TEXT = re.compile(r"[(\[]?([A-Za-z])[)\]]?\s*[.:)]\s*(\S.*)|[(\[]([A-Za-z])[)\]]\s*(\S.*)", re.ASCII | re.DOTALL)


def read_choice(text: str, choices: Sequence[str] | None = None) -> int | None:
    r"""Read which one of several choices a text names, counted from 0. None where it names none, or more than one.

    A choice is named by its letter (`B`, `(b)`, `B.`, `**B**`, `\boxed{B}`), by its text, or by both where they agree.
    Where a letter is also the text of another choice, it counts as the letter.

    Args:
        text: the answer alone; a sentence around it is refused, because "A or B" names both.
        choices: the texts of the choices, in order; without them only letters are read.
    """
    if len(text) > MAX_ANSWER_CHARACTERS:
        return None
    box = boxed(text) if text.strip().startswith(r"\boxed{") else None
    if box is not None and text.strip() != rf"\boxed{{{box}}}":
        return None
    stated = (text if box is None else box).strip().strip("*").strip()
    alone = _LETTER.fullmatch(stated)
    if alone:
        index = ord(alone[1].upper()) - ord("A")
        if choices is None or index < len(choices):
            return index
    if choices is None:
        return None
    plain = plain_text(stated)
    named = [index for index, choice in enumerate(choices) if plain and plain_text(choice) == plain]
    if named:
        return named[0] if len(named) == 1 else None
    both = _LETTER_AND_TEXT.fullmatch(stated)
    if not both:
        return None
    index = ord((both[1] or both[3]).upper()) - ord("A")
    agrees = index < len(choices) and plain_text(both[2] or both[4]) == plain_text(choices[index])
    return index if agrees else None
