"""`rlperc score` gives the numbers that training would have seen, also from plain TRL functions and from parquet."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scoring import HERE, LINES, groups_of, scores_of, write

from rlperc.cli import main
from rlperc.recipe.load import load_recipe
from rlperc.recipe.rows import text_columns
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.reward.trl import TrlReward
from rlperc.score import files
from rlperc.words.response import Tags


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "completions.jsonl", LINES)


def test_columns_are_what_training_would_have_seen(plugin: Callable[[str], str], tmp_path: Path) -> None:
    seen = (
        "@reward(bounded=True)\ndef seen(completion, answer, perception, question, boxes, hint='none', *, weight=1.0):\n"
        "    return Score(weight, why=repr((answer, perception, question, boxes, hint, completion.tokens)))\n"
    )
    row = {"prompt": "How many?", "answer": 14, "perception": {"b": [1], "a": None}, "boxes": [[0, 1, 2, 3]]}
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "model: {name: m}\ndata: {file: x.jsonl}\nrewards: [{use: ./seen.py, with: {weight: 0.5}}]\n"
        "stages: [{name: a, kind: grpo}]\n"
    )
    plugin(seen, "seen.py")
    loaded = load_recipe(recipe)
    trained = {**row, **text_columns(loaded.stages[0].data, row)}
    logged: dict[str, Any] = {}
    in_training = TrlReward(RewardRunner(find_reward(loaded.stages[0].rewards[0].use), {"weight": 0.5}, HERE), Tags(), 1)
    columns = {name: [value] for name, value in trained.items() if name != "prompt"}
    values = in_training(
        [trained["prompt"]], [[{"role": "assistant", "content": "x"}]], [[0] * 7], log_extra=logged.__setitem__, **columns
    )
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x", "tokens": 7, **row}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--recipe", str(recipe), "--out", str(out)]) == 0
    assert scores_of(out, "seen") == values == [0.5]
    assert [json.loads(out.read_text())["why"]["seen"]] == logged["seen/why"]
    assert logged["seen/why"] == ["""('14', '{"a":null,"b":[1]}', 'How many?', [[0, 1, 2, 3]], 'none', 7)"""]


def test_an_optional_column_may_be_missing_in_some_rows(plugin: Callable[[str], str], tmp_path: Path) -> None:
    one = plugin("@reward(bounded=True)\ndef one(completion, hint=0.25):\n    return hint\n", "one.py")
    together = plugin(
        '@reward(scope="batch", bounded=True)\ndef together(completions, hint=None, other=None):\n'
        "    assert other is None\n    return [Score(0.5, why=repr(h)) for h in hint]\n",
        "together.py",
    )
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x"}, {"completion": "x", "hint": 1}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", f"{one},{together}", "--out", str(out)]) == 0
    assert scores_of(out, "one") == [0.25, 1.0]
    assert [json.loads(line)["why"]["together"] for line in out.read_text().splitlines()] == ["None", "1"]


def test_a_batch_in_one_call_is_about_as_large_as_in_training(plugin: Callable[[str], str], tmp_path: Path) -> None:
    together = plugin(
        '@reward(scope="batch", bounded=True, range=(0, 999))\ndef sizes(completions):\n'
        "    return [len(completions)] * len(completions)\n"
    )
    file, out = write(tmp_path / "c.jsonl", groups_of([30, 30, 30, 7])), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", together, "--out", str(out)]) == 0
    assert scores_of(out, "sizes") == [90.0] * 90 + [7.0] * 7


TRL = (
    "def theirs(prompts, completions, answer, **others):\n"
    "    assert prompts == ['', 'Q'] and sorted(others) == ['extra'], (prompts, others)\n"
    "    return [float(c[-1]['content'] == a) if a else None for c, a in zip(completions, answer)]\n"
)


def test_a_plain_trl_function(plugin: Callable[[str], str], tmp_path: Path) -> None:
    lines = [{"completion": "4", "answer": 4, "extra": 1}, {"completion": "4", "answer": None, "extra": 2, "prompt": "Q"}]
    file, out = write(tmp_path / "c.jsonl", lines), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", plugin(TRL), "--out", str(out)]) == 0
    assert scores_of(out, "theirs") == [1.0, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(completions, trainer_state):\n    return [0.0]\n", "it needs `trainer_state`, which only a trainer has"),
        ("def f(completions, completion_ids):\n    return [0.0]\n", "it needs the column 'completion_ids'"),
        ("def f(completions, answer):\n    return [0.0]\n", "it needs the column 'answer'; there are completion"),
        ('@reward(scope="batch")\ndef f(completions, *, scorer):\n    return [0.0]\n', "it asks the model that is training"),
        ("@reward()\ndef f(completion, *, url):\n    return 0.0\n", "it needs the setting 'url'"),
    ],
)
def test_what_cannot_be_scored_without_training(
    plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture, text: str, message: str
) -> None:
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x"}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", plugin(text), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_token_ids_may_stand_in_a_column(plugin: Callable[[str], str], tmp_path: Path) -> None:
    theirs = plugin("def f(completions, completion_ids, trainer_state=None):\n    return [len(i) for i in completion_ids]\n")
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x", "completion_ids": [1, 2]}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", theirs, "--out", str(out)]) == 0
    assert scores_of(out, "f") == [2.0]


# Parquet


def test_parquet_is_scored_as_json_lines_are(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lines = [
        {
            "completion": f"<perception>[[1,{i % 2}]]</perception>",
            "perception": [[1, 1]],
            "tokens": i,
            "prompt_id": i // 3,
            "unread": b"\xff",
        }
        for i in range(700)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(lines), tmp_path / "c.parquet", row_group_size=100)
    file = write(tmp_path / "c.jsonl", [{name: value for name, value in line.items() if name != "unread"} for line in lines])
    printed = []
    for source in (tmp_path / "c.parquet", file):
        out = tmp_path / f"{source.name}.scores"
        assert main(["score", str(source), "--rewards", "perception_cells,format_tags", "--out", str(out)]) == 0
        printed.append((capsys.readouterr().out, out.read_bytes()))
    assert printed[0] == printed[1]
    assert "mean 0.7500" in printed[0][0]
    assert main(["score", str(tmp_path / "c.parquet"), "--rewards", "answer_number"]) == 2
    assert "row 1\n  why: it needs the column 'answer'; there are completion, perception" in capsys.readouterr().err


def test_what_is_wrong_with_parquet(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "c.parquet"
    broken.write_bytes(b"PAR1 nonsense")
    assert main(["score", str(broken), "--rewards", "format_tags"]) == 2
    assert "it is not parquet" in capsys.readouterr().err
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    assert main(["score", str(broken), "--rewards", "format_tags"]) == 2
    assert 'pip install "rlperc[train]"' in capsys.readouterr().err
