"""The first row of a recipe's data, read without torch and without loading the rest."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from rlperc.errors import DataError, did_you_mean
from rlperc.recipe.rows import Row, check_mapped
from rlperc.recipe.schema import Data
from rlperc.worlds import make_items


def first_row(data: Data) -> tuple[Row | None, str]:
    """Read the first row, under our names for its columns.

    Returns:
        The row; or None and a note that says why it could not be looked at here.

    Raises:
        DataError, RecipeError: the data is not there, or lacks a column that the recipe names.
    """
    if data.world is not None:
        return _of_world(data), ""
    if data.hub is not None:
        return None, f"{data.source}: its columns are checked when training starts"
    stored = data.file or data.folder
    if stored is None or not stored.exists():
        raise DataError(f"the data of {data.source}", f"there is no {stored}", "a path that counts from the recipe")
    if data.file is not None and data.file.suffix != ".parquet":
        return _renamed(_of_jsonl(data.file), data), ""
    if importlib.util.find_spec("datasets") is None:
        return None, f"{data.source}: its columns are not checked, because `datasets` is not installed here"
    return _renamed(_of_arrow(stored, data), data), ""


def _of_world(data: Data) -> Row:
    item = next(make_items(str(data.world), 1, 0, data.split, data.with_))  # type: ignore[arg-type]
    fields = ("answer", "perception", "task", "image")
    own = {field: getattr(item, field) for field in fields}
    return {"prompt": item.question, "response": item.response(), **own, **item.columns}


def _of_jsonl(file: Path) -> Row:
    try:
        with file.open(encoding="utf-8") as lines:
            row = json.loads(next((line for line in lines if line.strip()), ""))
    except (ValueError, OSError) as error:
        raise DataError(
            f"the data file {file}", f"its first line is not JSON: {str(error)[:200]}", '{"prompt": "…", "answer": "…"}'
        ) from None
    if not isinstance(row, dict):
        raise DataError(f"the data file {file}", "its first line is no object", '{"prompt": "…", "answer": "…"}')
    return row


def _of_arrow(stored: Path, data: Data) -> Row:
    # Half a second of imports, and needed for these two kinds only.
    import pyarrow
    import pyarrow.parquet

    try:
        if data.file is not None:
            batches = pyarrow.parquet.ParquetFile(stored).iter_batches(batch_size=1)
            return dict(next(batches).to_pylist()[0])
        folder = stored if (stored / "state.json").is_file() else stored / data.split
        splits = sorted(child.name for child in stored.iterdir() if child.is_dir())
        if splits and folder != stored and not folder.is_dir():
            raise DataError(
                f"the split '{data.split}' of {data.source}", "it has none of that name", did_you_mean(data.split, splits)
            )
        arrow = sorted(folder.glob("data-*.arrow"))
        with pyarrow.memory_map(str(arrow[0])) as source:
            batches = iter(pyarrow.ipc.open_stream(source))
            return dict(next(b for b in batches if b.num_rows).slice(0, 1).to_pylist()[0])
    except (pyarrow.ArrowInvalid, OSError, IndexError, StopIteration) as error:
        raise DataError(
            f"the data of {data.source}",
            f"it holds no row that can be read: {error}",
            "a parquet file, or a folder by save_to_disk",
        ) from None


def _renamed(row: Row, data: Data) -> Row:
    check_mapped(data, row)
    renamed = {theirs: ours for ours, theirs in data.columns.items()}
    kept = {name: value for name, value in row.items() if name in renamed or name not in data.columns}
    return {renamed.get(name, name): value for name, value in kept.items()}


def with_pictures(row: Row, data: Data) -> Row:
    """The row with its images opened, as the data set will give them. Raises DataError where one is not there."""
    opened: Row = {}
    if row.get("image") is not None:
        opened["image"] = _picture(row["image"], data)
    if row.get("images"):
        opened["images"] = [_picture(image, data) for image in row["images"]]
    return {**row, **opened}


def _picture(value: Any, data: Data) -> Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    source = io.BytesIO(value) if isinstance(value, bytes) else data.image_root / str(value)
    try:
        return Image.open(source)
    except (OSError, ValueError) as error:
        shown = "its bytes" if isinstance(value, bytes) else f"'{str(value)[:200]}'"
        raise DataError(
            f"the image {shown} of {data.source}", f"it cannot be opened: {str(error)[:300]}", "images: the images' folder"
        ) from None
