"""Coordinates: frames, reading boxes and points, overlap."""

import itertools
import json
import math
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlperc.errors import DataError, RecipeError
from rlperc.words.geometry import (
    Box,
    Point,
    Unreadable,
    box_fault,
    in_box,
    in_polygon,
    iou,
    pixel_scale,
    read_boxes,
    read_points,
    to_pixels,
)
from rlperc.words.response import read_response, stated_text

FRAMES = ("pixels", "resized", "unit", "thousand")
COORDINATE = st.floats(-5000, 5000).map(lambda value: round(value, 3))
SIZE = st.tuples(st.integers(1, 8000), st.integers(1, 8000)).map(list)
LABEL = st.none() | st.text(max_size=5)


@st.composite
def sound_boxes(draw: st.DrawFn) -> Box:
    x0, y0 = draw(COORDINATE), draw(COORDINATE)
    return Box(x0, y0, x0 + draw(st.floats(0.01, 3000)), y0 + draw(st.floats(0.01, 3000)))


@pytest.mark.parametrize(
    ("frame", "x", "y"),
    [("pixels", 10.0, 20.0), ("resized", 20.0, 80.0), ("unit", 4000.0, 16000.0), ("thousand", 4.0, 16.0)],
)
def test_a_point_in_each_frame(frame: str, x: float, y: float) -> None:
    scale = pixel_scale(frame, [400, 800], [200, 200])
    assert to_pixels(Point(10, 20), scale) == Point(x, y)
    assert to_pixels(Box(10, 20, 10, 20, "cup"), scale) == Box(x, y, x, y, "cup")


@given(sound_boxes(), sound_boxes(), SIZE, SIZE)
def test_overlap_does_not_depend_on_the_frame(left: Box, right: Box, size: list[int], resized: list[int]) -> None:
    for frame in FRAMES:
        x, y = pixel_scale(frame, size, resized)
        there = [Box(box.x0 / x, box.y0 / y, box.x1 / x, box.y1 / y) for box in (left, right)]
        back = [to_pixels(box, (x, y)) for box in there]
        assert back[0][:4] == pytest.approx(left[:4], rel=1e-9, abs=1e-6)
        assert iou(*there) == pytest.approx(iou(left, right), abs=1e-6)


@pytest.mark.parametrize("frame", ["unit", "thousand", "resized"])
@pytest.mark.parametrize("size", [None, [640], [640, 0], [640, -1], ["640", 480], [True, 480], [math.nan, 480], 640])
def test_a_frame_without_its_size_is_the_datas_fault(frame: str, size: Any) -> None:
    with pytest.raises(DataError, match="image_size"):
        pixel_scale(frame, size, [320, 240])


def test_the_resized_frame_needs_the_resized_size() -> None:
    with pytest.raises(DataError, match="resized_size"):
        pixel_scale("resized", [640, 480])


def test_an_unknown_frame_or_span_is_the_recipes_fault() -> None:
    with pytest.raises(RecipeError, match="did you mean 'pixels'"):
        pixel_scale("pixel", [640, 480])
    with pytest.raises(RecipeError, match="did you mean 'answer'"):
        stated_text(read_response(""), "answers")


A, B = Box(1, 2, 3, 4), Box(5.5, 6, 7, 8)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("[1, 2, 3, 4]", [A]),
        ("[[1, 2, 3, 4]]", [A]),
        ("[[1, 2, 3, 4], [5.5, 6, 7, 8]]", [A, B]),
        ("[]", []),
        ('{"bbox_2d": [1, 2, 3, 4], "label": "cup"}', [A._replace(label="cup")]),
        ('{"bbox": [1, 2, 3, 4], "score": 0.9}', [A]),
        ('[{"box": [1, 2, 3, 4], "label": null}, [5.5, 6, 7, 8]]', [A, B]),
        ("```json\n[1, 2, 3, 4]\n```", [A]),
        ("```\n[1, 2, 3, 4]```", [A]),
        ("(1,2),(3,4)", [A]),
        (" <|box_start|>(1,2),(3,4)<|box_end|><|box_start|>(5.5, 6), (7, 8)<|box_end|> ", [A, B]),
        ("(1,2)(3,4)\n(5.5,6)(7,8)", [A, B]),
        ("[3, 4, 1, 2]", [Box(3, 4, 1, 2)]),
        ("[-1, 0, 1e3, 1]", [Box(-1, 0, 1000, 1)]),
    ],
)
def test_read_boxes(text: str, boxes: list[Box]) -> None:
    assert read_boxes(text) == boxes


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("[1, 2]", [Point(1, 2)]),
        ("[[1, 2], [3, 4]]", [Point(1, 2), Point(3, 4)]),
        ("[]", []),
        ('{"point_2d": [1, 2], "label": "knob"}', [Point(1, 2)]),
        ('[{"point": [1, 2]}, {"x": 3, "y": 4}]', [Point(1, 2), Point(3, 4)]),
        ("(1, 2)", [Point(1, 2)]),
        ("(1, 2), (-3.5, +4)", [Point(1, 2), Point(-3.5, 4)]),
        ("```json\n[1, 2]\n```", [Point(1, 2)]),
    ],
)
def test_read_points(text: str, points: list[Point]) -> None:
    assert read_points(text) == points


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing stated"),
        ("``````", "nothing stated"),
        ("null", "not JSON"),
        ("the cup", "not JSON"),
        ("[1, 2, 3, 4] [1, 2, 3, 4]", "not JSON"),
        ("[1, 2, NaN, 4]", "not JSON"),
        ("[1, 2, 1e999, 4]", "not JSON"),
        ("[1, 2, 3, 1000000001]", "a box has a coordinate that is no number up to 1e+09"),
        ("[1, 2, 3, true]", "a box has a coordinate that is no number up to 1e+09"),
        ("[1, 2, 3, null]", "a box has a coordinate that is no number up to 1e+09"),
        ("[1, 2, 3]", "a box has 3 numbers instead of 4"),
        ("[[]]", "a box has 0 numbers instead of 4"),
        ("[[1, 2, 3, 4], 5]", "a box has 2 numbers instead of 4"),
        ("7", "a box is not a list of numbers"),
        ('"[1, 2, 3, 4]"', "a box is not a list of numbers"),
        ("{}", "an object without a box"),
        ('{"bbox": null}', "a box is not a list of numbers"),
        ('{"bbox": [1, 2, 3, 4], "box": [1, 2, 3, 4]}', "an object with two box keys"),
        ('{"bbox": [1, 2, 3, 4], "label": 7}', "a label is not text"),
        ("(1,2)", "a box has one corner instead of two"),
        ("(1,2),(3,4) a cup", "not JSON"),
        ("(١,2),(3,4)", "not JSON"),
        ("(1,2),(3,4)" * 201, "more than 200 boxes"),
        (json.dumps([[1, 2, 3, 4]] * 201), "more than 200 boxes"),
        (" " * 20_001, "more than 20000 characters"),
        ("(1,2),(3,4)" + "<|box_end|>" * 2000, "more than 20000 characters"),
    ],
)
def test_what_is_no_box_says_why(text: str, why: str) -> None:
    assert read_boxes(text) == Unreadable(why)


@given(st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE, LABEL), max_size=20))
def test_boxes_are_read_back_however_they_are_written(written: list[tuple[Any, ...]]) -> None:
    boxes = [Box(*one) for one in written]
    objects = [{"bbox_2d": box[:4], "label": box.label} for box in boxes]
    assert read_boxes(json.dumps(objects)) == boxes
    bare = [box._replace(label=None) for box in boxes]
    assert read_boxes(json.dumps([box[:4] for box in boxes])) == bare
    if boxes:
        assert read_boxes(" ".join("({:f},{:f}),({:f},{:f})".format(*box) for box in boxes)) == bare


@given(st.text() | st.text(alphabet='[]{}(),"bboxpoint_2d:xy-.0123456789 eE`|<>'))
def test_reading_never_raises(text: str) -> None:
    for read in (read_boxes(text), read_points(text)):
        assert isinstance(read, Unreadable | list)


@pytest.mark.parametrize(
    "text",
    ["(" * 10_000_000, "(1,2)" * 2_000_000, "[" * 20_000, "(1," + " " * 19_000, "(1 " * 6000, "`" * 19_999, "\0\ud800" * 9000],
)
def test_hostile_text_is_read_in_no_time(text: str) -> None:
    start = time.perf_counter()
    assert isinstance(read_boxes(text), Unreadable)
    assert isinstance(read_points(text), Unreadable)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("left", "right", "value"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),  # 50 / 150
        ((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # they touch
        ((0, 0, 10, 10), (10, 10, 0, 0), 0.0),  # inverted
        ((0, 0, 10, 10), (5, 0, 5, 10), 0.0),  # no width
    ],
)
def test_iou_by_hand(left: tuple[int, ...], right: tuple[int, ...], value: float) -> None:
    assert iou(Box(*left), Box(*right)) == value


@given(sound_boxes(), sound_boxes())
def test_iou_is_symmetric_bounded_and_1_for_the_same_box(left: Box, right: Box) -> None:
    assert iou(left, right) == iou(right, left)
    assert 0.0 <= iou(left, right) <= 1.0
    assert iou(left, left) == 1.0


@given(st.lists(st.integers(0, 8), min_size=8, max_size=8))
def test_iou_counts_the_cells_of_a_grid(corners: list[int]) -> None:
    left, right = (Box(*map(float, corners[i : i + 4])) for i in (0, 4))

    def cells(box: Box) -> set[tuple[int, int]]:
        return set(itertools.product(range(int(box.x0), int(box.x1)), range(int(box.y0), int(box.y1))))

    union = cells(left) | cells(right)
    assert iou(left, right) == (len(cells(left) & cells(right)) / len(union) if union else 0.0)


@given(sound_boxes(), sound_boxes())
def test_iou_agrees_with_cocos(left: Box, right: Box) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    corner_and_size = [[box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0] for box in (left, right)]
    assert iou(left, right) == pytest.approx(coco.iou(corner_and_size[:1], corner_and_size[1:], [0])[0][0], abs=1e-6)


@given(st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE))
def test_a_box_is_sound_exactly_where_it_overlaps_itself(corners: tuple[float, ...]) -> None:
    box = Box(*corners)
    assert (box_fault(box) == "") == (iou(box, box) == 1.0)
    swapped = Box(box.x1, box.y1, box.x0, box.y0)
    assert box_fault(box) or box_fault(swapped) == "inverted box"


@given(sound_boxes(), COORDINATE, COORDINATE)
def test_a_rectangle_is_a_box_but_for_its_border(box: Box, x: float, y: float) -> None:
    point = Point(x, y)
    assume(x not in (box.x0, box.x1) and y not in (box.y0, box.y1))
    outline = [box.x0, box.y0, box.x1, box.y0, box.x1, box.y1, box.x0, box.y1]
    assert in_polygon(point, outline) == in_box(point, box)
    assert in_polygon(point, outline[2:] + outline[:2]) == in_box(point, box)


def test_a_pentagram_is_hollow_by_the_even_odd_rule() -> None:
    outline = [number for k in range(5) for number in (math.sin(k * 0.8 * math.pi), -math.cos(k * 0.8 * math.pi))]
    assert not in_polygon(Point(0, 0), outline)
    assert in_polygon(Point(0, -0.9), outline)
    assert not in_polygon(Point(0.9, -0.9), outline)
