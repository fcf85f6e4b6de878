"""Structured perception as JSON text: canonical writing, and bounded reading of what a model wrote."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_CHARACTERS = 20_000

Cell = int | float | str | None
Grid = list[list[Cell]]
# What stands between the brackets and commas of an array: text in quotes, or a number or word.
_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,\[\]"]+')


def canonical(value: Any) -> str:
    """Write a value as canonical JSON: sorted keys, no spaces, no NaN. Equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read_json(text: str) -> Any | None:
    """Read JSON a model wrote, or None where it is not JSON, too long, too deep, or holds NaN or infinity.

    None also where an object gives a key twice: of those a reader keeps one, so that stating several values would pay.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def read_stated(text: str) -> Any | None:
    """Read JSON a model wrote, with or without a ```json fence around it, as `read_json` bounds it."""
    return read_json(_without_fence(text)) if len(text) <= MAX_CHARACTERS else None


def _without_fence(text: str) -> str:
    text = text.strip()
    if len(text) >= 6 and text.startswith("```") and text.endswith("```"):
        return text[3:-3].removeprefix("json").strip()
    return text


def read_grid(text: str) -> Grid | None:
    """Read a rectangular grid, a list of equally long rows of scalars, or None where it is not one."""
    value = read_stated(text)
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(row, list) and row for row in value):
        return None
    if len({len(row) for row in value}) != 1:
        return None
    if any(isinstance(cell, list | dict) for row in value for cell in row):
        return None
    return value


def cell_spans(text: str) -> list[tuple[int, int]]:
    """Where the cells of a grid stand in its text, in reading order: half-open ranges, quotes included.

    Args:
        text: of which `read_grid` read a grid, so that its brackets outside of strings are those of the array.
    """
    # What stands before and after the array is blank or a fence.
    array = text.index("["), text.rindex("]")
    return [cell.span() for cell in _SCALAR.finditer(text, *array)]


def shape(grid: Grid) -> tuple[int, int]:
    """Return (rows, columns)."""
    return len(grid), len(grid[0])


def same_cell(left: Cell, right: Cell) -> bool:
    """Whether two cells agree. `true` is not `1`, though Python thinks so; `1` and `1.0` are the same number."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def same_value(left: Any, right: Any) -> bool:
    """Whether two values from JSON agree, cell by cell as `same_cell` has it."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_value, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(value, right[key]) for key, value in left.items())
    return same_cell(left, right)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a value")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _bounded_int(text: str) -> int:
    if len(text) > 100:
        raise ValueError("an integer of more than 100 digits")
    return int(text)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


# Made once: json.loads would make one for every call that has hooks.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_bounded_int, object_pairs_hook=_each_key_once)
