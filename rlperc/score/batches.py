"""Batches of rows, each of which holds whole groups: the completions of one prompt stand together."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rlperc.errors import DataError
from rlperc.recipe.rows import Row
from rlperc.score.files import Source, completion_row

# A batch also ends at that many bytes, since completions may be of any length.
MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Batch:
    """Rows that are scored together. `places` say where they stand in their file; `groups` is None without prompts."""

    rows: list[Row] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    groups: list[range] | None = None
    units: int = 0
    """How much of the source's `total` it takes."""


def batches(source: Source, renamed: Mapping[str, str], most_rows: int) -> Iterator[Batch]:
    """Cut a file into batches. Where they end depends on the file and on `most_rows` alone.

    Args:
        source: the file.
        renamed: our names for columns to the data's.
        most_rows: a batch ends with the group that reaches it.

    Raises:
        DataError: a row is broken, or the rows of a prompt do not stand together.
    """
    prompts = _Prompts(source)
    rows: list[Row] = []
    places: list[str] = []
    starts: list[int] = []
    size = 0
    try:
        for entry in source.entries:
            row = completion_row(entry, source, renamed)
            place = source.place(entry.number)
            if prompts.begins(row.get("prompt_id"), place):
                if len(rows) >= most_rows or size >= MOST_BYTES:
                    yield _batch(rows, places, starts if prompts.known else None, size, source)
                    rows, places, starts, size = [], [], [], 0
                starts.append(len(rows))
            rows.append(row)
            places.append(place)
            size += entry.size
    except DataError:
        # What stands before a broken row can still be scored; of the last group, more might have come.
        whole = starts[-1] if prompts.known and starts else len(rows)
        if whole:
            yield _batch(rows[:whole], places[:whole], starts[:-1] if prompts.known else None, size, source)
        raise
    if rows:
        yield _batch(rows, places, starts if prompts.known else None, size, source)


def _batch(rows: list[Row], places: list[str], starts: list[int] | None, size: int, source: Source) -> Batch:
    groups = None if starts is None else [range(*ends) for ends in zip(starts, [*starts[1:], len(rows)], strict=True)]
    return Batch(rows, places, groups, size if source.columns is None else len(rows))


class _Prompts:
    """Tells where a group begins, and that none comes back later."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: str | None = None
        self._seen = SeenHashes()
        self.known: bool | None = None

    def begins(self, prompt: object, place: str) -> bool:
        """Whether the row begins a group; without prompts, every row does."""
        if self.known is None:
            self.known = prompt is not None
        if self.known != (prompt is not None):
            raise DataError(
                f"{self._source.file}, {place}",
                "it has no 'prompt_id', and the rows before have one"
                if self.known
                else "only from here on is there a 'prompt_id'",
                "a 'prompt_id' in every row, or in none",
            )
        text = repr(prompt)
        if self.known and text == self._last:
            return False
        if self.known and not self._seen.add(hash(text)):
            raise DataError(
                f"{self._source.file}, {place}",
                f"the rows of prompt_id {text[:60]} do not stand together: others come between",
                "a file sorted by 'prompt_id'",
            )
        self._last = text
        return True


class SeenHashes:
    """A set of 64-bit hashes in 16 to 32 bytes each (a Python set takes about 80), so up to 32 MB for a million prompts.

    That two of a million prompts share a hash has a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._table = array("q", bytes(8 * 1024))
        self._count = 0

    def add(self, value: int) -> bool:
        """Add a hash; False where it was there before."""
        value = value or 1  # 0 marks a free place
        place = self._find(value)
        if self._table[place]:
            return False
        self._table[place] = value
        self._count += 1
        if 2 * self._count > len(self._table):
            self._grow()
        return True

    def _find(self, value: int) -> int:
        mask = len(self._table) - 1
        place = value & mask
        while self._table[place] not in (0, value):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        before, self._table = self._table, array("q", bytes(2 * 8 * len(self._table)))
        for value in before:
            if value:
                self._table[self._find(value)] = value
