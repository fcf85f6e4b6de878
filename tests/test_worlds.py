"""What all worlds promise, and `rlperc worlds`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk
from PIL import Image

from rlperc.cli import main
from rlperc.recipe.peek import first_row
from rlperc.recipe.schema import Data
from rlperc.reward.attempt import attempt_many
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.score.leaks import leaks
from rlperc.train.data import load_rows
from rlperc.words.response import read_response
from rlperc.worlds import SPLITS, WORLDS, Item, in_order, knobs_of, load_world, make_items, restate, solve

SETTINGS = [(name, setting) for name in WORLDS for setting in load_world(name).ABOUT.settings]


def values(name: str, texts: list[str], items: list[Item]) -> list[float | None]:
    columns: dict[str, list] = {"answer": [i.answer for i in items], "perception": [i.perception for i in items]}
    columns["task"] = [item.task for item in items]
    for column in load_world(json.loads(items[0].task)["world"]).ABOUT.columns:
        columns[column] = [item.columns[column] for item in items]
    return [one.value for one in RewardRunner(find_reward(name), {}).run([read_response(text) for text in texts], columns)]


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
def test_the_truth_pays_in_full_and_another_items_does_not(name: str, setting: str) -> None:
    """By the world's own rewards; the next item's response stands for whoever saw another image."""
    about = load_world(name).ABOUT
    items = list(make_items(name, 12, 5, "train", {"setting": setting}))
    assert len(items) == 12
    own, other = [item.response() for item in items], [item.response() for item in items[1:] + items[:1]]
    for reward in (about.answer_reward, about.perception_reward, "answer_follows"):
        assert values(reward, own, items) == [1.0] * 12
    assert sum(value or 0 for value in values(about.answer_reward, other, items)) < 9
    assert sum(value == 1 for value in values(about.perception_reward, other, items)) < 3
    for item in items:
        assert set(item.columns) == set(about.columns)
        assert json.loads(item.task)["world"] == name
        assert item.perception not in item.task
        solved = solve(item.task, item.perception)
        assert solved is not None


DRAWN = {  # knobs of how items are drawn
    "digits": [{"noise": 0.3}],
    "scenes": [{"noise": 0.0}, {"jitter": 1.0}, {"occlusion": 0.4}, {"clutter": 9}, {"cell": 20}, {"style": "held_out"}],
    "graph_coloring": [{"noise": 0.0}, {"jitter": 0.3}, {"size": 90}, {"shuffled": True}, {"style": "held_out"}],
    "sudoku": [{"noise": 0.0}, {"cell": 20}, {"style": "held_out"}],
}
TAUGHT = {  # of the teacher
    "digits": [{"misread": {6: 8}, "misread_probability": 0.9}, {"wordings": 9}, {"turns": 3}],
    "scenes": [{"misread": {"red": "blue"}, "misread_probability": 0.9}],
    "graph_coloring": [{"missed_probability": 0.5}],
    "sudoku": [{"misread": {3: 0}, "misread_probability": 0.9}],
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_knob_turns_nothing_else(name: str) -> None:
    small = {"setting": "small", "balanced": False} if name == "digits" else {"setting": "small"}

    def made(**knobs: object) -> list[Item]:
        return list(make_items(name, 8, 0, "train", {**small, **knobs}))

    usual = made()
    for knobs in DRAWN[name]:
        turned = made(**knobs)
        assert [one.image.tobytes() for one in turned] != [one.image.tobytes() for one in usual]
        assert [one.response() for one in turned] == [one.response() for one in usual]
        assert [(one.question, one.perception) for one in turned] == [(one.question, one.perception) for one in usual]
    for knobs in TAUGHT[name]:
        turned = made(**knobs)
        assert [one.response() for one in turned] != [one.response() for one in usual]
        assert [(one.image.tobytes(), one.perception) for one in turned] == [
            (one.image.tobytes(), one.perception) for one in usual
        ]
        chance = [knob for knob in knobs if knob.endswith("_probability")]
        if chance:  # a teacher that never errs is the usual one
            assert [one.response() for one in made(**{**knobs, chance[0]: 0})] == [one.response() for one in usual]


@pytest.mark.parametrize("name", ["scenes", "graph_coloring"])
def test_edges_and_objects_in_another_order_are_the_same_perception(name: str) -> None:
    (item,) = make_items(name, 1, 0, "train", {"setting": "small", "objects": 3} if name == "scenes" else {"setting": "small"})
    turned = [one[::-1] if isinstance(one, list) else one for one in json.loads(item.perception)[::-1]]
    texts = [f"<perception>{json.dumps(said)}</perception>" for said in (turned, json.loads(item.perception), turned[1:])]
    assert values("perception_exact", texts, [item] * 3) == [1.0, 1.0, 0.0]
    agreeing = attempt_many(find_reward("agreement"), [read_response(text) for text in texts], {"task": item.task}, {})
    assert [one.value for one in agreeing] == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("depth", [2, 900, 990, 1500])
def test_order_is_no_matter_of_depth(depth: int) -> None:
    (item,) = make_items("graph_coloring", 1, 0, "train", {"setting": "small"})
    nested = "[" * depth + "]" * depth
    assert in_order(item.task, nested) == nested
    assert in_order(None, "[[3,1],[1,0]]") == in_order('{"world":[]}', "[[3,1],[1,0]]") == "[[3,1],[1,0]]"


@pytest.mark.parametrize(("name", "knobs"), [("scenes", {"clutter": 9}), ("graph_coloring", {}), ("sudoku", {}), ("digits", {})])
def test_noise_is_laid_over_the_same_picture(name: str, knobs: dict) -> None:
    plain, noisy = (
        np.stack([np.asarray(i.image, dtype=float) for i in make_items(name, 8, 0, "test", {"noise": noise, **knobs})])
        for noise in (0.0, 0.02)
    )
    assert 0 < np.abs(noisy - plain).mean() < 0.02 * 255


@pytest.mark.parametrize("name", WORLDS)
def test_splits_and_seeds_differ_and_the_same_arguments_do_not(name: str) -> None:
    def shown(seed: int, split: str, count: int = 4) -> list[bytes]:
        return [item.image.tobytes() for item in make_items(name, count, seed, split, {"setting": "small"})]  # type: ignore[arg-type]

    pictures = [picture for split in SPLITS for seed in (0, 1) for picture in shown(seed, split)]
    assert len(set(pictures)) == len(pictures)
    assert shown(0, "train") == shown(0, "train", 9)[:4]


def test_answers_are_held_against_what_was_stated() -> None:
    """A triangle stated where there is a path of three: three colours would be right then, in any order."""
    task = '{"vertices":3,"world":"graph_coloring"}'
    name, columns = restate(task, "```json\n[[0,1],[1,2],[0,2]]\n```") or ("", {})
    assert name == "coloring_valid"
    assert (columns["colors"], columns["vertices"]) == (3, 3)
    text = '<perception>[[0,1],[1,2],[0,2]]</perception><answer>{"0":"c","1":"a","2":"b"}</answer>'
    item = Item(Image.new("RGB", (1, 1)), "", "", "[[0,1],[1,2]]", "", "", "", task, {"vertices": 3, "colors": 2})
    assert values("answer_follows", [text], [item]) == [1.0]
    assert values("coloring_valid", [text], [item]) == [0.0]
    assert restate(task, "[[0,7]]") is None
    with pytest.raises(ValueError, match="known world"):
        restate("{}", "[]")


def test_leaks_worked_by_hand() -> None:
    """Four items of one kind whose answers are 1, 1, 1 and 2, and none to learn from of another kind."""

    def item(answer: str, kind: str) -> Item:
        return Item(Image.new("RGB", (1, 1)), "", answer, "[]", "", "", "", json.dumps({"world": "digits", "kind": kind}))

    held_out = [item(answer, "a") for answer in "1112"] + [item("3", "b")]
    first, second = leaks([item("1", "a"), item("2", "a"), item("1", "a")], held_out, find_reward("answer_number"))
    assert (first.kind, first.items, first.answers, first.majority) == ("a", 4, 2, 0.75)
    # Of the three other answers, two are right for each 1 and none for the 2.
    assert first.chance == pytest.approx((3 * 2 / 3 + 0) / 4)
    assert (second.majority, second.chance) == (0.0, 0.0)


@pytest.mark.parametrize("name", WORLDS)
def test_rows_have_the_worlds_own_columns(name: str) -> None:
    data = Data(world=name, rows=3, **{"with": {"setting": "small"}})
    rows, (row, _) = load_rows(data, seed=0), first_row(data)
    assert row is not None
    assert set(load_world(name).ABOUT.columns) <= set(rows.column_names) & set(row)


def test_worlds_make_writes_what_a_recipe_reads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "rows"
    assert (
        main(["worlds", "make", "graph_coloring", "setting=small", "size=48", "--n", "5", "--seed", "3", "--out", str(out)]) == 0
    )
    rows = load_from_disk(str(out))
    assert len(rows) == 5
    assert rows[0]["image"].size == (48, 48)
    assert {"prompt", "answer", "perception", "response", "task", "vertices", "colors"} <= set(rows.column_names)
    assert Image.open(out / "contact_sheet.png").width > 900
    again = load_rows(Data(folder=out), seed=0)
    assert again[0]["prompt"][0]["content"] == rows[0]["prompt"]
    direct = load_rows(Data(world="graph_coloring", rows=5, seed=3, **{"with": {"setting": "small", "size": 48}}), seed=0)
    assert direct["response"] == again["response"]
    capsys.readouterr()
    assert main(["worlds", "make", "digits", "--n", "5", "--out", str(out)]) == 2
    assert "it already exists" in capsys.readouterr().err


def test_worlds_list_and_show(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["worlds", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(WORLDS)
    assert main(["worlds", "show", "scenes", "setting=small", "--n", "3", "--out", str(tmp_path / "a.png")]) == 0
    shown = capsys.readouterr().out
    assert "  hops=1: steps that a question takes, 1 to 3." in shown
    assert all(f"\n  {knob}={value}: " in shown for knob, value in knobs_of("scenes").items())
    assert "objects_matched for p*" in shown
    assert "the best constant answer" in shown
    assert Image.open(tmp_path / "a.png").width > 600


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["show", "sudok"], "did you mean 'sudoku'"),
        (["show", "sudoku", "blank=3"], "did you mean 'blanks'"),
        (["show", "sudoku", "blanks=99"], "1 to 50"),
        (["show", "sudoku", "blanks"], "it has no name and value"),
        (["show", "sudoku", "setting=huge"], "one of: hard, paper, small"),
        (["show", "digits", "--seed", "-1"], "a seed is not negative"),
        (["show", "digits", "--n", "1", "--out", "/proc/none/a.png"], "writing /proc/none/a.png"),
        (["make", "digits", "--n", "0", "--out", "x"], "a row at least"),
    ],
)
def test_bad_input_is_one_message(arguments: list[str], why: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["worlds", *arguments]) == 2
    assert why in capsys.readouterr().err
