import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from rlperc.errors import DataError
from rlperc.recipe.schema import Data
from rlperc.train.data import load_rows, row_images, with_completions
from rlperc.words.response import Tags


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four rows as JSONL, as parquet and as a `datasets` folder, with their images beside them."""
    (tmp_path / "pictures").mkdir()
    rows = []
    for index in range(4):
        Image.new("RGB", (8, 8), (10 * index, 0, 0)).save(tmp_path / "pictures" / f"{index}.png")
        rows.append({"question": f"Q{index}?", "solution": str(index), "picture": f"{index}.png"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Dataset.from_list(rows)
    data.to_parquet(str(tmp_path / "rows.parquet"))
    images = [str(tmp_path / "pictures" / row["picture"]) for row in rows]
    data.remove_columns("picture").add_column("picture", images).save_to_disk(str(tmp_path / "saved"))
    return tmp_path


COLUMNS = {"prompt": "question", "answer": "solution", "image": "picture"}


@pytest.mark.parametrize("source", ["rows.jsonl", "rows.parquet", "saved"])
def test_rows_of_ones_own(folder: Path, source: str) -> None:
    where = {"folder": folder / source} if source == "saved" else {"file": folder / source, "images": folder / "pictures"}
    data = Data(**where, columns=COLUMNS, system_prompt="Use the tags.", prompt_template="{prompt} (out of {answer})")
    rows = load_rows(data, seed=0)
    assert len(rows) == 4
    assert rows[2]["prompt"] == [
        {"role": "system", "content": "Use the tags."},
        {"role": "user", "content": "Q2? (out of 2)"},
    ]
    assert rows["answer"][:] == ["0", "1", "2", "3"]
    (image,) = row_images(rows[2])
    assert np.asarray(image)[0, 0].tolist() == [20, 0, 0]


def test_some_rows_are_taken_in_an_order_the_seed_fixes(folder: Path) -> None:
    data = Data(file=folder / "rows.jsonl", images=folder / "pictures", columns=COLUMNS, rows=2)
    assert load_rows(data, 1)["answer"][:] == load_rows(data, 1)["answer"][:]
    assert len({tuple(load_rows(data, seed)["answer"]) for seed in range(8)}) > 1


def test_conversations_stay_as_they_are(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Look."}, {"role": "user", "content": "What?"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": prompt}) + "\n")
    rows = load_rows(Data(file=tmp_path / "rows.jsonl", system_prompt="Not this."), 0)
    assert rows[0]["prompt"] == prompt


def test_a_world() -> None:
    rows = load_rows(Data(world="digits", rows=3, **{"with": {"grid": 3}}), seed=5)
    assert rows[0]["image"].size == (48, 48)
    assert rows[0]["prompt"][0]["role"] == "user"
    assert {"answer", "perception", "response", "task"} <= set(rows.column_names)
    completions = with_completions(rows, "the world")
    assert completions.column_names == ["prompt", "image", "completion"]
    assert completions[0]["completion"] == [{"role": "assistant", "content": rows[0]["response"]}]


def test_a_world_writes_in_the_recipes_tags() -> None:
    rows = load_rows(Data(world="digits", rows=2, system_prompt="Look."), 0, Tags(perception="info"))
    assert rows[0]["response"].startswith("<info>[[")
    assert [message["role"] for message in rows[0]["prompt"]] == ["system", "user"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"prompt": "qestion"}}, "did you mean 'question'"),
        ({"columns": {}}, "no column 'prompt'"),
        ({"images": Path("/nowhere")}, "there is no file"),
        ({"prompt_template": "{nothing}"}, "cannot be filled"),
        ({"file": Path("/nowhere/rows.jsonl")}, "nowhere"),
    ],
)
def test_rows_that_are_wrong(folder: Path, change: dict, message: str) -> None:
    good = {"file": folder / "rows.jsonl", "images": folder / "pictures", "columns": COLUMNS}
    with pytest.raises(DataError, match=message):
        load_rows(Data(**{**good, **change}), 0)


def test_sft_needs_responses(folder: Path) -> None:
    rows = load_rows(Data(file=folder / "rows.jsonl", images=folder / "pictures", columns=COLUMNS), 0)
    with pytest.raises(DataError, match="no column 'response'"):
        with_completions(rows, "rows.jsonl")
