"""A run's folder: where everything of a run lies. Written by training, read by reports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rlperc.errors import DataError, RecipeError


class RunFolder:
    """`recipe.yaml`, `summary.json`, `metrics.jsonl`, `versions.json`, `samples/`, `stages/`, `model/`, `report.html`.

    With several processes only one of them may write; in the others every method that writes does nothing.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.recipe, self.summary = path / "recipe.yaml", path / "summary.json"
        self.metrics, self.versions = path / "metrics.jsonl", path / "versions.json"
        self.samples, self.model, self.report = path / "samples", path / "model", path / "report.html"

    def stage(self, name: str) -> Path:
        """Where a stage's checkpoints, completions and model lie."""
        return self.path / "stages" / name

    def claim(self, move_aside: bool) -> None:
        """Make the folder; a run that is already there is moved aside or kept, never overwritten.

        Raises:
            RecipeError: it holds a run, and `move_aside` is false.
        """
        if not self.writes:
            return
        try:
            if self.path.is_dir() and any(self.path.iterdir()):
                self._make_room(move_aside)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(f"the output folder {self.path}", str(error), "output=another/folder") from None

    def _make_room(self, move_aside: bool) -> None:
        if not (self.recipe.exists() or self.summary.exists()):
            raise RecipeError(f"the output folder {self.path}", "it holds something that is no run", "output=another/folder")
        if not move_aside:
            raise RecipeError(
                f"the output folder {self.path}", "it already holds a run", "output=another/folder, or --move-aside"
            )
        self.path.rename(self._free_name())

    def _free_name(self) -> Path:
        number = 1
        while (free := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        return free

    def write(self, file: Path, text: str) -> None:
        """Write a file whole or not at all."""
        if self.writes:
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(file.name + ".part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, file)

    def write_json(self, file: Path, value: Any) -> None:
        """Write JSON whole or not at all. NaN is refused: JSON has none."""
        self.write(file, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def log(self, kind: str, **values: Any) -> None:
        """Append one line to the metrics."""
        if self.writes:
            with self.metrics.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"kind": kind, **values}, ensure_ascii=False, allow_nan=False) + "\n")

    def read_metrics(self, kind: str) -> list[dict[str, Any]]:
        """All lines of one kind, in order. A last line that was cut off by a kill is left out."""
        if not self.metrics.is_file():
            return []
        found = []
        for line in self.metrics.read_text(encoding="utf-8").split("\n"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("kind") == kind:
                found.append(entry)
        return found

    def read_summary(self) -> dict[str, Any]:
        """The summary. Raises DataError where the folder holds no run."""
        if not self.summary.is_file():
            raise DataError(f"the run {self.path}", "it has no summary.json, so it is not a run's folder", "runs/NAME")
        try:
            summary: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"the run {self.path}", f"its summary.json is not JSON: {error}", "runs/NAME") from None
        if not {"status", "eval", "coupling", "curve"} <= set(summary):
            raise DataError(f"the run {self.path}", "its summary.json is not one that rlperc wrote", "runs/NAME")
        return summary
