import itertools
import json
import random
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.errors import RecipeError
from rlperc.reward.attempt import attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response, write_response
from rlperc.worlds import Item, resolve, scene_pictures, scenes, solve
from rlperc.worlds.scene_questions import COLORS, LOOKS, SHAPES, SIDES, SIZES, question, work_out
from rlperc.worlds.styles import draw_style

KEYS = {"color", "column", "row", "shape", "size"}


def make(count: int = 100, seed: int = 0, split: str = "train", **knobs: Any) -> list[Item]:
    return list(scenes.items(count, seed, split, **resolve("scenes", knobs)))


def pixels(item: Item) -> np.ndarray:
    return np.asarray(item.image, dtype=np.float32) / 255


def told(item: Item) -> tuple[Any, ...]:
    return (item.image.tobytes(), item.question, item.perception, item.response(), item.task)


def template(task: dict[str, Any]) -> tuple[Any, ...]:
    return task["kind"], task.get("attribute"), len(task.get("steps", ())), "row" in task["of"]


# --- items -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_the_same_arguments_give_the_same_items_and_fewer_the_first_of_them(hops: int) -> None:
    knobs = {"hops": hops, "occlusion": 0.3, "clutter": 3, "misread": {"red": "orange"}, "misread_probability": 0.5}
    first, again, fewer, other = make(12, **knobs), make(12, **knobs), make(5, **knobs), make(12, seed=1, **knobs)
    assert [told(item) for item in first] == [told(item) for item in again]
    assert [told(item) for item in first[:5]] == [told(item) for item in fewer]
    assert not {item.image.tobytes() for item in first} & {item.image.tobytes() for item in other}
    assert make(12, split="validation", **knobs)[0].perception != first[0].perception


@pytest.mark.parametrize(
    "knobs",
    [
        {"setting": "small"},
        {"setting": "usual"},
        {"setting": "hard"},
        {"grid": 1, "objects": 1},
        {"grid": 2, "objects": 4, "colors": 2, "shapes": 2, "sizes": 1, "hops": 3},
        {"grid": 2, "objects": [3, 4], "colors": 2, "shapes": 2, "sizes": 1, "hops": 2},
        {"objects": 9, "hops": 2},
        {"grid": 4, "objects": [2, 16], "sizes": 3, "hops": 2},
    ],
)
def test_the_solver_and_the_teacher_get_the_answer_from_the_true_scene(knobs: dict[str, Any]) -> None:
    resolved = resolve("scenes", knobs)
    grid, objects = resolved.get("grid", 3), resolved.get("objects", (3, 6))
    fewest, most = (objects, objects) if isinstance(objects, int) else objects
    for item in make(40 if grid == 6 else 150, **knobs):
        side = grid * resolved.get("cell", 42)
        assert item.image.size == (side, side)
        assert solve(item.task, item.perception) == item.answer == item.concluded
        scene = json.loads(item.perception)
        assert fewest <= len(scene) <= most
        places = [(thing["row"], thing["column"]) for thing in scene]
        assert places == sorted(set(places))
        assert all(set(thing) == KEYS and 1 <= thing["row"] <= grid and 1 <= thing["column"] <= grid for thing in scene)


@pytest.mark.parametrize(
    ("knob", "value", "key", "words"),
    [
        ("colors", 2, "color", COLORS[:2]),
        ("colors", 8, "color", COLORS),
        ("shapes", 2, "shape", SHAPES[:2]),
        ("shapes", 6, "shape", SHAPES),
        ("sizes", 1, "size", ("large",)),
        ("sizes", 3, "size", SIZES),
    ],
)
def test_each_knob_says_which_words_there_are(knob: str, value: int, key: str, words: tuple[str, ...]) -> None:
    seen = {thing[key] for item in make(60, **{knob: value}) for thing in json.loads(item.perception)}
    assert seen == set(words)


def test_a_question_takes_as_many_steps_as_the_knob_says() -> None:
    kinds = {hops: {template(json.loads(item.task)) for item in make(300, hops=hops, cell=12)} for hops in (1, 2, 3)}
    assert {kind for kind, *_ in kinds[1]} == {"attribute", "count", "exists"}
    assert {kind for kind, *_ in kinds[2]} == {"attribute", "like", "same", "side"}
    assert {kind for kind, *_ in kinds[3]} == {"attribute", "like", "more"}
    assert {steps for kind, _, steps, _ in kinds[3] if kind == "attribute"} == {2}
    assert not kinds[1] & kinds[2] | kinds[2] & kinds[3]


# --- questions and reasoning -------------------------------------------------------------------------------------


def thing(row: int, column: int, look: str) -> dict[str, Any]:
    size, color, shape = look.split()
    return {"row": row, "column": column, "size": size, "color": color, "shape": shape}


#  red circle    blue star     .
#  blue circle   .             red cross
SCENE = [
    thing(1, 1, "small red circle"),
    thing(1, 2, "large blue star"),
    thing(2, 1, "large blue circle"),
    thing(2, 3, "small red cross"),
]
CROSS, STAR = {"shape": "cross"}, {"size": "large", "shape": "star"}
WORKED: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {"kind": "attribute", "attribute": "color", "of": {"row": 2, "column": 1}},
        "What color is the object in row 2, column 1?",
        "row 2 column 1: blue",
        "blue",
    ),
    ({"kind": "attribute", "attribute": "column", "of": CROSS}, "In which column is the cross?", "cross: row 2 column 3", "3"),
    (
        {"kind": "count", "of": {"color": "red"}},
        "How many red objects are there?",
        "row 1 column 1 red: 1\nrow 1 column 2 blue: 1\nrow 2 column 1 blue: 1\nrow 2 column 3 red: 2",
        "2",
    ),
    (
        {"kind": "count", "of": {"size": "small", "shape": "cross"}},
        "How many small crosses are there?",
        "row 1 column 1 small circle: 0\nrow 1 column 2 large star: 0\n"
        "row 2 column 1 large circle: 0\nrow 2 column 3 small cross: 1",
        "1",
    ),
    (
        {"kind": "exists", "of": {"color": "blue", "shape": "star"}},
        "Is there any blue star?",
        "row 1 column 1 red circle: no\nrow 1 column 2 blue star: yes",
        "yes",
    ),
    (
        {"kind": "exists", "of": {"color": "orange"}},
        "Is there any orange object?",
        "row 1 column 1 red: no\nrow 1 column 2 blue: no\nrow 2 column 1 blue: no\nrow 2 column 3 red: no",
        "no",
    ),
    (
        {"kind": "attribute", "attribute": "shape", "of": STAR, "steps": ["left"]},
        "What shape is the object directly left of the large star?",
        "large star: row 1 column 2\nleft of it: row 1 column 1\nrow 1 column 1: circle",
        "circle",
    ),
    (
        {"kind": "attribute", "attribute": "size", "of": STAR, "steps": ["left", "below"]},
        "What size is the object directly below the object directly left of the large star?",
        "large star: row 1 column 2\nleft of it: row 1 column 1\nbelow it: row 2 column 1\nrow 2 column 1: large",
        "large",
    ),
    (
        {"kind": "like", "attribute": "row", "of": CROSS},
        "How many other objects are in the same row as the cross?",
        "cross: row 2 column 3\nrow 1 column 1: 0\nrow 1 column 2: 0\nrow 2 column 1: 1",
        "1",
    ),
    (
        {"kind": "like", "attribute": "color", "of": STAR, "steps": ["left"]},
        "How many other objects have the same color as the object directly left of the large star?",
        "large star: row 1 column 2\nleft of it: row 1 column 1\nrow 1 column 1: red\n"
        "row 1 column 2 blue: 0\nrow 2 column 1 blue: 0\nrow 2 column 3 red: 1",
        "1",
    ),
    (
        {"kind": "same", "attribute": "size", "of": CROSS, "and": {"shape": "star"}},
        "Is the cross the same size as the star?",
        "cross: small\nstar: large\nsmall, large: no",
        "no",
    ),
    (
        {"kind": "side", "side": "right", "of": CROSS, "and": {"shape": "star"}},
        "Is the cross right of the star?",
        "cross: column 3\nstar: column 2\n3 > 2: yes",
        "yes",
    ),
    (
        {"kind": "side", "side": "above", "of": CROSS, "and": {"shape": "star"}},
        "Is the cross above the star?",
        "cross: row 2\nstar: row 1\n2 < 1: no",
        "no",
    ),
    (
        {"kind": "more", "of": {"shape": "circle"}, "and": {"shape": "star"}},
        "Are there more circles than stars?",
        "row 1 column 1 circle: 1, 0\nrow 1 column 2 star: 1, 1\n"
        "row 2 column 1 circle: 2, 1\nrow 2 column 3 cross: 2, 1\n2 > 1: yes",
        "yes",
    ),
]


@pytest.mark.parametrize(("task", "asked", "think", "answer"), WORKED)
def test_questions_and_reasoning_worked_by_hand(task: dict[str, Any], asked: str, think: str, answer: str) -> None:
    assert question({"grid": 3, **task}) == f"Grid of 3 by 3. {asked}"
    assert work_out(task, SCENE) == (think, answer)
    assert scenes.solve({"grid": 3, **task}, SCENE[::-1]) == answer


NO_ANSWER = [
    ({"kind": "attribute", "attribute": "color", "of": {"row": 3, "column": 3}}, "an empty place"),
    ({"kind": "attribute", "attribute": "row", "of": {"shape": "circle"}}, "two of them"),
    ({"kind": "attribute", "attribute": "color", "of": CROSS, "steps": ["right"]}, "beyond the grid"),
    ({"kind": "like", "attribute": "color", "of": {"shape": "diamond"}}, "none of them"),
    ({"kind": "same", "attribute": "color", "of": CROSS, "and": {"shape": "circle"}}, "two of the others"),
]


@pytest.mark.parametrize(("task", "why"), NO_ANSWER)
def test_what_is_not_there_just_once_has_no_answer(task: dict[str, Any], why: str) -> None:
    assert scenes.solve({"grid": 3, **task}, SCENE) is None, why


WHERE = {"grid": 3, "kind": "attribute", "attribute": "color", "of": CROSS, "steps": ["left"]}
BESIDE = {**SCENE[3], "column": 2}


@pytest.mark.parametrize(
    "said",
    [
        [],
        {},
        None,
        "[]",
        [1],
        [[]],
        [{}],
        [BESIDE, {**SCENE[2], "row": 4}],
        [BESIDE, {**SCENE[2], "row": True}],
        [BESIDE, {**SCENE[2], "column": 1.0}],
        [BESIDE, {**SCENE[2], "color": "mauve"}],
        [BESIDE, {**SCENE[2], "shape": ["circle"]}],
        [BESIDE, SCENE[2], SCENE[2]],
        [BESIDE, {key: value for key, value in SCENE[2].items() if key != "color"}],
        [BESIDE, SCENE[2]] * 5,
    ],
)
def test_what_is_no_scene_has_no_answer(said: Any) -> None:
    assert scenes.solve(WHERE, [BESIDE, SCENE[2]]) == "blue"
    assert scenes.solve(WHERE, said) is None


def test_keys_that_the_question_does_not_need_may_be_missing_or_wrong() -> None:
    assert scenes.solve(WHERE, [{**BESIDE, "size": 3}, {**SCENE[2], "size": None, "height": 2}]) == "blue"
    count = {"grid": 3, "kind": "count", "of": {"color": "red"}}
    assert scenes.solve(count, [{"color": "red"}, {"color": "blue"}, {"color": "red"}]) == "2"


def brute(task: dict[str, Any], scene: list[dict[str, Any]]) -> str | None:
    """The solver once more, by sets of places."""
    at = {(one["row"], one["column"]): one for one in scene}

    def those(of: dict[str, Any]) -> set[tuple[int, int]]:
        return set.intersection(*({place for place, one in at.items() if one[key] == value} for key, value in of.items()))

    def the(of: dict[str, Any], steps: list[str]) -> tuple[int, int] | None:
        places = those(of)
        for side in steps:
            if len(places) != 1:
                return None
            places = {(row + SIDES[side][0], column + SIDES[side][1]) for row, column in places} & set(at)
        return places.pop() if len(places) == 1 else None

    kind, of = task["kind"], task["of"]
    if kind in ("count", "exists", "more"):
        one, other = len(those(of)), len(those(task.get("and", of)))
        return {"count": str(one), "exists": "yes" if one else "no", "more": "yes" if one > other else "no"}[kind]
    found, second = the(of, task.get("steps", [])), the(task.get("and", of), task.get("steps", []))
    if found is None or second is None:
        return None
    if kind == "attribute":
        return str(at[found][task["attribute"]])
    if kind == "like":
        return str(len(those({task["attribute"]: at[found][task["attribute"]]})) - 1)
    if kind == "same":
        return "yes" if at[found][task["attribute"]] == at[second][task["attribute"]] else "no"
    (row, column), (other_row, other_column) = found, second
    holds = {"left": column < other_column, "right": column > other_column, "above": row < other_row, "below": row > other_row}
    return "yes" if holds[task["side"]] else "no"


TASKS = [json.loads(item.task) for hops in (1, 2, 3) for item in make(60, hops=hops)]
PLACES = st.integers(1, 3)
OBJECT = st.fixed_dictionaries(
    {"row": PLACES, "column": PLACES, **{key: st.sampled_from(words[:4]) for key, words in LOOKS.items()}}
)
SCENES = st.lists(OBJECT, min_size=1, max_size=9, unique_by=lambda one: (one["row"], one["column"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from([*COLORS, *SHAPES, *SIZES, ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(KEYS)), inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=300)
@given(st.sampled_from(TASKS), SCENES, st.randoms(use_true_random=False))
def test_the_solver_agrees_with_brute_force_in_any_order(task: dict[str, Any], scene: list[dict[str, Any]], chance: Any) -> None:
    expected = brute(task, scene)
    assert scenes.solve(task, scene) == expected
    chance.shuffle(scene)
    assert scenes.solve(task, scene) == expected


@given(st.sampled_from(TASKS), JSON | st.lists(JSON, max_size=3) | st.lists(OBJECT | JSON, max_size=4))
def test_the_solver_never_raises(task: dict[str, Any], said: Any) -> None:
    answer = scenes.solve(task, said)
    assert answer is None or isinstance(answer, str)


# --- guessing ----------------------------------------------------------------------------------------------------

ANSWERS = {"color": 6, "shape": 4, "size": 2, "row": 3, "column": 3}


def chances(task: dict[str, Any]) -> int:
    """How many answers a question has at the default knobs."""
    match task["kind"]:
        case "attribute":
            return ANSWERS[task["attribute"]]
        case "count":
            return 7
        case "like" if task["attribute"] in ("row", "column"):
            return 3
        case "like":
            return 5 if task.get("steps") else 6
        case _:
            return 2


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_each_answer_of_a_template_is_as_likely_as_the_others(hops: int) -> None:
    answers: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    options = {}
    for item in make(3000, hops=hops, cell=12, noise=0):
        task = json.loads(item.task)
        answers[template(task)][item.answer] += 1
        options[template(task)] = chances(task)
    for kind, counts in answers.items():
        total, n = counts.total(), options[kind]
        assert len(counts) == n, (kind, counts)
        off = max(abs(count / total - 1 / n) for count in counts.values())
        assert off < 4.5 * (1 / n * (1 - 1 / n) / total) ** 0.5, (kind, counts)


def test_who_learns_the_answers_of_questions_by_heart_is_no_better_than_chance() -> None:
    """On the small setting, of which each question comes often."""
    right = expected = 0.0
    items = make(6000, setting="small", noise=0)
    heard: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items[:5000]:
        heard[item.question][item.answer] += 1
    for item in items[5000:]:
        guesses = heard[item.question].most_common(1)
        right += bool(guesses) and guesses[0][0] == item.answer
        task = json.loads(item.task)
        n = {"count": 5, "exists": 2}.get(task["kind"]) or {"color": 4, "shape": 3}.get(task["attribute"], 2)
        expected += 1 / n
    assert right / 1000 == pytest.approx(expected / 1000, abs=0.05)


# --- the teacher -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_a_misreading_teacher_answers_what_it_states(hops: int) -> None:
    shown = stated = wrong = 0
    for item in make(600, hops=hops, cell=12, noise=0, misread={"red": "orange", "circle": "square"}, misread_probability=0.6):
        assert solve(item.task, item.perception) == item.answer
        assert solve(item.task, item.stated) == item.concluded
        wrong += item.answer != item.concluded
        for true, said in zip(json.loads(item.perception), json.loads(item.stated), strict=True):
            assert {key for key in KEYS if true[key] != said[key]} <= {"color", "shape"}
            assert said["color"] == true["color"] or (true["color"], said["color"]) == ("red", "orange")
            shown += true["color"] == "red"
            stated += said["color"] != true["color"]
    assert 0.35 < stated / shown < 0.66  # less than it was drawn: some would leave no answer
    assert wrong >= 10


def test_the_response_is_worth_all_by_the_real_rewards() -> None:
    for item in [*make(10), *make(10, hops=2), *make(10, hops=3), *make(3, setting="hard")]:
        row = {"answer": item.answer, "perception": item.perception, "task": item.task}
        scene = json.loads(item.perception)
        random.Random(0).shuffle(scene)
        for stated in (item.stated, json.dumps(scene)):
            read = read_response(write_response(stated, item.think, item.concluded))
            for name in (scenes.ABOUT.answer_reward, scenes.ABOUT.perception_reward, "answer_follows"):
                reward = find_reward(name)
                columns = {column: row[column] for column in reward.columns if column in row}
                assert attempt(reward, read, columns, {}).value == 1.0, name


def test_a_wrong_attribute_is_worth_less_and_a_wrong_answer_nothing() -> None:
    (item,) = make(1)
    scene = json.loads(item.perception)
    scene[0]["column"] = 1 + scene[0]["column"] % 3
    read = read_response(write_response(json.dumps(scene), "", item.answer + "x"))
    matched = attempt(find_reward("objects_matched"), read, {"perception": item.perception}, {}).value
    assert matched == pytest.approx(1 - 0.2 / len(scene))
    assert attempt(find_reward("answer_exact"), read, {"answer": item.answer}, {}).value == 0.0


# --- pictures ----------------------------------------------------------------------------------------------------


def looked_at(item: Item, cell: int, looks: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """A scene read off its picture: of each place what is not paper, its extent, its mask and its color."""
    picture = pixels(item)
    grid = len(picture) // cell
    lines = [line * cell for line in range(1, grid)]
    paper = np.median(np.concatenate([picture[lines].reshape(-1, 3), picture[:, lines].reshape(-1, 3)]), axis=0)
    found = []
    for row, column in itertools.product(range(grid), repeat=2):
        part = picture[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        inked = np.abs(part - paper).max(axis=2) > 0.25
        if inked.mean() < 0.02:
            continue
        down, right = (np.flatnonzero(inked.sum(axis=axis) > 0) for axis in (1, 0))
        top, left, extent = down[0], right[0], max(np.ptp(down), np.ptp(right)) + 1
        sizes = {size: scene_pictures.pixels(size, cell) for size, _ in looks}
        size = min(sizes, key=lambda one: abs(sizes[one] - extent))
        window = np.zeros((sizes[size],) * 2, dtype=bool)
        seen = inked[top : top + sizes[size], left : left + sizes[size]]
        window[: seen.shape[0], : seen.shape[1]] = seen
        masks = {shape: scene_pictures.mask(shape, sizes[size]) > 0.5 for _, shape in looks}
        shape = max(masks, key=lambda one: (masks[one] & window).sum() / (masks[one] | window).sum())
        middle = part[top + len(window) * 2 // 5 :, left + len(window) * 2 // 5 :][: len(window) // 5, : len(window) // 5]
        tone = np.median(middle.reshape(-1, 3), axis=0)
        tints = np.concatenate([scene_pictures._palette(False), scene_pictures._palette(True)], axis=1)
        color = COLORS[np.abs(tints - tone).sum(axis=2).min(axis=1).argmin()]
        found.append({"row": row + 1, "column": column + 1, "size": size, "shape": shape, "color": color})
    return found


@pytest.mark.parametrize("style", ["seen", "held_out"])
@pytest.mark.parametrize(("cell", "shapes", "sizes"), [(42, 4, 2), (64, 6, 3)])
def test_the_scene_can_be_read_off_the_pixels(style: str, cell: int, shapes: int, sizes: int) -> None:
    words = ("small", "large") if sizes == 2 else SIZES
    looks = list(itertools.product(words, SHAPES[:shapes]))
    for item in make(60, style=style, cell=cell, shapes=shapes, sizes=sizes, colors=8, objects=[4, 9]):
        assert looked_at(item, cell, looks) == json.loads(item.perception)


@pytest.mark.parametrize("occlusion", [0.0, 0.5])
def test_no_other_scene_has_the_same_picture(occlusion: float) -> None:
    """What is covered by half can still be told: with any look of any object changed, the picture differs there."""
    drawing = scene_pictures.Drawing(3, 42, 0.5, occlusion, 0, 0.0)

    def drawn(scene: list[dict[str, Any]], seed: int) -> np.ndarray:
        chance = np.random.default_rng(seed)
        style = draw_style(chance, "train", ("seen", "held_out")[seed % 2])
        return np.asarray(scene_pictures.draw(chance, scene, drawing, style), dtype=np.float32)

    for seed, item in enumerate(make(12, colors=8, shapes=6, sizes=3, objects=[5, 9])):
        scene = json.loads(item.perception)
        true = drawn(scene, seed)
        for i, one in enumerate(scene):
            others = [{**one, key: word} for key, words in LOOKS.items() for word in words if word != one[key]]
            for other in others:
                differs = np.abs(drawn([*scene[:i], other, *scene[i + 1 :]], seed) - true).max(axis=2) > 25
                assert differs.sum() >= 12, (one, other)
                rows, columns = np.nonzero(differs)
                # At most the neighbours that it is pulled to.
                assert abs(rows.mean() / 42 - one["row"] + 0.5) < 0.9
                assert abs(columns.mean() / 42 - one["column"] + 0.5) < 0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bar_covers_its_share_and_leaves_both_ends(shape: str) -> None:
    mask = scene_pictures.mask(shape, 50)
    for covered, along in itertools.product((0.1, 0.3, 0.5), np.linspace(0, 0.999, 40)):
        down, right, height, width = scene_pictures._bar(shape, 50, covered, along)
        under = mask[max(0, down) : down + height, max(0, right) : right + width]
        assert covered - 0.1 < under.sum() / mask.sum() <= covered
        start, thick = (down, height) if along < 0.5 else (right, width)
        assert start >= 7
        assert start + thick <= 43


def test_the_test_split_has_a_style_of_its_own() -> None:
    for seed in range(20):
        (seen,), (held_out,) = make(1, seed, style="seen"), make(1, seed, style="held_out")
        (tested,) = make(1, seed, split="test")
        assert seen.perception == held_out.perception
        assert make(1, seed)[0].image.tobytes() == seen.image.tobytes()
        assert make(1, seed, split="test", style="held_out")[0].image.tobytes() == tested.image.tobytes()
        assert np.abs(pixels(seen) - pixels(held_out)).mean() > 0.03


def test_hues_of_the_two_styles_lean_apart_and_colors_do_not_meet() -> None:
    seen, held_out = scene_pictures._palette(False), scene_pictures._palette(True)
    tints = np.concatenate([seen, held_out], axis=1)
    for one, other in itertools.combinations(range(len(COLORS)), 2):
        assert np.abs(tints[one][:, None] - tints[other][None]).max(axis=2).min() > 0.15, (COLORS[one], COLORS[other])
    assert np.abs(seen.mean(axis=1) - held_out.mean(axis=1)).max(axis=1).min() > 0.03


def test_clutter_lies_behind_the_objects_and_noise_is_as_wide_as_asked() -> None:
    (plain,), (strewn,) = make(1, noise=0, jitter=0), make(1, noise=0, jitter=0, clutter=20)
    assert plain.perception == strewn.perception
    assert (pixels(plain) != pixels(strewn)).any(axis=2).mean() > 0.02
    (noisy,) = make(1, noise=0.1, jitter=0)
    middle = (pixels(noisy) - pixels(plain))[(pixels(plain) > 0.4) & (pixels(plain) < 0.6)]
    assert middle.std() == pytest.approx(0.1, rel=0.15)


def test_jitter_moves_objects_within_their_places() -> None:
    def spread(jitter: float) -> float:
        pictures = [pixels(item) for item in make(80, grid=1, objects=1, sizes=1, shapes=2, jitter=jitter, noise=0)]
        tops = [np.flatnonzero(np.abs(one - one[0, 0]).max(axis=2).any(axis=1))[0] for one in pictures]
        return float(np.ptp(tops))

    assert spread(0.0) == 0
    assert spread(1.0) >= 5


# --- knobs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "why"),
    [
        ({"grid": 7}, "1 to 6"),
        ({"grid": 2}, "there are 4 places"),
        ({"objects": [4, 3]}, "the fewest and the most"),
        ({"objects": 10}, "there are 9 places"),
        ({"objects": True}, "the fewest and the most"),
        ({"objects": "many"}, "the fewest and the most"),
        ({"cell": 8}, "12 to 96"),
        ({"colors": 1}, "2 to 8"),
        ({"shapes": 7}, "2 to 6"),
        ({"sizes": 0}, "1 to 3"),
        ({"hops": 4}, "1 to 3"),
        ({"hops": 2, "grid": 1, "objects": 1}, "no place beside"),
        ({"hops": 3, "objects": [2, 5]}, "objects: 3 or more"),
        ({"jitter": 1.1}, "0 to 1"),
        ({"occlusion": 0.6}, "0 to 0.5"),
        ({"clutter": 21}, "0 to 20"),
        ({"noise": -0.1}, "0 to 1"),
        ({"style": "new"}, "seen, held_out"),
        ({"misread": {"red": "circle"}, "misread_probability": 0.5}, "another color for red"),
        ({"misread": {"pink": "red"}, "misread_probability": 0.5}, "pairs of these"),
        ({"misread_probability": 2}, "0 to 1"),
    ],
)
def test_bad_knobs(knobs: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        make(1, **knobs)


@pytest.mark.parametrize(("knobs", "words"), [({"setting": "small"}, 2), ({"setting": "usual"}, 3)])
def test_the_cells_say_what_each_place_shows(knobs: dict[str, Any], words: int) -> None:
    for item in make(50, **knobs):
        cells = json.loads(item.columns["cells"])
        things = {(thing["row"], thing["column"]): thing for thing in json.loads(item.perception)}
        for row, column in itertools.product(range(1, len(cells) + 1), repeat=2):
            shown = cells[row - 1][column - 1]
            if (row, column) not in things:
                assert shown == "nothing"
                continue
            thing = things[row, column]
            assert shown == " ".join(thing[key] for key in ("size", "color", "shape")[3 - words :])


def test_a_misreading_teacher_leaves_the_cells_true() -> None:
    wrong = make(20, misread={"red": "orange"}, misread_probability=1.0)
    assert any(item.stated != item.perception for item in wrong)
    for item in wrong:
        things = {(thing["row"], thing["column"]): thing["color"] for thing in json.loads(item.perception)}
        cells = json.loads(item.columns["cells"])
        assert all(color in cells[row - 1][column - 1] for (row, column), color in things.items())
