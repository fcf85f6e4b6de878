"""Agreement with those that have the right answer, and the reading of what a perception or an answer states."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.reward.attempt import attempt_many
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response
from rlperc.words.stated import MAX_DEPTH, as_json, as_text, read_perception
from rlperc.words.structure import MAX_CHARACTERS

Member = tuple[str | None, str | None]
"""What a completion states as its perception and as its answer; None for a missing tag."""


def agree_right(members: list[Member], gold: Any) -> list[float | None]:
    return scores("agreement_right", members, {"answer": gold})


def scores(name: str, members: list[Member], columns: dict[str, Any]) -> list[float | None]:
    outcomes = attempt_many(find_reward(name), [read_response(written(*one)) for one in members], columns, {})
    assert all(outcome.status in ("value", "skip") for outcome in outcomes)
    return [outcome.value for outcome in outcomes]


def written(perception: str | None, answer: str | None) -> str:
    tags = (("perception", perception), ("answer", answer))
    return "".join(f"<{tag}>{text}</{tag}>" for tag, text in tags if text is not None)


def is_right(answer: str, gold: Any) -> bool:
    """Whether a completion with this answer has a vote: one that states the same sees it."""
    return agree_right([("a", None), ("a", answer)], gold)[0] == 1.0


GOLD = "14"
RIGHT = ("14", " 14.0", "+14", "014", "1.4e1", "```json\n14\n```")
WRONG = (None, "", "[]", "15", "14 or 15", "[14]", '"14"', "true", "1" * (MAX_CHARACTERS + 1))
PERCEPTIONS = st.sampled_from([None, "", "[]", "[[8,7]]", "[[8, 7.0]]", "[[8,1]]", "a  b", "A b", "1e999"]) | st.text(max_size=8)
RIGHT_ONES = st.tuples(PERCEPTIONS, st.sampled_from(RIGHT))
ANY = st.tuples(PERCEPTIONS, st.sampled_from([*RIGHT, *WRONG]) | st.text(max_size=8))


@given(st.lists(ANY, min_size=2, max_size=7), st.randoms(use_true_random=False))
def test_it_is_bounded_and_goes_with_the_completion_not_its_place(members: list[Member], random: Any) -> None:
    found = agree_right(members, GOLD)
    assert all(score is not None and 0.0 <= score <= 1.0 for score in found)
    order = list(range(len(members)))
    random.shuffle(order)
    assert agree_right([members[place] for place in order], GOLD) == [found[place] for place in order]


@given(st.lists(RIGHT_ONES, min_size=1, max_size=6), ANY)
def test_if_all_others_are_right_it_is_agreement(others: list[Member], one: Member) -> None:
    group = [one, *others]
    assert agree_right(group, GOLD)[0] == scores("agreement", group, {})[0]


@given(st.lists(ANY, min_size=2, max_size=7))
def test_it_is_the_mean_over_the_right_others_of_agreement_in_pairs(members: list[Member]) -> None:
    expected = []
    for place, one in enumerate(members):
        others = members[:place] + members[place + 1 :]
        pairs = [scores("agreement", [one, other], {})[0] for other in others if other[1] and is_right(other[1], GOLD)]
        expected.append(sum(filter(None, pairs)) / len(pairs) if pairs else 0.0)
    assert agree_right(members, GOLD) == pytest.approx(expected)


@given(st.lists(ANY, min_size=1, max_size=6), PERCEPTIONS)
def test_ones_own_answer_does_not_matter(others: list[Member], perception: str | None) -> None:
    first, *rest = [agree_right([(perception, answer), *others], GOLD)[0] for answer in (*RIGHT, *WRONG)]
    assert all(score == first for score in rest)


@given(st.lists(st.tuples(PERCEPTIONS, st.sampled_from(WRONG)), min_size=2, max_size=6))
def test_where_nobody_is_right_nobody_earns(members: list[Member]) -> None:
    assert agree_right(members, GOLD) == [0.0] * len(members)


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        *((answer, GOLD, True) for answer in RIGHT),
        *((answer, GOLD, False) for answer in WRONG if answer is not None),
        ("14", "14.0", True),
        ("14", 14, True),
        ("1,400", "1400", True),
        ("[1, 2.0]", "[1,2]", True),
        ("[2,1]", "[1,2]", False),
        ('{"b": 2, "a": 1}', '{"a":1,"b":2}', True),
        ("Light\n blue", "light  BLUE", True),
        ("light blue.", "light blue", False),
        ("True", "true", True),
        ("null", "null", True),
        ("3.5 cm", "35 mm", False),
        ("12345678901234567891", "12345678901234567890", False),  # the same float
        ("[" * 100 + "1" + "]" * 100, "[" * 100 + "1" + "]" * 100, True),
        ("[" * 100 + "1" + "]" * 100, "[" * 100 + "2" + "]" * 100, False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_which_answer_is_the_gold_one(answer: str, gold: Any, right: bool) -> None:
    assert is_right(answer, gold) == right


@pytest.mark.parametrize("gold", [None, "", " \n"])
def test_a_row_without_a_gold_answer_is_skipped(gold: str | None) -> None:
    assert agree_right([("a", "14"), ("a", "")], gold) == [None, None]


def test_a_group_of_one_is_skipped() -> None:
    assert agree_right([("a", "14")], GOLD) == [None]


# --- what a text states ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("perception", "stated"),
    [
        (None, (None, "no perception")),
        ("x" * (MAX_CHARACTERS + 1), (None, "the perception is too long")),
        ("[] …", (None, "the perception says nothing")),
        ('```json\n{"b": 1.0, "a": [2]}\n```', (("json", '{"a":[2],"b":1}'), "")),
        ("A  red\nBall", (("text", "a red ball"), "")),
        ("null", (("text", "null"), "")),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_perception_states(perception: str | None, stated: Any) -> None:
    assert read_perception(perception) == stated


def test_json_is_read_to_a_depth() -> None:
    # The innermost value is a level of its own.
    deepest = "[" * (MAX_DEPTH - 1) + "1.0" + "]" * (MAX_DEPTH - 1)
    assert as_json(deepest) == deepest.replace("1.0", "1")
    assert as_json(f"[{deepest}]") is None
    assert read_perception(f"[{deepest}]") == (("text", f"[{deepest}]"), "")


def test_large_whole_numbers_keep_their_form() -> None:
    assert as_json("1e300") == "1e+300"
    assert as_json("9007199254740992.0") != as_json("9007199254740992")
    assert as_json("9007199254740991.0") == as_json("9007199254740991")


@given(st.text(max_size=40))
def test_the_forms_of_a_text_are_forms_of_themselves(text: str) -> None:
    form = as_json(text)
    assert form is None or as_json(form) == form
    assert as_text(as_text(text)) == as_text(text)
