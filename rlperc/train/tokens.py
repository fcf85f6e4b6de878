"""From places in a completion's text to places among its tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]


def token_range(ids: Sequence[int], decode: Decode, start: int, end: int) -> range:
    """The tokens that any of `text[start:end]` comes from, where `text` is `decode(ids)`.

    A token that also holds letters before or after the span belongs to it: tags merge with their neighbours. Takes
    about log2(len(ids)) decodings, because the length of what is decoded never falls as tokens are added.
    """

    def length(count: int) -> int:
        return len(decode(ids[:count]))

    if end <= start:
        return range(0)
    counts = range(len(ids) + 1)
    first = bisect_right(counts, start, key=length) - 1
    last = bisect_left(counts, end, key=length)
    return range(first, min(last, len(ids)))
