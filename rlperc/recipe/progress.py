"""What of a run is done and safe: `progress.json`, replaced whole, is the one place that says so.

A checkpoint is one from the moment that this file names it. Whatever else lies in the folder was cut off by a kill, and
is written again when the run goes on.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from rlperc.errors import DataError, RecipeError
from rlperc.recipe.folder import RunFolder
from rlperc.recipe.load import dump_recipe
from rlperc.recipe.names import item_name
from rlperc.recipe.schema import Recipe


def checkpoint_name(step: object) -> str:
    """Of a checkpoint's folder, which transformers chooses."""
    return f"checkpoint-{step}"


@dataclass
class Checkpoint:
    """The last one of a stage that has not ended."""

    stage: str
    step: int
    """Optimizer steps that are done."""
    seconds: float
    """Spent in the stage by then."""


@dataclass
class Progress:
    """How far a run has come."""

    processes: int
    done: list[str] = field(default_factory=list)
    """Parts of the run that have ended, in order: `start`, `measure before`, `stage reason`, …"""
    checkpoint: Checkpoint | None = None
    metrics: int = 0
    """Bytes of `metrics.jsonl` that belong to it."""
    summary: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: RunFolder, summary: dict[str, Any]) -> None:
        """Make what lies in the folder now count."""
        self.metrics = 0
        if folder.writes and folder.metrics.exists():
            with folder.metrics.open("rb") as lines:
                os.fsync(lines.fileno())
                self.metrics = os.fstat(lines.fileno()).st_size
        self.summary = summary
        folder.write_json(folder.progress, asdict(self))


def read_progress(folder: RunFolder) -> Progress | None:
    """How far the run in a folder has come; None where nothing of it is done. Raises DataError for what rlperc did not write."""
    if not folder.progress.is_file():
        return None
    try:
        found = json.loads(folder.progress.read_text(encoding="utf-8"))
        checkpoint = found.pop("checkpoint")
        return Progress(**found, checkpoint=Checkpoint(**checkpoint) if checkpoint else None)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"the run {folder.path}", f"its progress.json is not one that rlperc wrote: {error}", "--move-aside"
        ) from None


def check_same(recipe: Recipe, processes: int, folder: RunFolder, progress: Progress) -> None:
    """Refuse to go on with another run than the one that was begun. Raises RecipeError."""
    now = yaml.safe_load(dump_recipe(recipe))
    # A kill may have left the one and not yet the other.
    before = yaml.safe_load(folder.recipe.read_text(encoding="utf-8")) if folder.recipe.exists() else now
    changed = [one for one in _differences(before, now, "") if one[0] != "output"]
    if changed:
        place, old, new = changed[0]
        raise RecipeError(
            f"--resume in {folder.path} with {place}: {new}",
            f"that run was begun with {old}" + (f", and differs in {len(changed) - 1} more places" if changed[1:] else ""),
            f"rlperc train {folder.recipe} --resume, or output=another/folder for another run",
        )
    if processes != progress.processes:
        raise RecipeError(
            f"--resume in {folder.path}, number of processes: {processes}",
            f"that run was begun with {progress.processes}: another number takes other rows in each step",
            f"{progress.processes} as before, or output=another/folder for another run",
        )


def _differences(old: Any, new: Any, place: str) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [one for key in keys for one in _differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        names = [item_name(item) if isinstance(item, dict) else str(index) for index, item in enumerate(old)]
        triples = zip(names, old, new, strict=True)
        return [one for name, left, right in triples for one in _differences(left, right, f"{place}.{name}")]
    return [] if old == new else [(place, old, new)]
