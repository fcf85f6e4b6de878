"""`rlperc score`: files of completions in, scores out, in order; interrupted and gone on with as if nothing had happened."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scoring import LINES, scores_of, write

from rlperc.cli import main
from rlperc.cli_score import offline_handling
from rlperc.reward.runner import Handling


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "completions.jsonl", LINES)


def test_one_line_for_each_completion_in_order(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", "answer_number,format_tags", "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["scores"]["answer_number"] for line in scored] == [1.0, 0.0, None]
    assert [line["status"]["answer_number"] for line in scored] == ["value", "value", "skip"]
    assert list(scored[1]) == ["scores", "why", "status"]
    assert scored[1]["why"]["answer_number"] == "5 instead of 4"
    printed = capsys.readouterr().out.splitlines()
    assert " ".join(printed[0].split()) == "answer_number mean 0.5000 [0.0945, 0.9055] values 2 skips 1 errors 0 timeouts 0"
    assert "answer_number: 1 x 5 instead of 4" in printed
    assert printed[-1] == "3 completions, 0 unreadable (a tag is unclosed or repeated)"


def test_faults_do_not_take_the_rest(plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine = plugin(
        "import time\n@reward(timeout_s=0.5)\ndef mine(completion):\n"
        "    if completion.text == 'slow':\n        time.sleep(60)\n"
        "    return float(completion.text)\n"
    )
    file = write(tmp_path / "c.jsonl", [{"completion": text} for text in ("1", "x", "nan", "slow", "0.5")])
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", mine, "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["status"]["mine"] for line in scored] == ["value", "error", "error", "timeout", "value"]
    assert [line["scores"]["mine"] for line in scored] == [1.0, None, None, None, 0.5]
    assert "line 7: ValueError" in scored[1]["why"]["mine"]
    assert "returned nan" in scored[2]["why"]["mine"]
    printed = capsys.readouterr().out
    assert "values 2  skips 0  errors 2  timeouts 1" in printed
    assert "mine: the first error: line 2: it raised line 7: ValueError" in printed


@pytest.mark.parametrize(("on_error", "code", "scores"), [("skip", 0, [None, 1.0]), ("zero", 0, [0.0, 1.0]), ("stop", 2, None)])
def test_what_becomes_of_a_fault(
    plugin: Callable[[str], str], tmp_path: Path, on_error: str, code: int, scores: list | None, capsys: pytest.CaptureFixture
) -> None:
    mine = plugin("@reward(bounded=True)\ndef mine(completion):\n    return 1 / len(completion.text)\n")
    file, out = write(tmp_path / "c.jsonl", [{"completion": ""}, {"completion": "x"}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", mine, "--on-error", on_error, "--out", str(out)]) == code
    assert (scores_of(out, "mine") if scores else out.exists()) == (scores or False)
    printed = capsys.readouterr()
    assert ("mean 0.5000" in printed.out) == (on_error == "zero")
    assert ("ZeroDivisionError" in printed.err) == (on_error == "stop")


RECIPE = (
    "model: {name: m}\ndata: {file: x.jsonl, columns: {answer: solution}}\ntags: {answer: final}\n"
    "rewards: [{use: answer_number, with: {tolerance: 1}}]\nstages: [{name: a, kind: grpo}]\n"
)


def test_a_recipes_rewards_settings_tags_and_names_of_columns(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    file = write(tmp_path / "c.jsonl", [{"completion": f"<final>{i}</final>", "solution": 4} for i in (4, 5, 6)])
    assert main(["score", str(file), "--recipe", str(recipe)]) == 0
    assert "mean 0.6667" in capsys.readouterr().out
    assert main(["score", str(file), "--recipe", str(recipe), "rewards.answer_number.with.tolerance=2"]) == 0
    assert "mean 1.0000" in capsys.readouterr().out


def test_the_datas_own_name_for_a_column_wins_as_in_training(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    file = write(tmp_path / "c.jsonl", [{"completion": "<final>9</final>", "solution": 9, "answer": 4}])
    assert main(["score", str(file), "--recipe", str(recipe)]) == 0
    assert "mean 1.0000" in capsys.readouterr().out


def test_a_recipe_that_stops_on_faults_does_so_in_training_only() -> None:
    assert offline_handling(Handling(), None) == Handling(on_error="skip", max_error_share=1.0)
    assert offline_handling(Handling(on_error="zero", timeout_s=2), None).on_error == "zero"
    assert offline_handling(Handling(on_error="zero", timeout_s=2), "stop").timeout_s == 2


def test_settings_on_the_command_line(file: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["score", str(file), "--rewards", "answer_number,format_tags", "--with"]
    assert main([*command, "answer_number.tolerance=1e0"]) == 0
    assert "mean 1.0000" in capsys.readouterr().out
    for setting, message in {
        "answer_number.tolerence=1": "did you mean 'tolerance'",
        "answer_nummer.tolerance=1": "did you mean 'answer_number'",
        "tolerance=1": "--with NAME.SETTING=VALUE",
        "answer_number.tolerance={": "not YAML",
    }.items():
        assert main([*command, setting]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rewards", "format_tags", "--resume"], "--out with the file of scores"),
        (["--rewards", "format_tags", "a.b=c"], "--with NAME.SETTING=VALUE"),
        (["--recipe", "r.yaml", "--with", "a.b=c"], "rewards.NAME.with.SETTING=VALUE"),
        (["--rewards", "format_tags,format_tags"], "it stands there twice"),
        (["--rewards", "format_tags", "--summary", "no/s.json"], "there is no folder no"),
        (["--rewards", "format_tags", "--out", "no/s.jsonl"], "there is no folder no"),
    ],
)
def test_options_that_do_not_go_together(file: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    assert main(["score", str(file), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "rewards", "message"),
    [
        (None, "answer_number", "no such file"),
        ("", "answer_number", "it holds no completions"),
        ("{\n", "answer_number", "line 1"),
        ("[" * 100_000 + "\n", "answer_number", "nested too deeply"),
        ("4\n", "answer_number", "it is no object"),
        ('{"text": "x"}\n', "format_tags", "no text under 'completion'"),
        ('{"completion": "x", "tokens": 1.5}\n', "format_tags", "'tokens' is not the number"),
        ('{"completion": "x", "answer": NaN}\n', "format_tags", "line 1: the column 'answer'"),
        ('{"completion": "x"}\n', "answer_number", "needs the column 'answer'"),
        ('\n{"completion": "x", "answer": "4"}\n{"completion": "x"}\n', "answer_number", "line 3\n"),
        ('{"completion": "x"}\n', "answer_numbre", "did you mean 'answer_number'"),
    ],
)
def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture, content: str | None, rewards: str, message: str) -> None:
    file, out = tmp_path / "c.jsonl", tmp_path / "scores.jsonl"
    if content is not None:
        file.write_text(content)
    assert main(["score", str(file), "--rewards", rewards, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_lines_end_at_newlines_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "c.jsonl"
    line = json.dumps({"completion": "one\u2028two <answer>4</answer>", "answer": "4"}, ensure_ascii=False)
    file.write_text(f"\ufeff{line}\r\n\n{line}", encoding="utf-8")
    assert main(["score", str(file), "--rewards", "answer_number"]) == 0
    assert "mean 1.0000" in (printed := capsys.readouterr().out)
    assert "2 completions" in printed


def test_scores_that_are_there_are_not_overwritten(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "scores.jsonl"
    for theirs in ("mine\n", "mine", "{}\n", '{"scores": {"other": 1}, "why": {"other": ""}, "status": {"other": "value"}}\n'):
        out.write_text(theirs)
        assert main(["score", str(file), "--rewards", "answer_number", "--out", str(out)]) == 2
        assert "already exists" in capsys.readouterr().err
        assert main(["score", str(file), "--rewards", "answer_number", "--out", str(out), "--resume"]) == 2
        assert "going on with" in capsys.readouterr().err
        assert out.read_text() == theirs


def test_what_a_model_may_write(plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine = plugin("@reward(bounded=True)\ndef mine(completion):\n    return Score(0.5, why=completion.text[:20])\n")
    texts = ["x" * 10_000_000, "\ud800 lone", "nul\0 and \x1b[31m red", "<answer>" * 1000, "ünïcode\u2028"]
    file, out = write(tmp_path / "c.jsonl", [{"completion": text} for text in texts]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", f"{mine},format_tags", "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [line["why"]["mine"] for line in scored] == [text[:20] for text in texts]
    assert "ünïcode" in out.read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "5 completions, 1 unreadable" in printed
    assert "\x1b" not in printed
    assert "\\ud800 lone" in printed
