"""One-to-one matching, and the rewards that match sets: boxes, points and objects in any order."""

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.reward.attempt import attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.matching import Pair, f1, match, precision, recall
from rlperc.words.response import read_response

TABLE = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=4)
)
REWARDS = {name: find_reward(name) for name in ("box_iou", "boxes_matched", "point_hit", "objects_matched")}


def value(name: str, stated: Any, columns: dict[str, Any], **with_: Any) -> float:
    outcome = attempt(REWARDS[name], read_response(f"<perception>{json.dumps(stated)}</perception>"), columns, with_)
    assert outcome.value is not None
    return outcome.value


def test_the_best_pair_first_is_not_the_best_match() -> None:
    # Taking 9 first leaves 0 (total 9); 8 + 7 is more.
    table = [[9, 8], [7, 0]]
    assert match([0, 1], [0, 1], lambda i, j: table[i][j]) == [Pair(0, 1, 8), Pair(1, 0, 7)]


def test_a_pair_that_scores_nothing_is_no_match() -> None:
    assert match([0, 1], [0, 1], lambda i, j: float(i == j == 0)) == [Pair(0, 0, 1.0)]
    assert match([], [1], lambda i, j: 1.0) == []
    assert match([1], [], lambda i, j: 1.0) == []


@given(TABLE)
def test_no_other_match_has_a_higher_total(table: list[list[int]]) -> None:
    rows, columns = range(len(table)), range(len(table[0]))
    pairs = match(rows, columns, lambda i, j: table[i][j])
    assert len({pair.left for pair in pairs}) == len({pair.right for pair in pairs}) == len(pairs)
    assert all(pair.score == table[pair.left][pair.right] > 0 for pair in pairs)
    few, many = sorted((rows, columns), key=len)
    totals = [
        sum(table[i][j] if few is rows else table[j][i] for i, j in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    ]
    assert sum(pair.score for pair in pairs) == max(totals)


@given(TABLE, st.randoms(use_true_random=False))
def test_the_total_does_not_depend_on_the_order(table: list[list[int]], random: Any) -> None:
    def total(rows: list[int], columns: list[int]) -> float:
        return sum(pair.score for pair in match(rows, columns, lambda i, j: table[i][j]))

    rows, columns = list(range(len(table))), list(range(len(table[0])))
    expected = total(rows, columns)
    random.shuffle(rows)
    random.shuffle(columns)
    assert total(rows, columns) == expected


@given(st.integers(0, 50), st.integers(0, 50), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(stated: int, gold: int, share: float) -> None:
    matched = share * min(stated, gold)
    p, r = precision(matched, stated), recall(matched, gold)
    assert 0 <= p <= 1
    assert 0 <= r <= 1
    assert 0 <= f1(matched, stated, gold) <= 1
    if matched:
        assert f1(matched, stated, gold) == pytest.approx(2 * p * r / (p + r))
        assert f1(matched, stated + 1, gold) < f1(matched, stated, gold)


def test_nothing_stated_where_nothing_is_scores_full() -> None:
    assert (precision(0, 0), recall(0, 0), f1(0, 0, 0)) == (1.0, 1.0, 1.0)
    assert (precision(0, 0), recall(0, 3), f1(0, 0, 3)) == (1.0, 0.0, 0.0)
    assert (precision(0, 3), recall(0, 0), f1(0, 3, 0)) == (0.0, 1.0, 0.0)


CORNER = st.integers(0, 20)
BOX = st.tuples(CORNER, CORNER, st.integers(1, 20), st.integers(1, 20)).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
BOXES = st.lists(BOX, max_size=6)


@given(BOXES, BOXES, st.randoms(use_true_random=False), st.booleans(), st.sampled_from([0.0, 0.3, 0.5]))
def test_boxes_match_in_any_order_and_one_more_beside_them_lowers_the_score(
    stated: list[list[int]], gold: list[list[int]], random: Any, soft: bool, min_iou: float
) -> None:
    with_ = {"frame": "pixels", "soft": soft, "min_iou": min_iou}
    before = value("boxes_matched", stated, {"boxes": gold}, **with_)
    shuffled, shuffled_gold = random.sample(stated, len(stated)), random.sample(gold, len(gold))
    assert value("boxes_matched", shuffled, {"boxes": shuffled_gold}, **with_) == pytest.approx(before)
    assert value("boxes_matched", gold, {"boxes": gold}, **with_) == 1.0
    after = value("boxes_matched", [*stated, [100, 100, 101, 101]], {"boxes": gold}, **with_)
    assert after < before or before == after == 0.0
    assert value("boxes_matched", stated, {"boxes": gold}, frame="pixels", min_iou=0.9) <= before


@given(BOX, BOX, st.integers(2, 50))
def test_repeating_a_box_never_pays(box: list[int], gold: list[int], times: int) -> None:
    once = value("boxes_matched", [box], {"boxes": [gold]}, frame="pixels", min_iou=0.0)
    often = value("boxes_matched", [box] * times, {"boxes": [gold]}, frame="pixels", min_iou=0.0)
    assert often < once or once == often == 0.0
    assert value("box_iou", [box] * times, {"boxes": [gold]}, frame="pixels") == 0.0


@given(BOXES, st.lists(st.tuples(CORNER, CORNER).map(list), max_size=8), st.randoms(use_true_random=False))
def test_points_hit_in_any_order(boxes: list[list[int]], points: list[list[int]], random: Any) -> None:
    before = value("point_hit", points, {"boxes": boxes}, frame="pixels")
    shuffled = random.sample(points, len(points)), {"boxes": random.sample(boxes, len(boxes))}
    assert value("point_hit", *shuffled, frame="pixels") == before
    assert value("point_hit", [*points, [99, 99]], {"boxes": boxes}, frame="pixels") <= before
    hits = round(before * (len(points) + len(boxes)) / 2)
    assert hits <= min(len(points), len(boxes))


OBJECT = st.fixed_dictionaries(
    {"color": st.sampled_from(["red", "blue"])},
    optional={"shape": st.sampled_from(["cube", "ball"]), "size": st.integers(1, 2), "of": st.just([1, {"a": None}])},
)
OBJECTS = st.lists(OBJECT, max_size=5)


@given(OBJECTS, OBJECTS, st.randoms(use_true_random=False))
def test_objects_match_in_any_order(stated: list[Any], gold: list[Any], random: Any) -> None:
    before = value("objects_matched", stated, {"perception": json.dumps(gold)})
    shuffled = json.dumps(random.sample(gold, len(gold)))
    assert value("objects_matched", random.sample(stated, len(stated)), {"perception": shuffled}) == pytest.approx(before)
    assert value("objects_matched", gold, {"perception": shuffled}) == 1.0
    swapped = value("objects_matched", gold, {"perception": json.dumps(stated)})
    assert swapped == pytest.approx(before)
    extra = value("objects_matched", [*stated, {"nothing": "alike"}], {"perception": json.dumps(gold)})
    assert extra < before or before == extra == 0.0


def test_the_longest_list_that_is_read_is_matched_well_within_the_time_limit() -> None:
    boxes = [[7 * i % 50, 11 * i % 50, 7 * i % 50 + 60, 11 * i % 50 + 60] for i in range(200)]
    start = time.perf_counter()
    assert value("boxes_matched", boxes, {"boxes": boxes}, frame="pixels", min_iou=0.0) == 1.0
    assert time.perf_counter() - start < 2.5
