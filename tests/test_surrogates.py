"""Rewards without labels: agreement, image dependence, consistency under augmentation, and the images they perturb."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlperc.reward.attempt import Outcome, attempt_concurrently, attempt_many
from rlperc.reward.perturb import augment_image, change_all, mask_image, rows_of_images
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response
from rlperc.words.structure import MAX_CHARACTERS, canonical, same_value
from rlperc.worlds.digits import items

GOLDEN = Path(__file__).parents[1] / "rewards" / "golden"


def cases(name: str) -> list[Any]:
    lines = (GOLDEN / f"{name}.jsonl").read_text().splitlines()
    return [pytest.param(case, id=case["case"]) for case in map(json.loads, lines)]


# --- agreement ---------------------------------------------------------------------------------------------------------


AGREEING = ("agreement", "agreement_right")  # what else holds for the second: test_agreement_right.py


def agree(*perceptions: str) -> list[float | None]:
    completions = [read_response(f"<perception>{one}</perception>") for one in perceptions]
    return [outcome.value for outcome in attempt_many(find_reward("agreement"), completions, {}, {})]


@pytest.mark.parametrize(
    ("name", "case"), [pytest.param(name, *case.values, id=f"{name}-{case.id}") for name in AGREEING for case in cases(name)]
)
def test_agreement_golden(name: str, case: dict[str, Any]) -> None:
    completions = [read_response(text) for text in case["completions"]]
    outcomes = attempt_many(find_reward(name), completions, case["columns"], {})
    assert [outcome.value for outcome in outcomes] == case["scores"]
    assert [outcome.why for outcome in outcomes] == case["whys"]


@pytest.mark.parametrize("case", cases("blind_solver"))
def test_blind_solver_golden(case: dict[str, Any]) -> None:
    read = read_response(case["completion"])
    (outcome,) = attempt_concurrently(find_reward("blind_solver"), [read], [case["columns"]], case.get("settings", {}), 20.0)
    assert (outcome.value, outcome.why) == (case["score"], case.get("why", ""))


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5]) | st.text("ab", max_size=2)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)
)
TEXTS = st.text(max_size=30) | VALUES.map(canonical) | st.sampled_from(["[[8,7]]", "[[8, 7]]", "a  b", "A b", "1e999"])


@given(st.lists(TEXTS, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_agreement_is_bounded_and_goes_with_the_completion_not_its_place(texts: list[str], random: Any) -> None:
    scores = agree(*texts)
    assert all(score is not None and 0.0 <= score <= 1.0 for score in scores)
    order = list(range(len(texts)))
    random.shuffle(order)
    assert agree(*(texts[place] for place in order)) == [scores[place] for place in order]


@given(VALUES, VALUES)
def test_two_that_agree_are_two_of_the_same_value(left: Any, right: Any) -> None:
    written = canonical(left), canonical(right)
    silent = not all(any(character.isalnum() for character in text) for text in written)
    # What is no JSON to `read_json` is text: `null`.
    expected = 0.0 if silent else float(same_value(left, right))
    assert agree(*written) == [expected, expected]


@given(TEXTS, st.integers(2, 6))
def test_all_alike_is_full_marks_unless_nothing_is_said(text: str, count: int) -> None:
    said = any(character.isalnum() for character in read_response(f"<perception>{text}</perception>").perception or "")
    assert agree(*[text] * count) == [float(said)] * count


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_one_more_of_the_same_never_costs(others: list[str], text: str) -> None:
    assert (agree(text, *others, text)[0] or 0.0) >= (agree(text, *others)[0] or 0.0)


def test_agreement_on_text_too_long_to_read_earns_nothing() -> None:
    assert agree("x" * (MAX_CHARACTERS + 1), "x" * (MAX_CHARACTERS + 1)) == [0.0, 0.0]
    assert agree("x" * MAX_CHARACTERS, "x" * MAX_CHARACTERS) == [1.0, 1.0]


# --- the training model as a witness --------------------------------------------------------------------------------------


class Witness:
    """A scorer with the log-probabilities it was given, call by call. It keeps the images it was shown."""

    def __init__(self, *answers: list[float | None]) -> None:
        self.answers = list(answers)
        self.shown: list[list[list[Any]]] = []

    def perception_logprobs(self, images: list[list[Any]]) -> list[float | None]:
        self.shown.append(images)
        return self.answers[len(self.shown) - 1]


def picture(seed: int = 0, size: tuple[int, int] = (30, 20)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(30, 200, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels, "RGB")


SEEN = read_response("<perception>[[8,7]]</perception>")
UNSEEN = read_response("<answer>8</answer>")


def run(name: str, witness: Witness, completions: list[Any], columns: dict[str, Any], **given: Any) -> list[Outcome]:
    return attempt_many(find_reward(name), completions, columns, {"scorer": witness, **given})


def test_image_dependence_numbers() -> None:
    image = picture()
    witness = Witness([-0.2, -0.5, -0.1, -0.5, None], [-1.2, -0.5, -0.8, -0.1, None])
    completions = [SEEN, SEEN, SEEN, SEEN, UNSEEN]
    outcomes = run("image_dependence", witness, completions, {"image": [image] * 5})
    # Drops of 1, 0, 0.7 and -0.4 nats: 1 - 1/e, 0, 1 - e^-0.7, 0.
    assert [outcome.value for outcome in outcomes] == pytest.approx([0.6321205588, 0.0, 0.5034146962, 0.0, 0.0])
    assert [outcome.why for outcome in outcomes] == [
        "1.00 nats a token likelier with the image",
        "the image makes the perception no likelier",
        "0.70 nats a token likelier with the image",
        "the image makes the perception no likelier",
        "no perception",
    ]
    (half,) = run("image_dependence", Witness([-0.2], [-1.2]), [SEEN], {"image": [image]}, scale=0.5)
    assert half.value == pytest.approx(0.8646647168)  # 1 - e^-2


def test_image_dependence_shows_the_true_images_and_then_masked_ones() -> None:
    one, two, three = picture(1), picture(2), picture(3)
    witness = Witness([-1.0, -1.0, -1.0], [-2.0, -2.0, -2.0])
    columns = {"image": [one, None, None], "images": [None, [two, three], None]}
    outcomes = run("image_dependence", witness, [SEEN] * 3, columns)
    assert witness.shown[0] == [[one], [two, three], []]
    assert [[image.size for image in row] for row in witness.shown[1]] == [[one.size], [two.size, three.size], []]
    assert {image.getextrema() for row in witness.shown[1] for image in row} == {((128, 128),) * 3}
    assert [outcome.status for outcome in outcomes] == ["value", "value", "skip"]


@pytest.mark.parametrize(("name", "calls"), [("image_dependence", 2), ("augment_consistency", 5)])
def test_the_model_is_asked_as_often_whatever_the_batch_holds(name: str, calls: int) -> None:
    # Processes that share a model by ZeRO-3 would wait for each other for ever.
    for columns, skipped in (
        ({"image": [picture(), None]}, [False, True]),
        ({"image": [None, None]}, [True, True]),
        ({}, [True, True]),
    ):
        witness = Witness(*[[None, None]] * calls)
        outcomes = run(name, witness, [UNSEEN, UNSEEN], columns)
        assert len(witness.shown) == calls
        assert [outcome.status == "skip" for outcome in outcomes] == skipped


def test_a_broken_model_is_no_score() -> None:
    (outcome,) = run("image_dependence", Witness([math.nan], [-1.0]), [SEEN], {"image": [picture()]})
    assert outcome.status == "nan"
    (outcome,) = run("augment_consistency", Witness(*[[math.nan]] * 5), [SEEN], {"image": [picture()]})
    assert outcome.status == "nan"
    (outcome,) = run("image_dependence", Witness([-1.0], [-math.inf]), [SEEN], {"image": [picture()]})
    assert outcome.value == 1.0


def test_augment_consistency_numbers() -> None:
    answers = [[-1.0, -1.0, None], [-1.1, -1.0, None], [-0.9, -1.0, None], [-1.0, -1.0, None], [-1.2, -1.0, None]]
    outcomes = run("augment_consistency", Witness(*answers), [SEEN, SEEN, UNSEEN], {"image": [picture()] * 3})
    # Differences of .1, .1, 0 and .2: mean .1, and e^-1.
    assert [outcome.value for outcome in outcomes] == pytest.approx([0.3678794412, 1.0, 0.0])
    assert [outcome.why for outcome in outcomes] == ["0.100 nats a token apart", "", "no perception"]


def test_augment_consistency_asks_about_the_augmentations_it_is_given() -> None:
    image = picture()
    witness = Witness([-1.0], [-1.2])
    (outcome,) = run("augment_consistency", witness, [SEEN], {"images": [[image]]}, augmentations=["blur"], scale=0.4)
    assert outcome.value == pytest.approx(math.exp(-0.5))
    assert witness.shown[0] == [[image]]
    assert witness.shown[1] == [[augment_image(image, "blur")]]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("image_dependence", {"mask": "all"}),
        ("image_dependence", {"patch": 0}),
        ("image_dependence", {"share": 0.0}),
        ("image_dependence", {"share": 1.5}),
        ("image_dependence", {"scale": 0.0}),
        ("augment_consistency", {"augmentations": []}),
        ("augment_consistency", {"augmentations": ["flip"]}),
        ("augment_consistency", {"augmentations": "blur"}),
        ("augment_consistency", {"scale": math.nan}),
    ],
)
def test_a_setting_that_cannot_be_is_told(name: str, given: dict[str, Any]) -> None:
    (outcome,) = run(name, Witness(), [SEEN], {"image": [picture()]}, **given)
    assert outcome.status == "error"
    assert "instead: " in outcome.why


# --- images -----------------------------------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
CHANGES = [("mask", kind) for kind in ("blank", "patches", "noise")] + [
    ("augment", kind) for kind in ("brightness", "contrast", "blur", "noise")
]


@pytest.mark.parametrize(("what", "kind"), CHANGES)
@given(size=SIZES, mode=st.sampled_from(["RGB", "L", "RGBA", "P", "1"]), seed=st.integers(0, 3))
@settings(max_examples=20)
def test_a_perturbed_image_keeps_its_size_and_depends_on_image_and_seed_only(
    what: str, kind: Any, size: tuple[int, int], mode: str, seed: int
) -> None:
    change: Any = mask_image if what == "mask" else augment_image
    image = picture(7, size).convert(mode)
    before = image.tobytes()
    changed = change(image, kind, seed=seed)
    assert (changed.mode, changed.size) == ("RGB", size)
    assert change(image.copy(), kind, seed=seed) == changed
    assert image.tobytes() == before


@given(size=SIZES, patch=st.integers(1, 16), share=st.floats(0.05, 1.0), seed=st.integers(0, 3))
@settings(max_examples=50)
def test_the_share_of_squares_that_is_black_is_the_one_asked_for(
    size: tuple[int, int], patch: int, share: float, seed: int
) -> None:
    image = picture(7, size)
    black = (np.asarray(mask_image(image, "patches", patch=patch, share=share, seed=seed)) == 0).all(axis=2)
    squares = [
        black[top : top + patch, left : left + patch] for top in range(0, size[1], patch) for left in range(0, size[0], patch)
    ]
    assert all(square.all() or not square.any() for square in squares)
    assert sum(bool(square.all()) for square in squares) == max(1, round(share * len(squares)))
    kept = ~black
    masked = np.asarray(mask_image(image, "patches", patch=patch, share=share, seed=seed))
    assert (masked[kept] == np.asarray(image)[kept]).all()


def test_masks_and_noise_differ_between_seeds_and_images() -> None:
    for kind in ("patches", "noise"):
        assert mask_image(picture(), kind, seed=1) != mask_image(picture(), kind, seed=2)
        assert mask_image(picture(1), kind) != mask_image(picture(2), kind)
    assert augment_image(picture(), "noise", seed=1) != augment_image(picture(), "noise", seed=2)
    brightness = {np.asarray(augment_image(picture(), "brightness", seed=seed)).mean().round(1) for seed in range(8)}
    assert len(brightness) == 2  # up and down


def test_augmentations_are_mild() -> None:
    image = next(iter(items(1, 0, "train"))).image
    for kind in ("brightness", "contrast", "blur", "noise"):
        off = np.abs(np.asarray(augment_image(image, kind), dtype=float) - np.asarray(image, dtype=float))
        assert 0.0 < off.mean() < 0.1 * 255


def test_an_image_that_rows_share_is_changed_once() -> None:
    changed: list[Image.Image] = []

    def change(image: Image.Image) -> Image.Image:
        changed.append(image)
        return image.rotate(90)

    one, two = picture(1), picture(2)
    rows = change_all([[one], [one, two], [], [one]], change)
    assert changed == [one, two]
    assert rows[0][0] is rows[1][0] is rows[3][0]
    assert [len(row) for row in rows] == [1, 2, 0, 1]


def test_images_come_from_either_column() -> None:
    one, two = picture(1), picture(2)
    assert rows_of_images([one, None], None, 2) == [[one], []]
    assert rows_of_images(None, [[one, two], []], 2) == [[one, two], []]
    assert rows_of_images([one, one], [[two], None], 2) == [[two], [one]]
    assert rows_of_images(None, None, 2) == [[], []]
