import itertools
import json
from collections import Counter

import numpy as np
import pytest

from rlperc.errors import RecipeError
from rlperc.words.response import read_response
from rlperc.words.structure import read_grid
from rlperc.worlds import Item, digits, load_world, resolve, solve

SPLITS = ("train", "validation", "test")


def make(count: int = 200, seed: int = 0, split: str = "train", **knobs: object) -> list[Item]:
    return list(digits.items(count, seed, split, **knobs))


def test_splits_share_no_digit_image() -> None:
    pictures = {split: {image.tobytes() for image in digits._split(split)[0]} for split in SPLITS}
    # Two of the 1,797 images may be equal to the byte without being the same one; no pair of splits holds such twins.
    for left, right in itertools.combinations(SPLITS, 2):
        assert not pictures[left] & pictures[right]
    assert sum(len(digits._split(split)[0]) for split in SPLITS) == 1797


def test_the_same_arguments_give_the_same_items() -> None:
    first, again, other = make(5), make(5), make(5, seed=1)
    assert [(i.image.tobytes(), i.question, i.response()) for i in first] == [
        (i.image.tobytes(), i.question, i.response()) for i in again
    ]
    assert [i.image.tobytes() for i in first] != [i.image.tobytes() for i in other]


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_the_solver_gets_the_gold_answer_from_the_true_perception(grid: int) -> None:
    for item in make(100, grid=grid):
        assert item.image.size == (16 * grid, 16 * grid)
        assert solve(item.task, item.perception) == item.answer
        read = read_response(item.response())
        assert (read.perception, read.answer) == (item.perception, item.answer)


WORKED = [
    ({"kind": "line_sum", "axis": "row", "index": 0}, "8+7=15", "15"),
    ({"kind": "line_sum", "axis": "column", "index": 1}, "7+2=9", "9"),
    ({"kind": "total"}, "8+7=15\n15+1=16\n16+2=18", "18"),
    ({"kind": "maximum"}, "8,7:8\n8,1:8\n8,2:8", "8"),
    ({"kind": "larger_line", "axis": "row"}, "8+7=15\n1+2=3", "1"),
    ({"kind": "larger_line", "axis": "column"}, "8+1=9\n7+2=9", "1"),
    ({"kind": "turns", "turns": 2}, "0+8=8 8+7=5 5+1=6 6+2=8\n8+8=6 6+7=3 3+1=4 4+2=6", "6"),
    ({"kind": "count_above", "threshold": 1}, "8:1\n7:2\n1:2\n2:3", "3"),
]


@pytest.mark.parametrize(("task", "think", "answer"), WORKED)
def test_reasoning_worked_by_hand(task: dict, think: str, answer: str) -> None:
    assert digits._work_out(task, [[8, 7], [1, 2]]) == (think, answer)


def test_a_misreading_teacher_is_consistent_with_what_it_states() -> None:
    items = make(2000, misread={6: 8}, misread_probability=0.6)
    shown = stated = 0
    for item in items:
        read = read_response(item.response())
        assert solve(item.task, read.perception or "") == read.answer
        for truth, said in zip(
            itertools.chain(*read_grid(item.perception)), itertools.chain(*read_grid(read.perception)), strict=True
        ):
            shown += truth == 6
            stated += truth == 6 and said == 8
            assert said == truth or (truth, said) == (6, 8)
    assert stated / shown == pytest.approx(0.6, abs=0.06)


def test_answers_cannot_be_guessed_without_the_image() -> None:
    by_question: dict[str, Counter] = {}
    for item in make(4000):
        by_question.setdefault(item.question, Counter())[item.answer] += 1
    blind = sum(answers.most_common(1)[0][1] for answers in by_question.values()) / 4000
    assert blind < 0.30  # the best answer to each question, always given


@pytest.mark.parametrize("said", [None, 3, [[1]], [[1, 2], [3]], [[1, 2], [3, 10]], [[1, 2], [3, True]], "[[1,2],[3,4]]"])
def test_a_perception_that_is_no_grid_has_no_answer(said: object) -> None:
    assert digits.solve({"grid": 2, "kind": "total"}, said) is None


def test_images_vary_and_use_their_range() -> None:
    pixels = np.stack([np.asarray(item.image) for item in make(50)])
    assert pixels.std(axis=0).min() > 5
    assert pixels.min() < 20
    assert pixels.max() > 235


@pytest.mark.parametrize("knobs", [{"grid": 5}, {"grid": 0}, {"misread_probability": 1.5}])
def test_bad_knobs(knobs: dict) -> None:
    with pytest.raises(RecipeError):
        make(1, **knobs)


def test_unknown_names_are_answered_with_the_closest_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'digits'"):
        load_world("digit")
    with pytest.raises(RecipeError, match="did you mean 'noise'"):
        resolve("digits", {"nois": 1})
    with pytest.raises(RecipeError, match="did you mean 'small'"):
        resolve("digits", {"setting": "smal"})


def test_a_setting_is_knobs_that_others_overrule() -> None:
    assert resolve("digits", {"setting": "hard", "noise": 0.0}) == {"grid": 4, "noise": 0.0, "balanced": True}


def test_balanced_answers_cannot_be_guessed() -> None:
    """Of sixteen digits the largest is a 9 four times of five; from a balanced world it is not."""
    for balanced, most in ((False, 0.7), (True, 0.2)):
        asked = [item.answer for item in make(1500, grid=4, balanced=balanced) if "largest digit" in item.question]
        common = Counter(asked).most_common(1)[0][1] / len(asked)
        assert common > most if not balanced else common < most


def test_after_many_turns_every_answer_is_as_likely() -> None:
    answers = Counter(item.answer for item in make(2000, turns=23))
    assert sorted(answers) == [str(digit) for digit in range(10)]
    assert max(answers.values()) < 1.25 * 200


def test_a_step_is_worded_in_as_many_ways_and_says_the_same() -> None:
    words = Counter()
    for item in make(300, wordings=16):
        steps = item.think.split()
        words.update(steps[::2])
        plain = " ".join(steps[1::2])
        assert plain == " ".join(digits._work_out(json.loads(item.task), read_grid(item.perception))[0].split())
        assert solve(item.task, item.perception) == item.answer == item.concluded
    assert set(words) == set(digits.WORDS)
    assert max(words.values()) < 1.5 * words.total() / 16
    assert {item.think.split()[0] for item in make(50, wordings=2)} == set(digits.WORDS[:2])
    with pytest.raises(RecipeError, match="wordings"):
        make(1, wordings=17)


def test_a_single_wording_changes_nothing() -> None:
    assert [(i.image.tobytes(), i.response()) for i in make(5)] == [
        (i.image.tobytes(), i.response()) for i in make(5, wordings=1)
    ]


def test_a_teacher_that_slips_goes_on_with_what_it_said() -> None:
    additions = Counter()
    for item in make(500, turns=3, slip={5: 4, 8: 9}, slip_probability=0.4):
        left = "0"
        for step in item.think.split():
            added, said = step.split("=")
            before, digit = added.split("+")
            assert before == left
            additions[(int(before) + int(digit)) % 10, int(said)] += 1
            left = said
        assert item.concluded == left
        assert item.stated == item.perception
        assert item.answer == solve(item.task, item.perception)
    slipped = {results: count for results, count in additions.items() if results[0] != results[1]}
    assert set(slipped) == {(5, 4), (8, 9)}
    for result, said in slipped:
        assert 0.33 < slipped[result, said] / (slipped[result, said] + additions[result, result]) < 0.47


def test_without_slips_items_are_what_they_were() -> None:
    plain, slipping = make(20, turns=3), make(20, turns=3, slip={5: 5}, slip_probability=0.9)
    assert [(i.image.tobytes(), i.response()) for i in plain] == [(i.image.tobytes(), i.response()) for i in slipping]


@pytest.mark.parametrize(
    ("knobs", "instead"),
    [
        ({"slip": {5: 4}, "slip_probability": 0.5}, "turns: 3"),
        ({"turns": 3, "slip": {5: 10}, "slip_probability": 0.5}, "pairs of these: 0, 1"),
        ({"turns": 3, "slip": {5: 4}}, "slip_probability: 0.5, or neither"),
        ({"misread_probability": 0.5}, "misread: {6: 8}, or neither"),
        ({"turns": 3, "slip": {5: 4}, "slip_probability": 2}, "0 to 1"),
    ],
)
def test_slips_that_cannot_be(knobs: dict, instead: str) -> None:
    with pytest.raises(RecipeError) as error:
        make(1, **knobs)
    assert instead in error.value.instead
