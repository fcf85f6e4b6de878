r"""The forms a short answer to mathematics takes, and when two such answers are the same.

Reading and comparing are those of math-verify 0.9 where it is asked as TRL asks it, with its normalisation of LaTeX: a
trailing `\text{…}` is a unit and is dropped, `5%` is both 5 and 0.05, decimals agree when they agree to six places, and a
list in brackets is a tuple or an open interval. What would take more than exact arithmetic to tell is left to math-verify.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlperc.words.exact import NotExactError, add, estimate, indeterminate, letters, negate, same
from rlperc.words.expressions import Reader
from rlperc.words.latex import NotReadError, Value, read_letter, read_number

MAX_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Word:
    r"""A text that is the whole answer, `\text{even}`: two letters or more, in lower case."""

    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """A set, a tuple or an interval, with its brackets: `{}` or none for a set. `name`: each item was written `name = …`."""

    brackets: str
    items: tuple[Value, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Union:
    """A union of intervals."""

    parts: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """`left = right`, the outer sides of a chain. `name` is the left side where that is a letter or `f(x)`."""

    left: Value
    right: Value | Group | Union
    name: str = ""
    is_chain: bool = False


Answer = Value | Word | Group | Union | Equation

_CLOSING = {"(": ")]", "[": ")]", r"\{": r"\}"}
_INTERVALS = frozenset(["()", "[]", "(]", "[)"])
SETS = frozenset(["", "{}"])
_INFINITY = indeterminate("∞")
_FAR = float("inf")

# What math-verify's normalisation does with words, as far as answers are read here.
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mbox)\s*\{")
_UNIT_END = re.compile(r"\}(?:\^\d|\{\^\d\})?$", re.ASCII)
_TEXT_WHOLE = re.compile(r"\\(?:text|mathrm)[a-z]*\{[^}]*\}")
_WORD = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit)\{\s*\(?([a-zA-Z][a-zA-Z ]*)\)?\s*\}")
_SPACE = re.compile(r"(?<!\\)\\\s")
_JOINED = re.compile(r",?\s*\\text\{\s*(?:and|or)\s*\}")
_REPLACED = re.compile(
    r"percent|pct|inf(?!ty)|(?<!\\)sqrt|gamma|(?<![\\a-z])(?:pi|and|or|i|re|im|rank)(?![a-z])|\\mathrm\{(?:t|d|th)\}",
    re.IGNORECASE,
)
_AMBIGUOUS_RUN = re.compile(r"(?<![a-zA-Z\\])(?:[a-zA-Z]{4}|[a-zA-Z]?(?:tr|lcm|eye))")
# What may follow a digit, a brace or a space at the end without being taken for a unit.
_LAST_LETTERS = re.compile(r"[\d}\s]([a-zA-Z]+)\s*$", re.ASCII)
_NEVER_UNITS = frozenset("exyznkuvjqap")


def read_answer(text: str, *, repair: bool = False) -> Answer:
    r"""Read one answer, without `$` or a box around it.

    Args:
        text: the answer.
        repair: also read `\frac12` and `\sqrt2`.

    Raises:
        NotReadError: it is not plainly one of the forms here. That says nothing about whether it is right.
    """
    if len(text) > MAX_CHARACTERS or text.rstrip().endswith("\\"):
        raise NotReadError("too long, or half a sign at the end")
    text = _SPACE.sub(" ", _JOINED.sub(",", text).replace(r"\!", "").replace(r"\$", "").replace("{,}", ","))
    word = _WORD.fullmatch(text.strip())
    if word:
        return _read_word(word[1])
    text = _without_unit(text).strip()
    if _REPLACED.search(text) or _AMBIGUOUS_RUN.search(_TEXT_WHOLE.sub(" ", text)):
        raise NotReadError("words")
    last = _LAST_LETTERS.search(text)
    if last and not _NEVER_UNITS.issuperset(last[1]):
        raise NotReadError("a letter that may be a unit")
    if _THOUSANDS.fullmatch(text):
        return read_number(text.replace(",", ""))
    try:
        return _read_list(Reader(text, repair))
    except NotExactError as error:
        raise NotReadError(str(error)) from error


def _read_word(text: str) -> Answer:
    if _REPLACED.search(text):
        raise NotReadError("a word with a meaning of its own")
    word = text.replace(" ", "").lower()
    return Word(word) if len(word) > 1 else read_letter(text.strip())


def _without_unit(text: str) -> str:
    """Cut off everything from the first text, if text (or its power) stands at the end and something else at the start."""
    start = _TEXT.search(text)
    if not start or not _UNIT_END.search(text) or not text[: start.start()].strip():
        return text
    if _REPLACED.search(text):
        raise NotReadError("words with a meaning of their own")
    return text[: start.start()]


def _read_list(reader: Reader) -> Answer:
    members = _read_member(reader)
    while reader.next == ",":
        reader.take()
        members += _read_member(reader)
    reader.expect("")
    if len(members) == 1:
        return members[0]
    first, rest = members[0], members[1:]
    values = tuple(m for m in members if isinstance(m, Value))
    if len(values) == len(members):
        return _grouped("", values)
    if isinstance(first, Equation) and first.name and not first.is_chain and isinstance(first.right, Value):
        if len(values) == len(rest):
            return replace(first, right=_grouped("", (first.right, *values)))
        rights = tuple(m.right for m in members if isinstance(m, Equation) and m.name == first.name and not m.is_chain)
        values = tuple(right for right in rights if isinstance(right, Value))
        if len(values) == len(members) and "(" not in first.name:
            return replace(_grouped("", values), name=first.name)
    raise NotReadError("a list of different things")


def _read_member(reader: Reader) -> list[Answer]:
    """One member of a list, or the two that `±` makes."""
    name = _read_name(reader)
    sides: list[list[Answer]] = [[Value(indeterminate(name))] if name else _read_side(reader)]
    while reader.next == "=":
        reader.take()
        sides.append(_read_side(reader))
    if len(sides) == 1 and reader.next == r"\in" and not name:
        reader.take()
        sides.append(_read_side(reader))
        if isinstance(sides[1][0], Value):
            raise NotReadError("a member of what is no set")
    if len(sides) == 1:
        return sides[0]
    (left, *_), right = sides[0], sides[-1]
    if any(len(side) > 1 or not isinstance(side[0], Value) for side in sides[:-1]) or not isinstance(left, Value):
        raise NotReadError("an equation of lists")
    if not name and left.kind == "symbol":
        name = "".join(letters(left.exact))
    whole = right[0]
    if len(right) == 1 and (isinstance(whole, Value) or (name and len(sides) == 2 and isinstance(whole, Group | Union))):
        return [Equation(left, whole, name, len(sides) > 2)]
    values = tuple(item for item in right if isinstance(item, Value))
    if not name or len(sides) > 2 or len(values) < 2:
        raise NotReadError("an equation with a list")
    return [Equation(left, _grouped("", values), name)]


def _read_name(reader: Reader) -> str:
    """`f(x)` before an equals sign; empty where there is none."""
    ahead = reader.ahead(5)
    if len(ahead) < 5 or ahead[1] != "(" or ahead[3:] != [")", "="] or not (ahead[0].isalpha() and ahead[2].isalpha()):
        return ""
    reader.expect(*ahead[:4])
    return "{}({})".format(*(min(letters(read_letter(letter).exact)) for letter in (ahead[0], ahead[2])))


def _read_side(reader: Reader) -> list[Answer]:
    if reader.next == r"\{" or (reader.next in _CLOSING and "," in reader.separators()):
        parts = [_read_group(reader)]
        while reader.next == r"\cup":
            reader.take()
            parts.append(_read_group(reader))
        if len(parts) > 1 and not all(part.brackets in _INTERVALS and len(part.items) == 2 for part in parts):
            raise NotReadError("a union of other things than intervals")
        return [parts[0] if len(parts) == 1 else Union(tuple(parts))]
    if reader.next == r"\pm":
        reader.take()
        value = reader.expression()
        kind = value.kind if value.kind in ("integer", "rational") else "compound"
        return [Value(negate(value.exact), kind, value.has_decimal), value]
    value = _read_value(reader)
    if reader.next == r"\pm" and value.kind != "infinity":
        reader.take()
        right = reader.expression()
        decimal = value.has_decimal or right.has_decimal
        return [Value(add(value.exact, e), "compound", decimal) for e in (right.exact, negate(right.exact))]
    return [value]


def _read_value(reader: Reader) -> Value:
    if reader.next[-1:] == "%":
        return read_number(reader.take())
    for sign in ([r"\infty"], ["+", r"\infty"], ["-", r"\infty"]):
        if reader.ahead(len(sign)) == sign:
            reader.expect(*sign)
            return Value(negate(_INFINITY) if sign[0] == "-" else _INFINITY, "infinity")
    return reader.expression()


def _read_group(reader: Reader) -> Group:
    opening = reader.take()
    if opening not in _CLOSING:
        raise NotReadError("no bracket")
    items = [_read_value(reader)]
    while reader.next == ",":
        reader.take()
        items.append(_read_value(reader))
    closing = reader.take()
    if closing not in _CLOSING[opening] or not closing or any(item.kind == "percent" for item in items):
        raise NotReadError("brackets that do not match")
    return _grouped((opening + closing).replace("\\", ""), tuple(items))


def _grouped(brackets: str, items: tuple[Value, ...]) -> Group:
    """A group, or a refusal where sympy would make something else of it."""
    if brackets in SETS:
        if any(item.kind in ("infinity", "percent") for item in items) or _has_repeats(items):
            raise NotReadError("an unusual set")
    elif len(items) == 1 or (len(items) > 2 and brackets not in ("()", "[]")):
        raise NotReadError("an unusual tuple")
    elif len(items) > 2:
        brackets = "()"
    elif brackets != "()" or any(item.kind == "infinity" for item in items):
        if not all(not letters(item.exact) or item.kind == "infinity" for item in items):
            raise NotReadError("an interval of letters")
        low, high = map(position, items)
        if not low < high or (low == -_FAR and brackets[0] == "[") or (high == _FAR and brackets[1] == "]"):
            raise NotReadError("an unusual interval")
    return Group(brackets, items)


def position(item: Value) -> float:
    """Where a number or an infinity lies on the line. Raises NotExactError where that is beyond floating point."""
    if item.kind != "infinity":
        return estimate(item.exact)
    return _FAR if same(item.exact, _INFINITY) else -_FAR


def _has_repeats(items: Sequence[Value]) -> bool:
    return any(same(left.exact, right.exact) for i, left in enumerate(items) for right in items[:i])
