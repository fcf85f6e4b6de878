"""A run's folder: where everything of a run lies. Written by training, read by reports."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlperc.errors import DataError, FolderError, RecipeError, UserError

_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
# torch's and safetensors' own words for them.
_WORDS = ("inline_container", "os error")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What a disk refuses, while something is written there, is said as that. Raises FolderError."""
    try:
        yield
    except Exception as error:
        refused = error.errno in _REFUSALS if isinstance(error, OSError) else any(word in str(error) for word in _WORDS)
        if isinstance(error, UserError) or not refused:
            raise
        raise FolderError(
            f"writing into {place}",
            f"{' '.join(str(error).split())[:300]}; {_free(place)}",
            "free some room (train: {save_total_limit: 2} keeps fewer checkpoints), then the same command with --resume: "
            "what progress.json names is whole",
        ) from error


def _free(place: Path) -> str:
    there = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    return f"{shutil.disk_usage(there).free / 2**30:.1f} GiB are free there"


class RunFolder:
    """`recipe.yaml`, `summary.json`, `metrics.jsonl`, `versions.json`, `progress.json`, and the folders of its parts.

    With several processes only one of them may write; in the others every method that writes does nothing.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.recipe, self.summary = path / "recipe.yaml", path / "summary.json"
        self.metrics, self.versions = path / "metrics.jsonl", path / "versions.json"
        self.samples, self.model, self.report = path / "samples", path / "model", path / "report.html"
        self.progress = path / "progress.json"

    def stage(self, name: str) -> Path:
        """Where a stage's checkpoints, completions and model lie."""
        return self.path / "stages" / name

    def measured(self, label: str) -> Path:
        """Where a model's responses and what they measured lie, a line for each row."""
        return self.path / "measured" / f"{label}.jsonl"

    def claim(self, move_aside: bool, resume: bool = False) -> None:
        """Make the folder; a run that is already there is moved aside, gone on with or kept, never overwritten.

        Raises:
            RecipeError: it holds a run, and neither `move_aside` nor `resume` is true; or something else.
        """
        if not self.writes:
            return
        try:
            if self.path.is_dir() and any(self.path.iterdir()):
                self._make_room(move_aside, resume)
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".writable").touch()
            (self.path / ".writable").unlink()
        except OSError as error:
            raise RecipeError(f"the output folder {self.path}", str(error), "output=another/folder") from None

    def _make_room(self, move_aside: bool, resume: bool) -> None:
        if not (self.recipe.exists() or self.summary.exists()):
            raise RecipeError(f"the output folder {self.path}", "it holds something that is no run", "output=another/folder")
        if resume:
            return
        if not move_aside:
            raise RecipeError(
                f"the output folder {self.path}",
                "it already holds a run",
                "--resume to go on with it, --move-aside, or output=another/folder",
            )
        self.path.rename(self._free_name())

    def _free_name(self) -> Path:
        number = 1
        while (free := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        return free

    def write(self, file: Path, text: str) -> None:
        """Write a file whole or not at all, also where power is lost. Raises FolderError."""
        if not self.writes:
            return
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(file.name + ".part")
            with part.open("w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(part, file)

    def write_json(self, file: Path, value: Any) -> None:
        """Write JSON whole or not at all. NaN is refused: JSON has none."""
        self.write(file, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def log(self, kind: str, **values: Any) -> None:
        """Append one line to the metrics. Raises FolderError."""
        if self.writes:
            with writing(self.metrics), self.metrics.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"kind": kind, **values}, ensure_ascii=False, allow_nan=False) + "\n")

    def rewind(self, size: int) -> None:
        """Take back what was appended to the metrics after their first `size` bytes."""
        if self.writes and self.metrics.exists():
            os.truncate(self.metrics, size)

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
