"""Reading answers out of text a model wrote. Nothing is ever evaluated; size is bounded."""

from __future__ import annotations

import re

MAX_NUMBER_CHARACTERS = 64
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][+-]?\d{1,2})?", re.ASCII)


def number(text: str) -> float | None:
    """Read text that is one decimal number and nothing else: `-3`, `1,234.5`, `2e3`. None for anything else.

    A sentence around the number is refused on purpose: "3 or 4" must not count as 3.
    """
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_NUMBER_CHARACTERS:
        return None
    if not any(c in "0123456789" for c in stripped) or not _NUMBER.fullmatch(stripped):
        return None
    try:
        return float(stripped.replace(",", ""))
    except ValueError:  # "e5": an exponent without digits before it
        return None
