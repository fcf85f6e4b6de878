"""From a recipe's `data` to a `datasets.Dataset` in the form TRL trains on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Image, List, Value, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError
from tqdm.auto import tqdm

from rlperc.errors import DataError, did_you_mean
from rlperc.recipe.schema import Data
from rlperc.words.response import Tags
from rlperc.worlds import Split, load_world

DEFAULT_WORLD_ROWS = 1000
IMAGE_COLUMNS = ("image", "images")
WORLD_FEATURES = Features(
    {
        "image": Image(),
        "prompt": List({"role": Value("string"), "content": Value("string")}),
        **dict.fromkeys(("answer", "perception", "response", "task"), Value("string")),
    }
)


def load_rows(data: Data, seed: int, tags: Tags | None = None) -> Dataset:
    """Load the rows that a recipe's `data` describes.

    Args:
        data: the description.
        seed: used where `data.seed` is not given.
        tags: of the responses that a world writes.

    Returns:
        A data set whose `prompt` is a conversation, whose `image` or `images` decode to PIL images, and whose other
        columns are the data's, under our names for them.

    Raises:
        DataError: the data is not there, or lacks what the recipe asks of it.
    """
    seed = seed if data.seed is None else data.seed
    if data.world is not None:
        return _from_world(data, seed, tags)
    rows = _renamed(_stored(data), data)
    if "prompt" not in rows.column_names:
        raise DataError(
            f"training on {data.source}",
            f"it has no column 'prompt'; it has {', '.join(rows.column_names)}",
            "columns: {prompt: the column that holds the question}",
        )
    if data.rows is not None and data.rows < len(rows):
        rows = rows.shuffle(seed=seed).select(range(data.rows))
    names = [name for name in rows.column_names if name not in IMAGE_COLUMNS]

    def converse(*values: Any) -> dict[str, Any]:
        return {"prompt": _conversation(data, dict(zip(names, values, strict=True)))}

    return rows.map(converse, input_columns=names, desc="prompts")


def with_completions(rows: Dataset, source: str) -> Dataset:
    """The same rows as prompt and completion, for SFT. Raises DataError where there is no `response`."""
    if "response" not in rows.column_names:
        raise DataError(
            f"supervised fine-tuning on {source}",
            f"it has no column 'response'; it has {', '.join(rows.column_names)}",
            "columns: {response: the column that holds what the model should write}",
        )
    kept = [name for name in ("prompt", *IMAGE_COLUMNS) if name in rows.column_names]
    completions = [[{"role": "assistant", "content": text}] for text in rows["response"]]
    return rows.select_columns(kept).add_column("completion", completions)


def row_images(row: dict[str, Any]) -> list[Any]:
    """The PIL images of a row, in order; none is an empty list."""
    if row.get("images") is not None:
        return list(row["images"])
    return [row["image"]] if row.get("image") is not None else []


def _from_world(data: Data, seed: int, tags: Tags | None) -> Dataset:
    count = data.rows or DEFAULT_WORLD_ROWS
    split: Split = data.split  # type: ignore[assignment]  # checked by the schema
    items = load_world(str(data.world)).items(count, seed, split, **data.with_)
    rows = [
        {
            "image": item.image,
            "prompt": _conversation(data, {"prompt": item.question, "answer": item.answer}),
            "answer": item.answer,
            "perception": item.perception,
            "response": item.response(tags),
            "task": item.task,
        }
        for item in tqdm(items, total=count, desc="rows", leave=False, disable=os.environ.get("RANK", "0") != "0")
    ]
    return Dataset.from_list(rows, features=WORLD_FEATURES)


def _stored(data: Data) -> Dataset:
    try:
        if data.file is not None:
            kind = "parquet" if data.file.suffix == ".parquet" else "json"
            return load_dataset(kind, data_files=str(data.file), split="train")
        if data.folder is not None:
            return _of_split(load_from_disk(str(data.folder)), data)
        return load_dataset(str(data.hub), data.subset, split=data.split)
    except (OSError, ValueError, DatasetsError) as error:
        raise DataError(f"the data of {data.source}", " ".join(str(error).split()), "a path or name that exists") from error


def _of_split(stored: Dataset | DatasetDict, data: Data) -> Dataset:
    if isinstance(stored, Dataset):
        return stored
    if data.split not in stored:
        raise DataError(
            f"the split '{data.split}' of {data.source}", "it has none of that name", did_you_mean(data.split, stored)
        )
    return stored[data.split]


def _renamed(rows: Dataset, data: Data) -> Dataset:
    for ours, theirs in data.columns.items():
        if theirs not in rows.column_names:
            raise DataError(
                f"the column '{theirs}' of {data.source}", "it has none of that name", did_you_mean(theirs, rows.column_names)
            )
        if ours != theirs and ours in rows.column_names:
            rows = rows.remove_columns(ours)
    rows = rows.rename_columns({theirs: ours for ours, theirs in data.columns.items() if ours != theirs})
    for name in IMAGE_COLUMNS:
        if name in rows.column_names:
            rows = _with_images(rows, name, data)
    return rows


def _with_images(rows: Dataset, name: str, data: Data) -> Dataset:
    """Turn paths into images that are read only when they are needed."""
    many = name == "images"
    feature = rows.features[name]
    if isinstance(feature, Image) or (many and isinstance(feature, List) and isinstance(feature.feature, Image)):
        return rows
    root = data.image_root

    def absolute(value: Any) -> dict[str, Any]:
        return {name: [_existing(root, v, data) for v in value or []] if many else value and _existing(root, value, data)}

    rows = rows.map(absolute, input_columns=[name], desc="image paths")
    return rows.cast_column(name, List(Image()) if many else Image())


def _existing(root: Path, value: Any, data: Data) -> str:
    path = root / str(value)
    if not path.is_file():
        raise DataError(
            f"the image '{value}' of {data.source}", f"there is no file {path}", "images: the folder that paths count from"
        )
    return str(path)


def _conversation(data: Data, row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's prompt as messages."""
    prompt = row["prompt"]
    messages = [{"role": "user", "content": _fill(data, row)}] if isinstance(prompt, str) else list(prompt)
    if data.system_prompt is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": data.system_prompt})
    return messages


def _fill(data: Data, row: dict[str, Any]) -> str:
    if data.prompt_template is None:
        return str(row["prompt"])
    try:
        return data.prompt_template.format(**row)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"prompt_template: {data.prompt_template!r}",
            f"it cannot be filled: {error!r}",
            f"{{…}} around one of: {', '.join(row)}",
        ) from None
