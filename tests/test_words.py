import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.words.answers import number
from rlperc.words.structure import canonical, read_grid, read_json, same_cell, same_value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7.0),
        (" -3 ", -3.0),
        ("+2.50", 2.5),
        (".5", 0.5),
        ("1,234,567.5", 1234567.5),
        ("2e3", 2000.0),
        ("12,34", None),
        ("1e", None),
        ("e5", None),
        ("3 or 4", None),
        ("four", None),
        ("", None),
        ("+", None),
        ("٣", None),  # an Arabic digit: answers are ASCII
        ("nan", None),
        ("inf", None),
        ("1_000", None),
        ("9" * 65, None),
    ],
)
def test_number(text: str, value: float | None) -> None:
    assert number(text) == value


@given(st.integers(-(10**15), 10**15))
def test_every_integer_is_read_back(value: int) -> None:
    assert number(str(value)) == value
    assert number(f"{value:,}") == value


@given(st.text())
def test_number_never_raises(text: str) -> None:
    number(text)


@given(JSON)
def test_canonical_text_does_not_depend_on_how_it_was_written(value: object) -> None:
    loosely = json.dumps(value, indent=2, ensure_ascii=True)
    assert canonical(read_json(loosely)) == canonical(value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "[" * 100_000, "9" * 200, "{", "", "'a'", "x" * 30_000])
def test_hostile_json_is_refused_without_raising(text: str) -> None:
    assert read_json(text) is None


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("[[8, 7], [1, 1]]", [[8, 7], [1, 1]]),
        ("[[8]]", [[8]]),
        ("[[8, 7], [1]]", None),
        ("[8, 7]", None),
        ("[]", None),
        ("[[]]", None),
        ("[[[1]]]", None),
        ('{"a": 1}', None),
        ("8 7", None),
    ],
)
def test_read_grid(text: str, grid: object) -> None:
    assert read_grid(text) == grid


@given(JSON)
def test_equal_values_are_equal_however_deep(value: object) -> None:
    assert same_value(value, json.loads(json.dumps(value)))
    assert not same_value([value], [value, value])


def test_true_is_not_one() -> None:
    assert not same_cell(True, 1)
    assert same_cell(1, 1.0)
    assert not same_cell("1", 1)
    assert not same_value({"a": [True]}, {"a": [1]})
    assert same_value({"a": [1.0]}, {"a": [1]})
