"""Masks: COCO's encodings against pycocotools, polygons against their definition, and what a model might write instead."""

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlperc.errors import DataError
from rlperc.reward.attempt import Outcome, attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.geometry import Point, Unreadable
from rlperc.words.masks import MAX_PIXELS, Mask, Polygons, Rle, in_mask, mask_iou, mask_of, mask_to_pixels, rasterize, read_mask
from rlperc.words.response import read_response

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11 on numpy 2

Grid = NDArray[np.bool_]


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits).reshape(height, width)


CORNER = st.floats(-4, 24) | st.integers(-4, 24).map(float)
OUTLINE = st.lists(st.tuples(CORNER, CORNER), min_size=3, max_size=8).map(
    lambda corners: [n for corner in corners for n in corner]
)


def coco() -> Any:
    return pytest.importorskip("pycocotools.mask")


def drawn(mask: Mask | Unreadable, height: int, width: int) -> Grid:
    assert not isinstance(mask, Unreadable)
    grid = rasterize(mask, height, width)
    assert not isinstance(grid, Unreadable)
    return grid


def counts_of(grid: Grid) -> list[int]:
    """Run lengths by their definition: down the columns, from 0."""
    flat = grid.T.ravel().tolist()
    counts, now = [0], False
    for bit in flat:
        if bit != now:
            counts.append(0)
            now = bit
        counts[-1] += 1
    return counts


@given(grids())
def test_a_list_of_counts_is_read_back(grid: Grid) -> None:
    mask = mask_of({"size": list(grid.shape), "counts": counts_of(grid)})
    assert np.array_equal(drawn(mask, *grid.shape), grid)
    assert isinstance(mask, Rle)
    inside = [[in_mask(Point(x + 0.5, y + 0.5), mask) for x in range(grid.shape[1])] for y in range(grid.shape[0])]
    assert np.array_equal(inside, grid)
    assert not in_mask(Point(-0.1, 0), mask)
    assert not in_mask(Point(grid.shape[1], 0), mask)


@given(grids())
def test_compressed_counts_are_those_of_pycocotools(grid: Grid) -> None:
    encoded = coco().encode(np.asfortranarray(grid.astype(np.uint8)))
    assert np.array_equal(drawn(mask_of(encoded), *grid.shape), grid)  # counts are bytes
    text = json.dumps({"size": encoded["size"], "counts": encoded["counts"].decode()})
    assert read_mask(text) == mask_of({"size": list(grid.shape), "counts": counts_of(grid)})


def test_large_compressed_counts() -> None:
    grid = np.zeros((1000, 1500), dtype=np.uint8, order="F")
    grid[3:990, 7:1400] = 1
    grid[500, 500] = 0
    assert np.array_equal(drawn(mask_of(coco().encode(grid)), 1000, 1500), grid)


@given(grids(), grids())
def test_mask_iou_is_symmetric_and_that_of_pycocotools(left: Grid, other: Grid) -> None:
    right = np.resize(other, left.shape)
    value = mask_iou(left, right)
    assert value == mask_iou(right, left)
    assert mask_iou(left, left) == float(left.any())
    encoded = [coco().encode(np.asfortranarray(one.astype(np.uint8))) for one in (left, right)]
    if left.any() or right.any():
        assert value == pytest.approx(coco().iou(encoded[:1], encoded[1:], [0])[0][0])


def test_a_coarse_grid_is_stretched_to_the_pixels_centres() -> None:
    mask = mask_of({"size": [2, 2], "counts": [0, 1, 2, 1]})  # the two on the diagonal
    fine = np.kron([[1, 0], [0, 1]], np.ones((3, 2))).astype(bool)
    assert np.array_equal(drawn(mask, 6, 4), fine)
    assert np.array_equal(drawn(mask, 1, 1), [[True]])  # the one centre is on the border: the lower right quarter's


@pytest.mark.parametrize(
    ("outlines", "area"),
    [
        ([[0, 0, 10, 0, 10, 10, 0, 10]], 100),
        ([[0, 0, 0, 10, 10, 10, 10, 0]], 100),  # the other way round
        ([[0.5, 0.5, 9.5, 0.5, 9.5, 9.5, 0.5, 9.5]], 81),
        ([[0, 0, 10, 0, 10, 10, 0, 10], [5, 0, 15, 0, 15, 10, 5, 10]], 150),  # they overlap
        ([[0, 0, 10, 0, 10, 10, 0, 10, 0, 0, 2, 2, 2, 8, 8, 8, 8, 2, 2, 2]], 64),  # with a hole
        ([[-50, -50, 50, -50, 50, 50, -50, 50]], 400),
        ([[0, 0], [20, 0], [0, 20]], 190),  # points; centres on the slanted edge are out
        ([[30, 30, 40, 30, 40, 40]], 0),
        ([], 0),
    ],
)
def test_polygons_by_hand_on_20_by_20(outlines: list[list[float]], area: int) -> None:
    assert drawn(mask_of(outlines), 20, 20).sum() == area


def to_outline(outlines: list[list[float]], height: int, width: int) -> NDArray[np.float64]:
    """Each pixel centre's distance to the nearest edge."""
    y, x = np.mgrid[:height, :width] + 0.5
    nearest = np.full((height, width), np.inf)
    for outline in outlines:
        corners = list(zip(outline[0::2], outline[1::2], strict=True))
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            length = (x1 - x0) ** 2 + (y1 - y0) ** 2
            along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1) if length > 1e-9 else 0
            nearest = np.minimum(nearest, np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
    return nearest


@given(st.lists(OUTLINE, min_size=1, max_size=3))
def test_a_pixel_belongs_where_its_centre_lies_inside(outlines: list[list[float]]) -> None:
    mask = mask_of(outlines)
    assert isinstance(mask, Polygons)
    inside = np.array([[in_mask(Point(x + 0.5, y + 0.5), mask) for x in range(20)] for y in range(18)])
    off_border = to_outline(outlines, 18, 20) > 1e-6
    assert np.array_equal(drawn(mask, 18, 20)[off_border], inside[off_border])


@given(OUTLINE)
def test_polygons_differ_from_pycocotools_only_along_their_border(outline: list[float]) -> None:
    theirs = coco().decode(coco().frPyObjects([outline], 18, 20))[:, :, 0].astype(bool)
    differs = drawn(mask_of([outline]), 18, 20) != theirs
    assert np.all(to_outline([outline], 18, 20)[differs] <= 1.0)


def test_a_round_object_drawn_by_both_is_nearly_the_same() -> None:
    circle = [150 + 100 * f(2 * math.pi * k / 60) for k in range(60) for f in (math.cos, math.sin)]
    theirs = coco().decode(coco().frPyObjects([circle], 300, 300))[:, :, 0].astype(bool)
    ours = drawn(mask_of([circle]), 300, 300)
    assert mask_iou(ours, theirs) > 0.99
    assert ours.sum() == pytest.approx(30 * 100**2 * math.sin(2 * math.pi / 60), rel=1e-3)  # area of the 60-gon


@given(st.lists(OUTLINE, max_size=3), st.randoms(use_true_random=False))
def test_a_mask_does_not_depend_on_the_order_direction_or_number_of_its_polygons(
    outlines: list[list[float]], random: Any
) -> None:
    expected = drawn(mask_of(outlines), 18, 20)
    assert np.array_equal(drawn(mask_of(random.sample(outlines, len(outlines)) * 3), 18, 20), expected)
    backwards = [[n for i in range(len(o) - 2, -1, -2) for n in o[i : i + 2]] for o in outlines]
    differs = drawn(mask_of(backwards), 18, 20) != expected
    assert np.all(to_outline(outlines, 18, 20)[differs] < 1e-6)


@given(OUTLINE, st.sampled_from([(10.0, 5.0), (0.5, 2.0)]))
def test_polygons_are_scaled_and_grids_are_not(outline: list[float], scale: tuple[float, float]) -> None:
    mask = mask_to_pixels(Polygons([outline]), scale)
    assert isinstance(mask, Polygons)
    assert mask.outlines[0][0::2] == [x * scale[0] for x in outline[0::2]]
    assert mask.outlines[0][1::2] == [y * scale[1] for y in outline[1::2]]
    grid = Rle(2, 2, [4])
    assert mask_to_pixels(grid, scale) is grid


@pytest.mark.parametrize(
    "value",
    [
        {"size": [2, 2], "counts": [1, 2]},
        {"size": [2, 2], "counts": [5]},
        {"size": [2, 2], "counts": []},
        {"size": [2, 2], "counts": [6, -2]},
        {"size": [2, 2], "counts": [4.0]},
        {"size": [2, 2], "counts": [True, 3]},
        {"size": [2, 2], "counts": None},
        {"size": [2, 2], "counts": ""},
        {"size": [2, 2], "counts": "4P"},  # cut off within a number
        {"size": [2, 2], "counts": "oooooooooooooooooooooo0"},
        {"size": [2, 2], "counts": "é"},
        {"size": [2, 2], "counts": "0000000000O"},
        {"size": [2], "counts": [4]},
        {"size": [0, 4], "counts": [0]},
        {"size": [-2, -2], "counts": [4]},
        {"size": [2.0, 2.0], "counts": [4]},
        {"size": [10**50, 1], "counts": [10**50]},
        {"size": [MAX_PIXELS, 2], "counts": [MAX_PIXELS * 2]},
        [[0, 0, 1, 1]],
        [[0, 0, 1, 1, 2]],
        [[0, 0], [1, 1]],
        [[0, 0, 1, 1, 2, None]],
        [[0, 0, 1, 1, 2, math.nan]],
        [[0, 0, 1, 1, 2, 1e10]],
        [[[0, 0], [1, 1], [2, 0]]],
        [0, 0, 1, 1, 2, 0],
        [[]],
        "mask",
        7,
        None,
    ],
)
def test_what_is_no_mask(value: Any) -> None:
    assert isinstance(mask_of(value), Unreadable)


@given(st.text() | st.text(alphabet='[]{}",:sizecount0123456789-. oP`').map(lambda t: f'{{"size":[2,2],"counts":{t}}}'))
def test_reading_a_mask_never_raises(text: str) -> None:
    mask = read_mask(text)
    if not isinstance(mask, Unreadable):
        rasterize(mask, 2, 2)


@given(st.text(alphabet=[chr(c) for c in range(48, 112)], max_size=12), st.integers(1, 6), st.integers(1, 6))
def test_no_compressed_text_draws_beyond_its_grid(text: str, height: int, width: int) -> None:
    mask = mask_of({"size": [height, width], "counts": text})
    if isinstance(mask, Rle):
        assert mask.ends[-1] == height * width
        assert list(mask.ends) == sorted(mask.ends)
        assert drawn(mask, height, width).shape == (height, width)


def test_outlines_that_are_too_long_are_refused_and_the_longest_allowed_are_drawn_in_time() -> None:
    side = math.isqrt(MAX_PIXELS)
    zigzag = [[0.0, i % 7] if i % 2 else [float(side), i % 9] for i in range(1500)]
    mask = read_mask(json.dumps(zigzag))
    assert not isinstance(mask, Unreadable)
    start = time.perf_counter()
    assert rasterize(mask, side, side) == Unreadable("the outlines of the mask are too long")
    drawn(mask_of(zigzag[:170]), side, side)
    assert time.perf_counter() - start < 2.5


def test_a_grid_too_large_to_draw_is_the_datas_fault() -> None:
    with pytest.raises(DataError, match="at most"):
        rasterize(Polygons([]), MAX_PIXELS, 2)


MASK_IOU = find_reward("mask_iou")


def scored(text: str, columns: dict[str, Any], **settings: Any) -> Outcome:
    completion = read_response(f"<perception>{text}</perception>")
    return attempt(MASK_IOU, completion, columns, {"frame": "pixels", **settings})


def test_a_gold_mask_must_agree_with_the_image_it_is_of() -> None:
    columns = {"masks": [{"size": [4, 8], "counts": [0, 32]}], "image_size": [4, 8]}
    assert "of the same image" in scored("[]", columns).why
    assert scored("[[0,0,8,0,8,4,0,4]]", {**columns, "image_size": [8, 4]}).value == 1.0


def test_an_outline_that_is_too_long_scores_nothing() -> None:
    zigzag = [[0, i % 7] if i % 2 else [5000, i % 9] for i in range(1500)]
    columns = {"masks": [[[0, 0, 10, 0, 10, 10]]], "image_size": [5000, 50]}
    outcome = scored(json.dumps(zigzag), columns)
    assert (outcome.value, outcome.why) == (0.0, "the outlines of the mask are too long")


@given(OUTLINE)
def test_a_mask_stated_in_any_frame_is_the_gold_mask(outline: list[float]) -> None:
    columns = {"masks": [[outline]], "image_size": [20, 18], "resized_size": [40, 9]}
    in_pixels = scored(json.dumps([outline]), columns)
    assert in_pixels.value in (1.0, None)  # None: too thin to hold a pixel's centre
    resized = [n * (0.5 if i % 2 else 2) for i, n in enumerate(outline)]
    assert scored(json.dumps([resized]), columns, frame="resized").value == in_pixels.value
