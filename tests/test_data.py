import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset
from PIL import Image

from rlperc.errors import DataError
from rlperc.recipe.rows import row_images
from rlperc.recipe.schema import Data
from rlperc.train.data import load_rows, with_completions
from rlperc.train.images import has_images
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


def one_row(folder: Path, **row: object) -> Data:
    (folder / "one.jsonl").write_text(json.dumps({"prompt": "Q?", **row}) + "\n")
    return Data(file=folder / "one.jsonl", images=folder / "pictures")


def test_nested_columns_that_rewards_read_become_json_text(folder: Path) -> None:
    rows = load_rows(one_row(folder, perception=[[8, 7], [1, 1]], answer=14), 0)
    assert (rows[0]["perception"], rows[0]["answer"]) == ("[[8,7],[1,1]]", "14")


def test_several_images_and_none(folder: Path) -> None:
    lines = [{"prompt": "A", "images": ["0.png", "3.png"]}, {"prompt": "B", "images": []}, {"prompt": "C", "images": None}]
    (folder / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = load_rows(Data(file=folder / "many.jsonl", images=folder / "pictures"), 0)
    assert [len(row_images(row)) for row in rows] == [2, 0, 0]
    assert has_images(rows) == [True, False, False]
    assert np.asarray(row_images(rows[0])[1])[0, 0].tolist() == [30, 0, 0]


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_images_as_bytes_in_parquet_that_datasets_did_not_write(folder: Path, form: str) -> None:
    data = (folder / "pictures" / "2.png").read_bytes()
    value = data if form == "bytes" else {"bytes": data, "path": None}
    table = pyarrow.table({"prompt": ["A", "B"], "image": pyarrow.array([value, None])})
    pyarrow.parquet.write_table(table, folder / "raw.parquet")
    rows = load_rows(Data(file=folder / "raw.parquet"), 0)
    assert np.asarray(rows[0]["image"])[0, 0].tolist() == [20, 0, 0]
    assert has_images(rows) == [True, False]


def test_nothing_is_written_beside_the_users_data(folder: Path) -> None:
    before = sorted((folder / "saved").iterdir())
    load_rows(Data(folder=folder / "saved", columns=COLUMNS, prompt_template="Look. {prompt}"), 0)
    assert sorted((folder / "saved").iterdir()) == before


def test_a_system_prompt_joins_a_conversation_in_its_own_form(tmp_path: Path) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": parts}) + "\n")
    rows = load_rows(Data(file=tmp_path / "rows.jsonl", system_prompt="Look."), 0)
    assert rows[0]["prompt"][0] == {"role": "system", "content": [{"type": "text", "text": "Look."}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": None}, "neither text nor messages"),
        ({"prompt": 3}, "neither text nor messages"),
        ({"prompt": []}, "neither text nor messages"),
        ({"prompt": [{"role": "user"}]}, "lack a role or a content"),
        ({"images": "0.png"}, "it holds one image in each row"),
        ({"image": ["0.png"]}, "it holds a list in each row"),
        ({"image": 3}, "paths, bytes, or images"),
        ({"image": "9.png"}, "there is no file"),
    ],
)
def test_rows_that_cannot_be_trained_on(folder: Path, row: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_rows(one_row(folder, **row), 0)


def test_a_file_that_is_no_image_is_said_before_it_is_wanted(folder: Path) -> None:
    (folder / "pictures" / "bad.png").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"the image 'bad\.png'") as error:
        load_rows(one_row(folder, image="bad.png"), 0)
    assert "cannot identify" in error.value.why


def test_what_is_wrong_with_a_file_is_said(folder: Path) -> None:
    (folder / "broken.jsonl").write_text('{"prompt": "A"}\n{"prompt": ')
    with pytest.raises(DataError, match="JSON parse error"):
        load_rows(Data(file=folder / "broken.jsonl"), 0)


def test_sft_needs_responses(folder: Path) -> None:
    rows = load_rows(Data(file=folder / "rows.jsonl", images=folder / "pictures", columns=COLUMNS), 0)
    with pytest.raises(DataError, match="no column 'response'"):
        with_completions(rows, "rows.jsonl")


def test_images_have_no_transparency(folder: Path) -> None:
    """vLLM would lay it over white, transformers drops it: the model would see another image where it draws."""
    translucent = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    translucent.save(folder / "pictures" / "0.png")
    rows = load_rows(Data(file=folder / "rows.jsonl", images=folder / "pictures", columns=COLUMNS), seed=0)
    seen = rows[0]["image"]
    assert seen.mode == "RGB"
    assert seen.getpixel((3, 3)) == translucent.convert("RGB").getpixel((3, 3)) == (200, 100, 50)
