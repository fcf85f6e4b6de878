"""Answers as quantities, choices and plain text."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.words.answers import boxed, exact_number, number, plain_text, read_choice, read_quantity

COLOURS = ["red", "green", "dark blue"]


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=3))
def test_a_decimal_is_read_without_rounding(value: object) -> None:
    assert exact_number(str(value)) == Fraction(str(value))
    assert number(str(value)) == float(str(value))


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("3.5 cm", ("m", Fraction(35, 1000))),
        ("35mm", ("m", Fraction(35, 1000))),
        ("1,200 g", ("g", Fraction(1200))),
        ("1.2 kilograms", ("g", Fraction(1200))),
        ("2 Hours", ("s", Fraction(7200))),
        ("90 min.", ("s", Fraction(5400))),
        ("5 µm", ("m", Fraction(5, 10**6))),  # the micro sign
        ("5 μm", ("m", Fraction(5, 10**6))),  # the Greek letter
        ("12 %", ("percent", Fraction(12))),
        ("45°", ("degree", Fraction(45))),
        ("2 mW", ("W", Fraction(2, 1000))),
        ("2 MW", ("W", Fraction(2 * 10**6))),
        ("-4", ("", Fraction(-4))),
        ("12 Apples", ("'apples'", Fraction(12))),
        ("5 m^2", ("'m^2'", Fraction(5))),
        ("60 km/h", ("'km/h'", Fraction(60))),
        ("5 M", ("'m'", Fraction(5))),  # a capital M is no metre, and no unit that is known
        ("3 or 4", None),
        ("14 15", None),
        ("cm", None),
        ("", None),
        ("1e999 m", None),
        ("٣ cm", None),
        ("5 cm or 6 cm", None),
        ("5 " + "m" * 1000, None),
    ],
)
def test_read_quantity(text: str, base: tuple[str, Fraction] | None) -> None:
    read = read_quantity(text)
    assert (read and (read.dimension, read.value * read.factor)) == base


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=1), st.sampled_from(["m", "g", "s", "l", "W", "Hz"]))
def test_prefixes_agree_with_each_other(value: Fraction, unit: str) -> None:
    sizes = {q.value * q.factor for q in (read_quantity(f"{value * 1000} {unit}"), read_quantity(f"{value} k{unit}")) if q}
    assert sizes == {value * 1000}


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ("so \\boxed{5}.", "5"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{}", ""),
        ("\\boxed{5", None),
        ("\\boxed 5", None),
        ("5", None),
        ("\\boxed{" + "x" * 3000 + "}", None),
    ],
)
def test_boxed(text: str, contents: str | None) -> None:
    assert boxed(text) == contents


@given(st.text().filter(lambda text: "{" not in text and "}" not in text and "\\boxed" not in text), st.text())
def test_what_is_boxed_is_read_back(contents: str, before: str) -> None:
    assert boxed(f"{before}\\boxed{{{contents}}}") == contents


@pytest.mark.parametrize(
    ("text", "index"),
    [
        *(
            ("B", 1),
            ("b", 1),
            ("(B)", 1),
            ("[b]", 1),
            ("B.", 1),
            ("B)", 1),
            ("**B**", 1),
            ("\\boxed{B}", 1),
            ("\\text{(B)}", 1),
        ),
        *(("green", 1), ("Green.", 1), ("dark   BLUE", 2), ("B. green", 1), ("(C) dark blue", 2), ("C: Dark blue.", 2)),
        *(
            ("", None),
            (" ", None),
            ("D", None),
            ("A or B", None),
            ("A, B, C", None),
            ("ABC", None),
            ("A B", None),
            ("B. red", None),
        ),
        *(("red green dark blue", None), ("blue", None), ("not green", None), ("\\boxed{A}\\boxed{B}", None), ("…", None)),
    ],
)
def test_read_choice(text: str, index: int | None) -> None:
    assert read_choice(text, COLOURS) == index


@given(
    st.lists(
        st.text(min_size=2, max_size=8).filter(lambda t: len(plain_text(t)) > 1), min_size=2, max_size=6, unique_by=plain_text
    )
)
def test_every_choice_is_named_by_its_letter_and_by_its_text(choices: list[str]) -> None:
    for index, choice in enumerate(choices):
        assert read_choice(chr(ord("A") + index), choices) == index
        assert read_choice(choice, choices) in (index, None)  # None: the text may be one in brackets or a box
    assert read_choice(" ".join(choices), choices) is None


def test_letters_alone_and_choices_alike() -> None:
    assert read_choice("C") == 2
    assert read_choice("green") is None
    assert read_choice("same", ["same", "same"]) is None
    assert read_choice("A", ["B", "A"]) == 0  # a letter counts as a letter


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (" Marie  CURIE. ", "marie curie", True),
        ("“Yes”", "*yes*", True),
        ("Ｙｅｓ", "yes", True),
        ("5%", "5", False),
        ("-5", "5", False),
        ("5!", "5", False),
        ("C++", "C", False),
        ("a.b", "ab", False),
    ],
)
def test_plain_text(left: str, right: str, equal: bool) -> None:
    assert (plain_text(left) == plain_text(right)) == equal


@given(st.text())
def test_plain_text_is_plain(text: str) -> None:
    assert plain_text(plain_text(text)) == plain_text(text)
    read_quantity(text)
    read_choice(text, [text, "other"])


HOSTILE = [
    "1" * 10**6,
    "1 " + "m" * 10**6,
    "\\boxed{" * 10**5,
    "\\boxed{" + "{}" * 10**6,
    "(A" * 10**6,
    "A" + " " * 10**6 + ".",
    "1,111" * 10**5,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_long_text_takes_no_time(text: str) -> None:
    began = time.process_time()
    read_quantity(text)
    read_choice(text, COLOURS)
    boxed(text)
    assert time.process_time() - began < 0.2
