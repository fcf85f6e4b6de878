"""`rlperc eval`, on models with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, List
from datasets import Image as ImageFeature
from PIL import Image
from trainers import tiny_model

from rlperc.cli import main
from rlperc.evaluate.accuracy import Judged, _others
from rlperc.examine_alone import prompt_for, remarks, run_of
from rlperc.words.response import Tags
from rlperc.worlds import load_world

QUICK = ("--rows", "4", "--max-new-tokens", "8", "--batch-size", "4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_a_model_on_a_world_and_against_itself(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["eval", str(model), "grid=1", "--world", "digits", *QUICK, "--out", str(first)]) == 0
    shown = capsys.readouterr().out
    assert "4 of 4 responses have no readable <answer>" in shown
    measured = summary(first)["eval"][str(model)]
    assert measured["n"] == 4
    assert {"a", "a_p", "a_r", "a_o", "blind_none", "blind_blank", "blind_other"} <= set(measured)
    assert len((first / "responses.jsonl").read_text().splitlines()) == 4
    asked = summary(first)["asked"]["data"]
    assert asked["with"] == {"grid": 1}
    assert "<perception>" in asked["system_prompt"]
    again = ["eval", str(model), "grid=1", "--world", "digits", *QUICK, "--blind", "--out", str(second), "--against", str(first)]
    assert main(again) == 0
    change = summary(second)["changes"][str(first)]["a"]
    assert change.pop("interval") == pytest.approx([-0.462, 0.462], abs=1e-3)  # 1.96 * sqrt((2 / 6) / 6)
    assert change == {"difference": 0, "rose": 0, "fell": 0, "p": 1}
    assert "blind_none" not in summary(second)["eval"][str(model)]


def test_responses_drawn_otherwise_are_compared_with_a_word_of_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1?", "answer": "2", "perception": "[[1"}\n' * 3)
    asked = ["eval", str(model), "--data", str(tmp_path / "rows.jsonl"), "--answer", "answer_number", *QUICK]
    assert main([*asked, "--out", str(tmp_path / "one")]) == 0
    assert main([*asked, "--temperature", "0.5", "--against", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    assert "drawn otherwise, which is part of every change: temperature 0.0, and now 0.5" in " ".join(shown.split())
    assert "a_o is not measured: the rows have no column 'task'" in shown
    assert "the p* of 3 of 3 rows begins like JSON and cannot be read as such" in shown


def test_other_rows_are_not_compared(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["eval", str(model), "--world", "digits", *QUICK, "--blind", "--out", str(tmp_path / "one")]) == 0
    arguments = ["eval", str(model), "--world", "digits", *QUICK, "--prompt", "plain", "--against", str(tmp_path / "one")]
    assert main([*arguments, "--seed", "1", "grid=1", "--perception", "perception_exact"]) == 2
    error = capsys.readouterr().err
    assert "it was measured otherwise: rewards ['answer_number', 'perception_cells'], and now" in error
    assert "; seed 0, and now 1; grid the default, and now 1\n" in error


def test_rows_of_ones_own_without_p_star(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1?", "answer": "2"}\n' * 3)
    arguments = ["--data", str(tmp_path / "rows.jsonl"), "--answer", "answer_number", "--perception", "perception_cells"]
    assert main(["eval", str(model), *arguments, *QUICK, "--prompt", "plain", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "the rows have no column 'perception'" in shown
    found = summary(tmp_path / "out")
    assert set(found["eval"][str(model)]) == {"n", "a", "a_interval"}
    assert "system_prompt" not in found["asked"]["data"]


def test_rows_of_ones_own_with_names_of_their_own(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "pictures").mkdir()
    lines = []
    for shade in range(4):
        Image.new("RGB", (64, 64), (60 * shade,) * 3).save(tmp_path / "pictures" / f"{shade}.png")
        lines.append({"question": "1 + 1?", "solution": "2", "p_star": "[[1, 1]]", "image": f"{shade}.png"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = ["--columns", "prompt=question", "answer=solution", "perception=p_star", "--images", str(tmp_path / "pictures")]
    asked = ["--data", str(tmp_path / "rows.jsonl"), "--answer", "answer_number", *names, *QUICK]
    assert main(["eval", str(model), *asked, "--out", str(tmp_path / "out")]) == 0
    measured = summary(tmp_path / "out")["eval"][str(model)]
    assert {"a", "a_p", "a_r", "blind_other"} <= set(measured)
    assert "rows have no image" not in capsys.readouterr().out


def test_several_responses_to_each_row(model: Path, tmp_path: Path) -> None:
    arguments = ["--repeats", "2", "--temperature", "1", "--blind", "--out", str(tmp_path / "out")]
    assert main(["eval", str(model), "--world", "digits", *QUICK, *arguments]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "responses.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert any(one["response"] != other["response"] for one, other in zip(lines[::2], lines[1::2], strict=True))
    assert summary(tmp_path / "out")["eval"][str(model)]["n"] == 4


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--world", "digit"], "did you mean 'digits'"),
        (["blanks=2", "--world", "digits"], "the world 'digits'"),
        (["grid=2", "--data", "x.jsonl", "--answer", "answer_number"], "only a world has knobs"),
        (["--data", "x.jsonl"], "--answer answer_math"),
        (["--world", "digits", "--columns", "answer"], "--columns answer=solution"),
        (["--world", "digits", "--images", "pictures"], "a world draws its own"),
        (["--world", "digits", "--subset", "main"], "a hub data set's configuration"),
        (["--data", "x.jsonl", "--answer", "answer_number"], "x.jsonl"),
        (["--world", "digits", "--answer", "answer_numbr"], "did you mean 'answer_number'"),
        (["--world", "digits", "--rows", "0"], "at least 1"),
        (["--world", "digits", "--repeats", "2"], "greedy responses to a row are all the same"),
        (["--world", "digits", "--against", "nowhere"], "it cannot be read"),
        (["--world", "digits", "--split", "dev"], "train, validation and test"),
        (["--world", "digits", "--seed", "-1"], "at least 0"),
        (["--world", "digits", "--answer", "image_dependence"], "it asks the training model"),
        (["--world", "digits", "--perception", "image_dependence"], "it asks the training model"),
        (["--world", "digits", "--answer", "perception_cells"], "does not say whether the answer is right"),
        (["--world", "digits", "--perception", "format_tags"], "does not say whether the perception is right"),
        (["--world", "digits", "--answer", "box_iou"], "box_iou"),
    ],
)
def test_bad_input_is_one_message(arguments: list[str], why: str, model: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["eval", str(model), *arguments]) == 2
    assert why in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["eval", str(tmp_path / "none"), "--world", "digits", "--rows", "2", "--out", str(tmp_path / "out")]) == 2
    assert f"the model '{tmp_path}/none'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # the same command can be tried again


def test_rows_whose_p_star_cannot_be_read_are_counted(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lines = [{"prompt": "1 + 1?", "answer": answer, "perception": seen} for answer, seen in (("2", "[[1]]"), ("2", "banana ["))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {**lines[0], "answer": None}]))
    arguments = ["--data", str(tmp_path / "rows.jsonl"), "--answer", "answer_number", "--perception", "perception_cells"]
    assert main(["eval", str(model), *arguments, *QUICK, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 rows have no image (columns: " in said
    assert "a: 1 of 3 are not measured: the row's answer is not there, or cannot be read" in said
    assert "a_p, a_r: 1 of 3 are not measured: the row's p* is not there, or perception_cells cannot read it" in said
    measured = summary(tmp_path / "out")["eval"][str(model)]
    # Reasoning from a p* that nobody can read says nothing of reasoning; nor where there is no answer.
    assert (measured["a_rows"], measured["a_p_rows"], measured["a_r_rows"]) == (2, 2, 1)
    assert ", 1 rows" in said


def test_an_image_in_a_table_that_is_none(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pictures = [{"bytes": b"<html>404</html>", "path": None}]
    table = pyarrow.table({"prompt": ["?"], "answer": ["2"], "image": pyarrow.array(pictures)})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    arguments = ["--data", str(tmp_path / "rows.parquet"), "--answer", "answer_number", *QUICK]
    assert main(["eval", str(model), *arguments]) == 2
    assert "rlperc: an image of the data\n  why: cannot identify" in capsys.readouterr().err


def test_what_kept_responses_from_being_measured() -> None:
    judged = [
        Judged(0, "<perception>1</perception><answer>2</answer>", 0.0, 0.0, 0.0, why={"a": "2 instead of 3"}),
        Judged(1, "I see nothing", 0.0, 0.0, 0.0, why={"a": "no answer", "a_p": "no perception"}),
        Judged(2, "", 0.0, 0.0, 0.0, why={"a": "no answer", "a_p": "no perception"}),
    ]
    assert remarks(judged, Tags()) == [
        "2 of 3 responses have no readable <perception>",
        "3 of 3 responses have no readable <think>",
        "2 of 3 responses have no readable <answer>",
        "a: 2 x no answer",
        "a: 1 x 2 instead of 3",
        "a_p: 2 x no perception",
    ]


def test_the_prompt_says_what_a_world_wants() -> None:
    text = prompt_for(Tags(perception="info"), load_world("sudoku").ABOUT)
    assert "<info>" in text
    assert load_world("sudoku").ABOUT.perception in text


def test_rows_may_have_columns_of_our_names_and_values_that_no_json_has(model: Path, tmp_path: Path) -> None:
    row = {"prompt": "1 + 1?", "answer": "2", "completion": "GOLD", "prompt_id": "same", "when": "2026-11-21T10:00:00"}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 2)
    arguments = ["--data", str(tmp_path / "rows.jsonl"), "--answer", "answer_number", *QUICK, "--out", str(tmp_path / "out")]
    assert main(["eval", str(model), *arguments]) == 0
    kept = [json.loads(line) for line in (tmp_path / "out" / "completions.jsonl").read_text().splitlines()]
    assert [one["prompt_id"] for one in kept] == [0, 1]
    assert all(one["completion"] != "GOLD" for one in kept)


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_measured(
    model: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlperc.examine_alone.load_model", lambda *_: pytest.fail("the model was loaded"))
    assert main(["eval", str(model), "--world", "digits", *QUICK, "--out", "/proc/none/out"]) == 2
    assert "writing /proc/none/out" in capsys.readouterr().err


def test_a_hub_name_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.yaml").write_text("torn")
    (tmp_path / "summary.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert run_of(Path("HuggingFaceTB/SmolVLM-256M-Instruct")) is None


def test_no_rows(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    assert main(["eval", str(model), "--data", str(tmp_path / "rows.jsonl"), "--answer", "answer_number"]) == 2
    assert "it holds no rows" in capsys.readouterr().err


def test_the_other_image_is_another(tmp_path: Path) -> None:
    """Two questions about one image stand together; one row has two images, and so has no other."""
    red, blue = (Image.new("RGB", (4, 4), color) for color in ("red", "blue"))
    rows = Dataset.from_list([{"images": [red]}, {"images": [red]}, {"images": [blue]}, {"images": [red, blue]}, {"images": []}])
    rows = rows.cast_column("images", List(ImageFeature()))
    assert _others(rows, [True, True, True, True, False]) == {0: 2, 1: 2, 2: 0}
