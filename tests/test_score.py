import json
from pathlib import Path

import pytest

from rlperc.cli import main

LINES = [
    {"completion": "<answer>4</answer>", "answer": "4"},
    {"completion": "<answer>5</answer>", "answer": "4"},
    {"completion": "<answer>5</answer>", "answer": "blue"},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "completions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_one_line_for_each_completion_in_order(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", "answer_number,format_tags", "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["scores"]["answer_number"] for line in scored] == [1.0, 0.0, None]
    assert [line["status"]["answer_number"] for line in scored] == ["value", "value", "skip"]
    assert scored[1]["why"] == {"answer_number": "5 instead of 4", "format_tags": "a tag is missing, unclosed or repeated"}
    printed = capsys.readouterr().out.splitlines()
    assert " ".join(printed[0].split()) == "answer_number mean 0.5000 [0.0945, 0.9055] values 2 skips 1 errors 0"


def test_a_reward_that_raises_on_one_completion_does_not_take_the_rest(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from rlperc import reward\n@reward()\ndef mine(completion):\n    return 1 / (int(completion.answer) - 4)\n"
    )
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", str(plugin), "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["status"]["mine"] for line in scored] == ["error", "value", "value"]
    assert "line 4: ZeroDivisionError" in scored[0]["why"]["mine"]
    assert "the first error: it raised line 4: ZeroDivisionError" in capsys.readouterr().out


def test_a_recipes_rewards(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "model: {name: m}\ndata: {file: x.jsonl}\nrewards: [{use: answer_number, with: {tolerance: 1}}]\n"
        "stages: [{name: a, kind: grpo}]\n"
    )
    assert main(["score", str(file), "--recipe", str(recipe)]) == 0
    assert "mean 1.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "rewards", "message"),
    [
        (None, "answer_number", "no such file"),
        ("", "answer_number", "it holds no lines"),
        ("{\n", "answer_number", "line 1"),
        ('{"text": "x"}\n', "format_tags", "no text under 'completion'"),
        ('{"completion": "x"}\n', "answer_number", "needs the column 'answer'"),
        ('{"completion": "x"}\n', "answer_numbre", "did you mean 'answer_number'"),
    ],
)
def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture, content: str | None, rewards: str, message: str) -> None:
    file = tmp_path / "c.jsonl"
    if content is not None:
        file.write_text(content)
    assert main(["score", str(file), "--rewards", rewards]) == 2
    assert message in capsys.readouterr().err


def test_lines_end_at_newlines_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "c.jsonl"
    line = json.dumps({"completion": "one\u2028two <answer>4</answer>", "answer": "4"}, ensure_ascii=False)
    file.write_text(line + "\n", encoding="utf-8")
    assert main(["score", str(file), "--rewards", "answer_number"]) == 0
    assert "mean 1.0000" in capsys.readouterr().out


def test_nothing_is_scored_for_a_folder_that_is_not_there(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["score", str(file), "--rewards", "answer_number", "--out", str(tmp_path / "no" / "s.jsonl")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_scores_that_are_there_are_not_overwritten(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "scores.jsonl"
    out.write_text("mine\n")
    assert main(["score", str(file), "--rewards", "answer_number", "--out", str(out)]) == 2
    assert out.read_text() == "mine\n"
    assert "already exists" in capsys.readouterr().err
