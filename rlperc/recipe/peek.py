"""The first row of a recipe's data, read without torch and without loading the rest."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

from rlperc.errors import DataError, did_you_mean
from rlperc.recipe.schema import Data
from rlperc.worlds import check_knobs, load_world

Row = dict[str, Any]


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
    check_knobs(str(data.world), data.with_)
    item = next(load_world(str(data.world)).items(1, 0, data.split, **data.with_))  # type: ignore[arg-type]
    fields = ("answer", "perception", "task", "image")
    return {"prompt": item.question, "response": item.response(), **{field: getattr(item, field) for field in fields}}


def _of_jsonl(file: Path) -> Row:
    with file.open(encoding="utf-8") as lines:
        line = next((line for line in lines if line.strip()), "")
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"the data file {file}", f"its first line is not JSON: {error}", '{"prompt": "…", "answer": "…"}'
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
    for theirs in data.columns.values():
        if theirs not in row:
            raise DataError(f"the column '{theirs}' of {data.source}", "it has none of that name", did_you_mean(theirs, row))
    renamed = {theirs: ours for ours, theirs in data.columns.items()}
    kept = {name: value for name, value in row.items() if name in renamed or name not in data.columns}
    return {renamed.get(name, name): value for name, value in kept.items()}


def image_paths(row: Row) -> list[str]:
    """The images of a raw row that are given as paths."""
    values = itertools.chain([row.get("image")], row.get("images") or [])
    return [value for value in values if isinstance(value, str)]
