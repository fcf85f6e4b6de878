"""What a text states, whatever its form: equal for texts that state the same."""

from __future__ import annotations

from typing import Any, Literal

from rlperc.words.structure import MAX_CHARACTERS, canonical, read_stated

MAX_DEPTH = 64

Statement = tuple[Literal["json", "text"], str]
"""How a text was read, and its normal form."""


def read_perception(perception: str | None) -> tuple[Statement | None, str]:
    """What a perception states, equal for equal ones; or None and why it states nothing. Never raises.

    Two are equal as JSON, as `as_json` writes it, or where that is None as text, as `as_text` does. One that is missing, of
    more than 20,000 characters, or without a letter or digit, `[]` too, states nothing.
    """
    if perception is None:
        return None, "no perception"
    if len(perception) > MAX_CHARACTERS:
        return None, "the perception is too long"
    if not any(character.isalnum() for character in perception):
        return None, "the perception says nothing"
    value = as_json(perception)
    return (("text", as_text(perception)) if value is None else ("json", value)), ""


def as_json(text: str) -> str | None:
    """A text's JSON in one form: spacing, a fence, the order of keys and 1 for 1.0 aside, while `true` is not 1.

    None for `null`, for what `read_stated` does not read, and for JSON more than 64 levels deep.
    """
    value = read_stated(text)
    if value is None:
        return None
    try:
        return canonical(_plain(value, MAX_DEPTH))
    except RecursionError:
        return None


def as_text(text: str) -> str:
    """A text in one form: case folded, each run of whitespace as one space. Its length is for the caller to bound."""
    return " ".join(text.casefold().split())


def _plain(value: Any, depth: int) -> Any:
    """The value with whole numbers as integers. Raises RecursionError below `depth` levels."""
    if depth == 0:
        raise RecursionError
    if isinstance(value, list):
        return [_plain(one, depth - 1) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one, depth - 1) for key, one in value.items()}
    # Larger ones stay: written out they have up to 309 digits.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
