"""The rewards that read coordinates: what all of them hold to about frames, and the figures of three."""

import inspect
import json
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlperc.reward.attempt import Outcome, attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response

SIZE = st.tuples(st.integers(1, 8000), st.integers(1, 8000)).map(list)
GOLD = {
    "box_iou": {"boxes": [[1, 1, 5, 5]]},
    "boxes_matched": {"boxes": [[1, 1, 5, 5]]},
    "point_hit": {"boxes": [[1, 1, 5, 5]]},
    "keypoints_oks": {"keypoints": [[1, 1, 2]] * 17, "area": 10},
    "mask_iou": {"masks": [[[1, 1, 5, 1, 5, 5]]]},
    "perceptual_chain": {"chain": {"object": "a", "location": [1, 1, 5, 5], "identity": "b", "conclusion": "c"}},
}
REWARDS = {name: find_reward(name) for name in GOLD}


def score(name: str, text: str, columns: dict[str, Any], **settings: Any) -> Outcome:
    return attempt(REWARDS[name], read_response(f"<perception>{text}</perception>"), columns, settings)


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize("text", ["[1, 1, 5, 5]", "nonsense"])
def test_a_missing_size_is_a_fault_whatever_the_model_wrote(name: str, text: str) -> None:
    outcome = score(name, text, GOLD[name], frame="thousand")
    assert outcome.status == "error"
    assert "instead: a column" in outcome.why
    assert "image_size" in outcome.why


@pytest.mark.parametrize("name", GOLD)
def test_every_coordinate_reward_must_be_told_its_frame(name: str) -> None:
    assert "it is no coordinate frame" in score(name, "[]", {**GOLD[name], "image_size": [9, 9]}, frame="inches").why
    assert REWARDS[name].settings["frame"] is inspect.Parameter.empty
    assert REWARDS[name].columns["image_size"] is False
    assert REWARDS[name].columns["resized_size"] is False


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), SIZE)
def test_box_iou_is_the_same_in_every_frame(corners: list[int], size: list[int]) -> None:
    columns = {"boxes": [[0.25 * size[0], 0.25 * size[1], 0.75 * size[0], 0.75 * size[1]]], "image_size": size}
    in_pixels = [corner * side / 1000 for corner, side in zip(corners, size * 2, strict=True)]
    expected = score("box_iou", json.dumps(in_pixels), columns, frame="pixels").value
    assert score("box_iou", json.dumps(corners), columns, frame="thousand").value == pytest.approx(expected, abs=1e-9)
    assert score("box_iou", json.dumps([c / 1000 for c in corners]), columns, frame="unit").value == pytest.approx(
        expected, abs=1e-9
    )
    resized = {**columns, "resized_size": [1000, 1000]}
    assert score("box_iou", json.dumps(corners), resized, frame="resized").value == pytest.approx(expected, abs=1e-9)


COCO_PEOPLE = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]


@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600), st.integers(0, 2)), min_size=17, max_size=17),
    st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=17, max_size=17),
    st.floats(10, 1e5),
)
def test_oks_agrees_with_cocos_evaluation(gold: list[tuple[int, ...]], off: list[tuple[int, ...]], area: float) -> None:
    assume(any(v for _, _, v in gold))
    stated = [[x + dx, y + dy] for (x, y, _), (dx, dy) in zip(gold, off, strict=True)]
    # As in COCOeval.computeOks: constants in tenths, variance (2 sigma)^2, squared distance over variance, area and 2.
    variances = [(sigma / 10 * 2) ** 2 for sigma in COCO_PEOPLE]
    errors = [(dx * dx + dy * dy) / var / area / 2 for (dx, dy), var in zip(off, variances, strict=True)]
    counted = [math.exp(-error) for error, (_, _, v) in zip(errors, gold, strict=True) if v > 0]
    columns = {"keypoints": [list(one) for one in gold], "area": area}
    value = score("keypoints_oks", json.dumps(stated), columns, frame="pixels").value
    assert value == pytest.approx(sum(counted) / len(counted), abs=1e-9)


def test_sigmas_of_another_number_are_the_recipes_fault() -> None:
    outcome = score("keypoints_oks", "[]", {"keypoints": [[1, 1, 2]], "area": 10}, frame="pixels")
    assert "with: {sigmas" in outcome.why
    assert "17 keypoints" in outcome.why


@given(st.permutations(["object", "location", "identity", "conclusion"]), st.integers(0, 4))
def test_a_chain_counts_only_up_to_its_first_broken_link(order: list[str], count: int) -> None:
    gold = {"object": "cup", "location": [0, 0, 10, 10], "identity": "mug", "conclusion": "drink"}
    broken = set(order[:count])
    said = {"object": "cup", "location": [5, 5], "identity": "mug", "conclusion": "drink", **{k: [99, 99] for k in broken}}
    text = f"<perception>{json.dumps({k: v for k, v in said.items() if k != 'conclusion'})}</perception>"
    completion = read_response(text + f"<answer>{said['conclusion']}</answer>")
    value = attempt(REWARDS["perceptual_chain"], completion, {"chain": gold}, {"frame": "pixels"}).value
    assert value == min([list(gold).index(k) for k in broken], default=4) / 4
