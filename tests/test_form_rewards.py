"""The rewards of form (length, repetition, tags): what holds for any response."""

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.reward.attempt import Outcome, attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response, write_response

BAND = {"low": 10, "high": 20}
reward = functools.cache(find_reward)


def outcome(name: str, text: str, tokens: int | None = None, **settings: Any) -> Outcome:
    return attempt(reward(name), read_response(text, tokens=tokens), {}, settings)


def score(name: str, text: str, **settings: Any) -> float:
    value = outcome(name, text, **settings).value
    assert value is not None
    return value


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 100), st.integers(0, 1000))
def test_length_falls_with_the_distance_from_the_band(low: int, width: int, slack: int, tokens: int) -> None:
    def at(count: int) -> float:
        return score("length_band", "", tokens=count, low=low, high=low + width, slack=slack)

    assert (at(tokens) == 1.0) == (low <= tokens <= low + width)
    further = tokens + 1 if tokens > low else max(tokens - 1, 0)
    assert at(further) <= at(tokens)
    assert at(low + width + slack + 1) == 0.0
    assert at(low + width + slack // 2) >= 0.5


def test_an_unknown_length_is_our_fault_and_says_what_is_needed() -> None:
    got = outcome("length_band", "<answer>4</answer>", **BAND)
    assert got.status == "error"
    assert "a column `tokens`" in got.why


@pytest.mark.parametrize(
    ("name", "settings"),
    [("length_band", {"low": 20, "high": 10}), ("length_band", {**BAND, "slack": -1}), ("no_repetition", {"ngram": 0})],
)
def test_settings_that_mean_nothing_are_refused(name: str, settings: dict[str, int]) -> None:
    assert outcome(name, "a", tokens=15, **settings).status == "error"


def test_a_loop_at_the_end_of_a_long_text_is_seen() -> None:
    fine = " ".join(f"w{i}" for i in range(20_000))
    assert score("no_repetition", fine) == 1.0
    assert score("no_repetition", fine + " and so on" * 5000) < 0.6
    assert score("no_repetition", "and so on " * 5000 + fine) < 0.6


@given(st.text(" \n\ta", max_size=6), st.text(" \n\ta", max_size=6), st.text(" \n\ta", max_size=6), st.integers(0, 3))
def test_only_blanks_may_stand_beside_the_tags(inside: str, beside: str, between: str, place: int) -> None:
    parts = [f"<{tag}>{inside}x</{tag}>" for tag in ("perception", "think", "answer")]
    parts.insert(place, beside)
    got = score("format_tags", between.replace("a", " ").join(parts))
    assert got == float(not beside.strip())


def test_padding_is_not_the_form() -> None:
    right = write_response("a", "b", "c")
    assert score("format_tags", right + " " * 1000) == 1.0
    assert score("format_tags", right + " " * 1001) == 0.0
    assert score("format_tags", " " * 1001 + right) == 0.0
    assert outcome("format_tags", write_response("a", " " * 3000 + "b", "c")).why == "more than 1000 blanks in <think>"
