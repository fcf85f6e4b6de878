"""Places in text and places among tokens, whatever the tokenizer merges or splits."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rlperc.train.tokens import token_range

# Tokens that merge a tag with its neighbours, hold one byte of a letter, or nothing at all.
PIECES = [b"<perception>", b"<percep", b"tion>", b"[[", b"8", b">[", b"</", b" ", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x8d\x8e", b""]


def decode(ids: Sequence[int]) -> str:
    return b"".join(PIECES[i] for i in ids).decode("utf-8", errors="replace")


@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=30), st.data())
def test_the_range_covers_the_span_and_no_token_more(ids: list[int], data: st.DataObject) -> None:
    text = decode(ids)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    found = token_range(ids, decode, start, end)
    if start == end:
        assert not found
        return
    assert len(decode(ids[: found.start])) <= start
    assert len(decode(ids[: found.stop])) >= end
    # One token less on either side would lose a letter of the span.
    assert len(decode(ids[: found.start + 1])) > start
    assert len(decode(ids[: found.stop - 1])) < end


def test_by_hand() -> None:
    ids = [1, 2, 3, 4, 5, 6, 7]  # <percep|tion>|[[|8|>[|</|_
    assert decode(ids) == "<perception>[[8>[</ "
    assert token_range(ids, decode, 12, 15) == range(2, 4)
    assert token_range(ids, decode, 15, 16) == range(4, 5)  # a token that the span shares with what follows
    assert token_range(ids, decode, 0, 20) == range(0, 7)
