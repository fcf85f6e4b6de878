"""From a recipe's `data` to a `datasets.Dataset` in the form TRL trains on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from datasets import (
    Dataset,
    DatasetDict,
    Features,
    Image,
    List,
    Value,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError, DatasetsError
from tqdm.auto import tqdm

from rlperc.errors import DataError, did_you_mean
from rlperc.recipe.rows import IMAGE_COLUMNS, TEXT_COLUMNS, Row, check_mapped, check_prompt, text_columns
from rlperc.recipe.schema import Data
from rlperc.train.images import with_images
from rlperc.words.response import Tags
from rlperc.worlds import Split, load_world, make_items

DEFAULT_WORLD_ROWS = 1000
WORLD_FEATURES = Features(
    {
        "image": Image(),
        "prompt": List({"role": Value("string"), "content": Value("string")}),
        **dict.fromkeys(("question", "answer", "perception", "response", "task"), Value("string")),
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
    check_prompt(data, rows.column_names)
    if data.rows is not None and data.rows < len(rows):
        rows = rows.shuffle(seed=seed).select(range(data.rows))
    return _converted(with_images(rows, data), data)


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


def world_rows(world: str, count: int, seed: int, split: Split, knobs: Mapping[str, Any]) -> Dataset:
    """Rows of a world: `image`, `prompt` as text, `answer`, `perception`, `response`, `task`, and the world's own columns.

    Raises:
        RecipeError: the world has no such knob, or not of that value.
    """
    data = Data(world=world, rows=count, split=split, **{"with": knobs})
    features = {name: kind for name, kind in _features(world).items() if name not in ("prompt", "question")}
    return Dataset.from_list([*_of_world(data, seed)], features=Features({**features, "prompt": Value("string")}))


def _from_world(data: Data, seed: int, tags: Tags | None) -> Dataset:
    rows = [{**row, **text_columns(data, row)} for row in _of_world(data, seed, tags)]
    return Dataset.from_list(rows, features=_features(str(data.world)))


def _features(world: str) -> Features:
    return Features({**WORLD_FEATURES, **{name: Value(kind) for name, kind in load_world(world).ABOUT.columns.items()}})


def _of_world(data: Data, seed: int, tags: Tags | None = None) -> Iterator[Row]:
    count = data.rows or DEFAULT_WORLD_ROWS
    split: Split = data.split  # type: ignore[assignment]  # checked by the schema
    items = make_items(str(data.world), count, seed, split, data.with_)
    for item in tqdm(items, total=count, desc="rows", leave=False, disable=os.environ.get("RANK", "0") != "0"):
        yield {
            "image": item.image,
            "prompt": item.question,
            "answer": item.answer,
            "perception": item.perception,
            "response": item.response(tags),
            "task": item.task,
            **item.columns,
        }


def _converted(rows: Dataset, data: Data) -> Dataset:
    """The text columns in our form. The images are left where they are: mapping over them would copy them all."""
    names = [name for name in rows.column_names if name not in IMAGE_COLUMNS]
    pictures = [name for name in rows.column_names if name in IMAGE_COLUMNS]

    def convert(*values: Any) -> dict[str, Any]:
        return text_columns(data, dict(zip(names, values, strict=True)))

    texts = rows.select_columns(names)
    features = {**texts.features, **{name: Value("string") for name in TEXT_COLUMNS if name in names}}
    if isinstance(features["prompt"], Value):
        features["prompt"] = WORLD_FEATURES["prompt"]
        features.setdefault("question", Value("string"))
    # Without the features, `datasets` would turn the text "14" back into the number it was.
    texts = texts.map(convert, input_columns=names, features=Features(features), desc="prompts", keep_in_memory=True)
    return concatenate_datasets([texts, rows.select_columns(pictures)], axis=1) if pictures else texts


def _stored(data: Data) -> Dataset:
    try:
        if data.file is not None:
            kind = "parquet" if data.file.suffix == ".parquet" else "json"
            return load_dataset(kind, data_files=str(data.file), split="train")
        if data.folder is not None:
            return _of_split(load_from_disk(str(data.folder)), data)
        return load_dataset(str(data.hub), data.subset, split=data.split)
    except StopIteration:
        raise DataError(f"the data of {data.source}", "it holds no rows", "rows: a line of JSON for each") from None
    except DatasetGenerationError as error:  # which itself says nothing
        why = " ".join(str(error.__cause__ or error).split())
        raise DataError(f"the data of {data.source}", why, "a line of JSON for each row, or a parquet file") from error
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
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
    check_mapped(data, rows.column_names)
    for ours, theirs in data.columns.items():
        if ours != theirs and ours in rows.column_names:
            rows = rows.remove_columns(ours)
    return rows.rename_columns({theirs: ours for ours, theirs in data.columns.items() if ours != theirs})
