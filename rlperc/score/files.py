"""Files of completions: JSON lines or parquet, read row by row."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rlperc.errors import DataError, MissingPackageError
from rlperc.recipe.rows import Row, reward_columns

# Rows of a parquet file that are turned into Python values at once; a row may hold megabytes.
ROWS_AT_ONCE = 128
EXAMPLE = '{"completion": "…"}'


class Entry(NamedTuple):
    """A row of the file: which one, from 1, and about how many bytes it takes."""

    number: int
    size: int
    row: Row


@dataclass(frozen=True)
class Source:
    """A file that is being read. `total` is in rows for parquet and else in bytes, for a progress bar."""

    file: Path
    total: int
    entries: Iterator[Entry]
    columns: list[str] | None = None
    """All columns of a parquet file; in JSON, each line has its own."""

    def place(self, number: int) -> str:
        """Where a row stands, for a person."""
        return f"{'line' if self.columns is None else 'row'} {number}"


def open_source(file: Path, wanted: set[str] | None) -> Source:
    """Open a file of completions by its ending.

    Args:
        file: `.parquet`, or JSON lines.
        wanted: the columns to read where columns lie apart, as in parquet; None reads all.

    Raises:
        DataError: there is no such file, or it is not what its ending says. While rows are read, where one is broken.
        MissingPackageError: parquet needs a package that is not installed.
    """
    if not file.is_file():
        raise DataError(f"scoring {file}", "there is no such file", "a file of JSON lines, or parquet")
    try:
        if file.suffix == ".parquet":
            return _open_parquet(file, wanted)
        return Source(file, file.stat().st_size, _json_lines(file))
    except OSError as error:
        raise DataError(f"scoring {file}", str(error), "a file that can be read") from None


def completion_row(entry: Entry, source: Source, renamed: Mapping[str, str]) -> Row:
    """A row as rewards would have seen it in training: under our names, with text where they read text.

    Args:
        entry: from the file.
        source: the file.
        renamed: our name for a column to its name in the data; where the row has both, the data's wins, as in training.

    Raises:
        DataError: it holds no completion, or something that cannot be one of ours.
    """
    row = entry.row
    for ours, theirs in renamed.items():
        if theirs in row:
            row[ours] = row.pop(theirs)
    where = f"{source.file}, {source.place(entry.number)}"
    if not isinstance(row.get("completion"), str):
        raise DataError(where, "it has no text under 'completion'", EXAMPLE)
    tokens = row.get("tokens")
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int | float) or tokens != tokens // 1):
        raise DataError(where, "its column 'tokens' is not the number of the completion's tokens", '"tokens": 120')
    try:
        row.update(reward_columns(row))
    except DataError as error:
        raise DataError(f"{where}: {error.asked}", error.why, error.instead) from None
    return row


def _json_lines(file: Path) -> Iterator[Entry]:
    with file.open("rb") as lines:  # bytes end at newlines only: JSON may hold U+2028 as it is
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, line {number}", f"it is not JSON: {_in_short(error)}", EXAMPLE) from None
            if not isinstance(row, dict):
                raise DataError(f"{file}, line {number}", "it is no object", EXAMPLE)
            yield Entry(number, len(line), row)


def _open_parquet(file: Path, wanted: set[str] | None) -> Source:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingPackageError(
            f"scoring {file}", "parquet needs pyarrow", 'pip install "rlperc[train]", or a file of JSON lines'
        )
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        parquet = ParquetFile(file)
    except ArrowException as error:
        raise DataError(f"scoring {file}", f"it is not parquet: {_in_short(error)}", "a file of JSON lines, or parquet") from None
    columns = list(parquet.schema_arrow.names)
    taken = columns if wanted is None else [name for name in columns if name in wanted]
    return Source(file, parquet.metadata.num_rows, _parquet_rows(parquet, taken, file), columns)


def _parquet_rows(parquet: Any, columns: list[str], file: Path) -> Iterator[Entry]:
    from pyarrow import ArrowException

    number = 0
    try:
        for batch in parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
            for row in batch.to_pylist():
                number += 1
                text = row.get("completion")
                yield Entry(number, len(text) if isinstance(text, str) else 0, row)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}, after row {number}", f"it cannot be read on: {_in_short(error)}", "a whole parquet file"
        ) from None


def _in_short(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
