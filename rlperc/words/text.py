"""Text a model wrote, made comparable: normalised text, names, and the n-grams it repeats."""

from __future__ import annotations

import re
import unicodedata
from itertools import accumulate
from typing import Any

# No script stacks more marks on one letter (Unicode Standard Annex 15, stream-safe text); sorting them is quadratic.
MAX_MARKS = 30
_HALFWIDTH_MARKS = "\uff9e\uff9f"  # letters by themselves, marks once they are normalised
# Thai, Lao, Tibetan, Myanmar, Khmer, kana and Han have no spaces between words.
_SPACELESS = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_SPACELESS}]|[^\s{_SPACELESS}]{{1,24}}|\s{{24}}")


def normalise(text: str, *, fold_case: bool = False, drop_punctuation: bool = False) -> str:
    """Text with what a reader does not see made equal: Unicode NFKC, and each run of whitespace as one space.

    Text with more than 30 combining marks in a row keeps its form. Normalising a second time changes nothing more.

    Args:
        text: of any content; its length is for the caller to bound. NFKC makes it up to 18 times as long.
        fold_case: make upper and lower case equal, by Unicode case folding.
        drop_punctuation: leave out the characters of Unicode's categories P*; other symbols, as `+` and `$`, stay.
    """
    composed = _compose(text)
    if fold_case:
        composed = _compose(composed.casefold())
    if drop_punctuation:  # composed again, because a mark may now follow another letter
        punctuation = [c for c in set(composed) if unicodedata.category(c).startswith("P")]
        composed = _compose(composed.translate(dict.fromkeys(map(ord, punctuation))))
    return " ".join(composed.split())


def _compose(text: str) -> str:
    return text if text.isascii() or _stacks_marks(text) else unicodedata.normalize("NFKC", text)


def _stacks_marks(text: str) -> bool:
    marks = {c for c in set(text) if unicodedata.combining(c) or c in _HALFWIDTH_MARKS}
    run = 0
    for character in text if marks else "":
        run = run + 1 if character in marks else 0
        if run > MAX_MARKS:
            return True
    return False


def label(value: Any) -> str | None:
    """A name from JSON as text: `3` and `"3"` are the same one. None for what names nothing: null, true, 1.5, a list."""
    if isinstance(value, str):
        return value.strip() or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def units(text: str) -> list[str]:
    """What n-grams of a text are made of, in lower case: its words, as spaces divide them.

    In a script without spaces between words each character is a unit. A word of more than 24 characters is cut into units
    of 24, so that text without any spaces has n-grams too, and so is whitespace, so that a loop of line breaks has them.
    """
    return _UNIT.findall(text.lower())


def distinct_ngrams(text: str, size: int) -> tuple[int, int]:
    """How many different n-grams of `size` units a text has, and how many in all; (0, 0) where it is shorter than one."""
    words = units(text)
    total = len(words) - size + 1
    if total < 1:
        return 0, 0
    ends = list(accumulate(len(word) + 1 for word in words))
    starts = [0, *ends]
    joined = " ".join(words)
    return len({joined[starts[i] : ends[i + size - 1] - 1] for i in range(total)}), total
