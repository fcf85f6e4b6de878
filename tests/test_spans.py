"""Regions and marks of a batch as tensors, with tokens that decode to what they say."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.errors import RewardError
from rlperc.train.spans import last_token, mark_tensor, region_tensor, regions_present
from rlperc.train.tokens import REGIONS
from rlperc.words.response import Tags

PIECES = ["a", "bc", "def", "<perception>", "</perception>", "<think>", "</think>", "<answer>", "</answer>", ""]
END = PIECES.index("")
quick = settings(deadline=None, max_examples=60)


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[one] for one in ids)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions of tokens, and a mask that may have holes, as tool calls make them."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    size = rows * width
    regions = draw(st.lists(st.integers(0, len(REGIONS) - 1), min_size=size, max_size=size))
    mask = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    return torch.tensor(regions).view(rows, width), torch.tensor(mask).view(rows, width)


def test_regions_of_tokens_by_hand() -> None:
    # a <perception> bc </perception> <answer> def </answer>: tags belong to what they enclose; padding is the rest.
    ids = [[0, 3, 1, 4, 7, 2, 8], [0, END], []]
    rest, perception, answer = (REGIONS.index(name) for name in ("rest", "perception", "answer"))
    found = region_tensor(ids, decode, Tags(), 8).tolist()
    assert found[0][2] == perception
    assert found[0][5] == answer
    assert (found[0][0], found[0][7]) == (rest, rest)
    assert found[1:] == [[rest] * 8] * 2


@quick
@given(batches())
def test_a_region_is_present_where_an_unmasked_token_is_in_it(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    regions, mask = batch
    expected = [
        [any(m and r == region for r, m in zip(*row, strict=True)) for region in range(len(REGIONS))]
        for row in zip(regions.tolist(), mask.tolist(), strict=True)
    ]
    for written in (mask, mask.bool(), mask.float()):
        found = regions_present(regions, written)
        assert found.dtype == torch.bool
        assert found.tolist() == expected


@quick
@given(batches(), st.integers(0, len(REGIONS) - 1))
def test_the_last_token_of_all_and_of_a_region(batch: tuple[torch.Tensor, torch.Tensor], region: int) -> None:
    regions, mask = batch
    for row, (found, inside) in enumerate(zip(last_token(mask), last_token(mask, regions, region), strict=True)):
        written = [t for t, one in enumerate(mask[row].tolist()) if one]
        there = [t for t in written if regions[row, t] == region]
        assert found == max(written, default=0)
        assert inside == max(there, default=max(written, default=0))


def test_the_first_region_is_a_region_too() -> None:
    mask, regions = torch.tensor([[1, 1, 1, 0]]), torch.tensor([[0, 1, 1, 0]])
    assert last_token(mask, regions, 0).tolist() == [0]  # and not 2, as for no region, nor the padding
    assert last_token(mask, regions).tolist() == last_token(mask).tolist() == [2]


def test_marks_by_hand() -> None:
    # "a" "bc" "def" ends "a": characters 0, 1-2, 3-5, none, 6.
    ids = [[0, 1, 2, END, 0]] * 6
    marks = [[(1, 2)], [(2, 4)], [(0, 1), (6, 7)], [], [(1, 3), (2, 3)], [(0, 7)]]
    found = mark_tensor(ids, decode, ["abcdefa"] * 6, marks, 6)
    assert found.dtype == torch.bool
    assert found.int().tolist() == [
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],  # a token is marked by any of its characters
        [1, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0],  # an empty token counts between others
    ]


@quick
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.data())
def test_marked_tokens_are_those_that_share_a_character(ids: list[int], data: st.DataObject) -> None:
    text = decode(ids)
    ends = st.integers(0, len(text))
    ranges = [(min(pair), max(pair)) for pair in data.draw(st.lists(st.tuples(ends, ends), max_size=3))]
    expected = []
    for place, one in enumerate(ids):
        start = len(decode(ids[:place]))
        touched = range(start, start + len(PIECES[one]))
        expected.append(any(low <= character < high for low, high in ranges for character in touched))
    assert mark_tensor([ids], decode, [text], [ranges], len(ids)).tolist() == [expected]


def test_marks_on_another_text_are_refused() -> None:
    with pytest.raises(RewardError, match="penalize_span"):
        mark_tensor([[0, 1]], decode, ["another"], [[(0, 1)]], 2)
    assert not mark_tensor([[0, 1]], decode, ["another"], [[]], 2).any()  # nothing to place


def test_an_entry_for_each_completion() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mark_tensor([[0], [1]], decode, ["a", "bc"], [[(0, 1)]], 1)
