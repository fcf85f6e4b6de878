"""The rewards of single tasks: what holds for any graph, grid, count, text or table, and for any flood of text."""

import functools
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlperc.reward.attempt import Outcome, attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response, read_response_once, write_response

GRAPH = {"perception": '{"v":3,"c":2,"edges":[[0,1],[1,2]]}'}
GRID = json.dumps([[0] * 9] * 9)
BAND = {"low": 10, "high": 20}
# Each reward with a row of its own and its settings.
REWARDS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "answer_follows": ({"task": '{"world":"digits","grid":2,"kind":"total"}'}, {}),
    "chart_values": ({"perception": '{"a":1,"b":2}'}, {}),
    "coloring_valid": (GRAPH, {}),
    "count": ({"answer": '{"car":3}'}, {}),
    "format_tags": ({}, {}),
    "length_band": ({}, BAND),
    "no_repetition": ({}, {}),
    "perception_cells": ({"perception": GRID}, {}),
    "perception_edges": (GRAPH, {}),
    "perception_exact": ({"perception": "a red ball"}, {}),
    "sudoku_valid": ({"perception": GRID}, {}),
    "text_edit": ({"answer": "EXIT " * 1000}, {"unit": "character", "fold_case": True}),
}


reward = functools.cache(find_reward)


def outcome(name: str, text: str, row: Mapping[str, Any], tokens: int | None = None, **settings: Any) -> Outcome:
    return attempt(reward(name), read_response(text, tokens=tokens), row, settings)


def score(name: str, text: str, row: Mapping[str, Any], **settings: Any) -> float:
    value = outcome(name, text, row, **settings).value
    assert value is not None
    return value


def seen(value: Any) -> str:
    return f"<perception>{json.dumps(value)}</perception>"


def answered(value: Any) -> str:
    return f"<answer>{value if isinstance(value, str) else json.dumps(value)}</answer>"


# --- whatever a model writes -------------------------------------------------------------------------------------

HUGE = {
    "blanks": " " * 10**7,
    "brackets": "[" * 10**7,
    "words": "a " * 5_000_000,
    "one letter": "x" * 10**7,
    "marks": "a" + "\u0301\u0316" * 5_000_000,
    "pairs of text": "0:a," * 2_500_000,
    "20,000 ligatures": "ﷺ" * 20_000,
    "20,000 marks": "\u0301\u0316" * 10_000,
    "20,000 brackets": "[" * 10_000 + "]" * 10_000,
    "many edges": json.dumps([[0, 1]] * 3000, separators=(",", ":")),
    "many keys": json.dumps({str(i): i for i in range(1500)}, separators=(",", ":")),
    "20,000 blanks": "0" + " " * 19_990 + "0",
}


@pytest.mark.parametrize("flood", HUGE)
def test_a_flood_is_worth_nothing_and_costs_no_time(flood: str) -> None:
    text = f"{write_response(HUGE[flood], 'x', HUGE[flood])} and more"
    read = read_response_once(text, tokens=10**7)
    for name, (row, settings) in REWARDS.items():
        attempt(reward(name), read_response(write_response("0", "0", "0"), tokens=1), row, settings)  # it may import something
        began = time.perf_counter()
        got = attempt(reward(name), read, row, settings)
        taken = time.perf_counter() - began
        assert reward(name).bounded
        assert got.value is not None, got
        if (name, flood) != ("no_repetition", "many keys"):  # which differ
            assert got.value < 0.2, (name, got)
        assert taken < 0.1, name


@pytest.mark.parametrize("name", REWARDS)
@given(
    parts=st.lists(
        st.sampled_from(
            [
                "<perception>",
                "</perception>",
                "<think>",
                "</think>",
                "<answer>",
                "</answer>",
                "[[0,1]]",
                '{"a":1}',
                "1e999",
                "0:a,",
            ]
        )
        | st.text(st.characters(codec=None, exclude_categories=()), max_size=12),
        max_size=8,
    )
)
def test_any_text_has_a_value(name: str, parts: list[str]) -> None:
    row, settings = REWARDS[name]
    assert outcome(name, "".join(parts), row, tokens=5, **settings).status == "value"


# --- graphs ------------------------------------------------------------------------------------------------------

VERTICES = st.integers(0, 5)
EDGE = st.tuples(VERTICES, VERTICES).filter(lambda edge: edge[0] != edge[1]).map(list)
EDGES = st.lists(EDGE, max_size=10, unique_by=lambda edge: frozenset(edge))


@given(EDGES, EDGES, st.randoms(use_true_random=False))
def test_the_order_of_edges_and_of_their_ends_makes_no_difference(gold: list[Any], stated: list[Any], random: Any) -> None:
    row = {"perception": json.dumps(gold)}
    turned = [edge[::-1] if random.random() < 0.5 else edge for edge in stated]
    random.shuffle(turned)
    assert outcome("perception_edges", seen(stated), row) == outcome("perception_edges", seen(turned), row)
    assert score("perception_edges", seen(gold), {"perception": json.dumps(stated)}) == score(
        "perception_edges", seen(stated), row
    )


@given(EDGES, st.lists(EDGE, max_size=10))
def test_edges_are_all_right_only_where_they_are_the_same_once_each(gold: list[Any], stated: list[Any]) -> None:
    value = score("perception_edges", seen(stated), {"perception": json.dumps(gold)})
    same = sorted(map(sorted, gold)) == sorted(map(sorted, stated))
    assert (value == 1.0) == same
    again = score("perception_edges", seen([*stated, *stated]), {"perception": json.dumps(gold)})
    assert again <= value
    assert again < value or value in (0.0, 1.0 if not stated else 0.0)


@given(EDGES, st.lists(st.sampled_from("abcd"), min_size=6, max_size=6), st.permutations(range(6)), st.permutations("wxyz"))
def test_a_colouring_is_worth_what_it_is_under_any_names(
    edges: list[Any], colors: list[str], vertex: list[int], color: list[str]
) -> None:
    row = {"perception": json.dumps({"v": 6, "c": 3, "edges": edges})}
    renamed = {"perception": json.dumps({"v": 6, "c": 3, "edges": [[vertex[one], vertex[other]] for one, other in edges]})}
    other = {str(vertex[i]): color["abcd".index(name)] for i, name in enumerate(colors)}
    expected = all(colors[one] != colors[other] for one, other in edges) and len(set(colors)) == 3
    assert score("coloring_valid", answered(colors), row) == float(expected)
    assert score("coloring_valid", answered(other), renamed) == float(expected)
    assert score("coloring_valid", answered(", ".join(f"{key}: {value}" for key, value in other.items())), renamed) == float(
        expected
    )


# --- grids -------------------------------------------------------------------------------------------------------


@st.composite
def solved_grids(draw: st.DrawFn) -> list[list[int]]:
    """A solved Sudoku: the cyclic one with its digits renamed, and rows and columns moved within their bands."""
    digits = draw(st.permutations(range(1, 10)))
    rows, columns = ([3 * band + i for band in range(3) for i in draw(st.permutations(range(3)))] for _ in range(2))
    return [[digits[(3 * (r % 3) + r // 3 + c) % 9] for c in columns] for r in rows]


@given(solved_grids(), st.sets(st.integers(0, 80)), st.permutations(range(1, 10)))
def test_a_solution_stays_one_under_other_digits_for_both(solved: list[list[int]], kept: set[int], digits: list[int]) -> None:
    clues = [[digit if 9 * r + c in kept else 0 for c, digit in enumerate(row)] for r, row in enumerate(solved)]
    renamed = [[digits[digit - 1] for digit in row] for row in solved]
    other = [[digits[digit - 1] if digit else "-" for digit in row] for row in clues]
    assert score("sudoku_valid", answered(solved), {"perception": json.dumps(clues)}) == 1.0
    assert score("sudoku_valid", answered(renamed), {"perception": json.dumps(other)}) == 1.0
    agrees = all(solved[place // 9][place % 9] == renamed[place // 9][place % 9] for place in kept)
    assert score("sudoku_valid", answered(renamed), {"perception": json.dumps(clues)}) == float(agrees)


@given(solved_grids(), st.integers(0, 8), st.integers(0, 8), st.integers(1, 9))
def test_no_solution_survives_another_digit(solved: list[list[int]], row: int, column: int, digit: int) -> None:
    assume(solved[row][column] != digit)
    solved[row][column] = digit
    got = outcome("sudoku_valid", answered(solved), {"perception": GRID})
    assert (got.value, got.why) == (0.0, f"row {row + 1} repeats a digit")


# --- counts ------------------------------------------------------------------------------------------------------

COUNTS = st.dictionaries(st.sampled_from(["car", "dog", "cat", "cow"]), st.integers(0, 20), max_size=4)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_closer_count_is_worth_no_less(gold: int, one: int, other: int) -> None:
    near, far = sorted((one, other), key=lambda stated: abs(stated - gold))
    row = {"answer": str(gold)}
    assert score("count", answered(str(near)), row) >= score("count", answered(str(far)), row)
    assert (
        score("count", answered(str(one)), row, exact=True)
        == float(one == gold)
        == float(score("count", answered(str(one)), row) == 1)
    )


@given(COUNTS, COUNTS, st.lists(st.text("xyz", min_size=1, max_size=3), max_size=5))
def test_padding_classes_never_pays(gold: dict[str, int], stated: dict[str, int], padding: list[str]) -> None:
    row = {"answer": json.dumps(gold)}
    value = score("count", answered(stated), row)
    assert (value == 1.0) == (
        all(stated.get(k) == v for k, v in gold.items()) and not any(v for k, v in stated.items() if k not in gold)
    )
    assert score("count", answered({**stated, **dict.fromkeys(padding, 0)}), row) == value
    assert score("count", answered({**stated, **dict.fromkeys(padding, 1)}), row) <= value


# --- text --------------------------------------------------------------------------------------------------------

LINE = st.text("ab c", min_size=1, max_size=30).filter(lambda text: text.split() != [])


@given(LINE, LINE, st.sampled_from(["character", "word"]))
def test_edit_distance_is_a_metric_seen_from_either_side(one: str, other: str, unit: str) -> None:
    def parts(text: str) -> int:
        return len(text.split()) if unit == "word" else len(" ".join(text.split()))

    there, back = (outcome("text_edit", answered(a), {"answer": b}, unit=unit).value for a, b in ((one, other), (other, one)))
    assert there is not None
    assert back is not None
    assert (there == 1.0) == (one.split() == other.split()) == (back == 1.0)
    assert there <= 1 - abs(parts(one) - parts(other)) / parts(other) + 1e-9 or there == 0.0
    if there > 0 and back > 0:  # neither is clipped, so both hold the same number of edits
        assert (1 - there) * parts(other) == pytest.approx((1 - back) * parts(one))


@given(LINE, LINE, st.floats(0, 1))
def test_the_threshold_leaves_a_score_or_takes_it_whole(stated: str, gold: str, threshold: float) -> None:
    plain = score("text_edit", answered(stated), {"answer": gold})
    cut = score("text_edit", answered(stated), {"answer": gold}, min_similarity=threshold)
    assert cut == (plain if plain >= threshold else 0.0)


def test_text_beyond_what_is_read() -> None:
    assert outcome("text_edit", answered("a" * 10_001), {"answer": "a" * 9999}).why == "longer than 10000 characters"
    assert outcome("text_edit", answered("a"), {"answer": "a" * 10_001}).status == "skip"


# --- charts ------------------------------------------------------------------------------------------------------

TABLE = st.dictionaries(st.sampled_from("pqrst"), st.integers(-50, 50), max_size=5)


@given(TABLE, TABLE, st.randoms(use_true_random=False))
def test_the_order_and_the_form_of_a_table_make_no_difference(gold: dict[str, int], stated: dict[str, int], random: Any) -> None:
    row = {"perception": json.dumps(gold)}
    pairs = [[name.upper(), value] for name, value in stated.items()]
    random.shuffle(pairs)
    value = score("chart_values", seen(stated), row, relative_tolerance=0.0)
    assert value == score("chart_values", seen(pairs), row, relative_tolerance=0.0)
    assert (value == 1.0) == (gold == stated)
    assert value <= score("chart_values", seen(stated), row, relative_tolerance=0.5)


@given(TABLE.filter(bool), st.lists(st.integers(-50, 50), min_size=1, max_size=5))
def test_guessing_a_label_again_never_pays(gold: dict[str, int], guesses: list[int]) -> None:
    row = {"perception": json.dumps(gold)}
    pairs = [[name, value] for name, value in gold.items()]
    first = next(iter(gold))
    assert score("chart_values", seen(pairs), row) == 1.0
    assert score("chart_values", seen([*pairs, *([first, guess] for guess in guesses)]), row) < 1.0
