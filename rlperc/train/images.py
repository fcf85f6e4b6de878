"""Image columns, whichever way the data holds them, as images that are decoded only when they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow
import pyarrow.compute
from datasets import Dataset, Image, List, Value

from rlperc.errors import DataError
from rlperc.recipe.rows import IMAGE_COLUMNS
from rlperc.recipe.schema import Data

# vLLM lays a transparent image over white, transformers' processors drop the transparency: without it both see the same.
SEEN = Image(mode="RGB")


def with_images(rows: Dataset, data: Data) -> Dataset:
    """Turn `image` (one) and `images` (a list) into `datasets` images: paths, bytes and structs of both.

    Raises:
        DataError: a file is not there, or a column holds something else.
    """
    for name in IMAGE_COLUMNS:
        if name in rows.column_names:
            rows = _one_column(rows, name, data)
    return rows


def has_images(rows: Dataset) -> list[bool]:
    """Whether each row has an image, without decoding any."""
    found = [False] * len(rows)
    for name in (name for name in IMAGE_COLUMNS if name in rows.column_names):
        start = 0
        for table in rows.select_columns([name]).with_format("arrow").iter(batch_size=256):
            column = table.column(name)
            there = pyarrow.compute.is_valid(column)
            if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
                there = pyarrow.compute.fill_null(pyarrow.compute.greater(pyarrow.compute.list_value_length(column), 0), False)
            for offset, one in enumerate(there.to_pylist()):
                found[start + offset] |= one
            start += len(column)
    return found


def _one_column(rows: Dataset, name: str, data: Data) -> Dataset:
    feature = rows.features[name]
    many = name == "images"
    if isinstance(feature, List) != many:
        raise DataError(
            f"the column '{name}' of {data.source}",
            f"it holds {'one image' if many else 'a list'} in each row",
            f"columns: {{{'image' if many else 'images'}: its name in the data}}",
        )
    inner = feature.feature if many else feature
    if isinstance(inner, Value) and inner.dtype in ("string", "large_string"):
        rows = rows.map(_paths(name, many, data), input_columns=[name], desc="image paths", keep_in_memory=True)
    elif not isinstance(inner, Image | dict) and not (isinstance(inner, Value) and "binary" in inner.dtype):
        raise DataError(f"the column '{name}' of {data.source}", f"it holds {inner}", "paths, bytes, or images of `datasets`")
    return rows.cast_column(name, List(SEEN) if many else SEEN)


def _paths(name: str, many: bool, data: Data) -> Any:
    def absolute(value: Any) -> dict[str, Any]:
        if many:
            return {name: [_existing(data.image_root, one, data) for one in value or [] if one]}
        return {name: _existing(data.image_root, value, data) if value else None}

    return absolute


def _existing(root: Path, value: str, data: Data) -> str:
    path, asked = root / value, f"the image '{value[:200]}' of {data.source}"
    if not path.is_file():
        raise DataError(asked, f"there is no file {str(path)[:300]}", "images: the images' folder")
    try:
        with PIL.Image.open(path):  # its head alone
            return str(path)
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise DataError(asked, str(error)[:300], "leave its row out, or mend the file") from None
