import json
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.words.structure import read_json, read_stated
from rlperc.words.text import MAX_MARKS, distinct_ngrams, label, normalise, units

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
SPOKEN = st.lists(st.sampled_from(["the", "red", "car", "Car", "stops", "红", "車", "ไ"]), max_size=30).map(" ".join)
KEYS = st.sampled_from("abc")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
)


@pytest.mark.parametrize(
    ("text", "options", "normal"),
    [
        ("  two\n\twords ", {}, "two words"),
        ("ﬁne", {}, "fine"),
        ("１２", {}, "12"),
        ("e\u0301", {}, "é"),
        ("a\u00a0b", {}, "a b"),
        ("Straße", {"fold_case": True}, "strasse"),
        ("İ", {"fold_case": True}, "i\u0307"),
        ("$5, please…", {"drop_punctuation": True}, "$5 please"),
        ("a.\u0301", {"drop_punctuation": True}, "á"),
        ("", {"fold_case": True, "drop_punctuation": True}, ""),
    ],
)
def test_normalise(text: str, options: dict[str, bool], normal: str) -> None:
    assert normalise(text, **options) == normal


@given(ANY, st.booleans(), st.booleans())
def test_normalising_twice_changes_nothing_more(text: str, fold_case: bool, drop_punctuation: bool) -> None:
    once = normalise(text, fold_case=fold_case, drop_punctuation=drop_punctuation)
    assert normalise(once, fold_case=fold_case, drop_punctuation=drop_punctuation) == once


@given(ANY)
def test_equivalent_text_becomes_equal(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(unicodedata.normalize("NFC", text)) == normalise(text)


@pytest.mark.parametrize("pile", ["\u0301\u0316", "\uff9e\u0316"])
def test_a_pile_of_marks_is_left_as_it_is_and_costs_no_quadratic_time(pile: str) -> None:
    assert normalise("a" + pile * (MAX_MARKS // 2)) == unicodedata.normalize("NFKC", "a" + pile * (MAX_MARKS // 2))
    began = time.perf_counter()
    assert normalise("a" + pile * 50_000) == "a" + pile * 50_000
    assert time.perf_counter() - began < 1.0  # NFKC itself takes several seconds


@pytest.mark.parametrize(
    ("value", "name"),
    [(3, "3"), ("3", "3"), (" a ", "a"), ("", None), (" ", None), (True, None), (None, None), (1.5, None), ([1], None)],
)
def test_label(value: object, name: str | None) -> None:
    assert label(value) == name


@given(JSON)
def test_read_stated_reads_what_read_json_reads_and_lets_a_fence_stand(value: object) -> None:
    text = json.dumps(value)
    assert read_stated(text) == read_stated(f"```json\n{text}\n```") == read_stated(f"```{text}```") == read_json(text)


@given(st.dictionaries(KEYS, JSON, min_size=1, max_size=3), st.integers(0, 3))
def test_read_stated_refuses_a_key_given_twice_at_any_depth(value: dict[str, object], depth: int) -> None:
    pairs = [*value.items(), *list(value.items())[:1]]
    twice = "{" + ",".join(f"{json.dumps(key)}:{json.dumps(inner)}" for key, inner in pairs) + "}"
    assert read_stated("[" * depth + twice + "]" * depth) is None


@pytest.mark.parametrize(
    "text", ["", "```", "``````", "```json```", "{", "NaN", '{"a": 1e999}', "[" * 9000 + "]" * 9000, "1" * 30_000]
)
def test_read_stated_refuses(text: str) -> None:
    assert read_stated(text) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("The red, red car", ["the", "red,", "red", "car"]),
        ("红车 and 車", ["红", "车", "and", "車"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # Devanagari has spaces
        ("a" * 50, ["a" * 24, "a" * 24, "aa"]),
        ("red红car", ["red", "红", "car"]),
        (" \n ", []),
        ("a" + "\n" * 50 + "b", ["a", "\n" * 24, "\n" * 24, "b"]),
    ],
)
def test_units(text: str, parts: list[str]) -> None:
    assert units(text) == parts


@given(ANY)
def test_units_lose_nothing_but_whitespace(text: str) -> None:
    assert "".join("".join(units(text)).split()) == "".join(text.lower().split())


@given(SPOKEN, st.integers(1, 6))
def test_ngrams_are_counted_as_by_hand(text: str, size: int) -> None:
    words = units(text)
    windows = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    assert distinct_ngrams(text, size) == (len(set(windows)), len(windows))


@given(SPOKEN, st.integers(1, 6))
def test_saying_it_again_adds_no_more_than_the_ngrams_at_the_seam(text: str, size: int) -> None:
    once, _ = distinct_ngrams(text, size)
    twice, more = distinct_ngrams(f"{text} {text}", size)
    assert twice <= once + size - 1
    assert more == max(0, 2 * len(units(text)) - size + 1)
