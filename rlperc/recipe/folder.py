"""A run's folder: where everything of a run lies. Written by training, read by reports."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rlperc.errors import DataError, FolderError, RecipeError
from rlperc.recipe.machine import disk, gib

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EIO}


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What a disk refuses, while something is written there, is said as that. Raises FolderError."""
    try:
        yield
    except Exception as error:
        if not _is_refusal(error, place):
            raise
        raise FolderError(
            f"writing into {place}",
            f"{' '.join(str(error).split())[:300]}; {gib(disk(place).free)} are free there",
            "free some room (train: {save_total_limit: 2} keeps fewer checkpoints), then the same command with --resume: "
            "what progress.json names is whole",
        ) from error


def to_disk(folder: Path) -> None:
    """Wait until a folder's files are on the disk, so that losing power after this loses none of them."""
    for place in (*folder.rglob("*"), folder):
        number = os.open(place, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _is_refusal(error: Exception, place: Path) -> bool:
    """Whether a disk refused to be written on; data that may not be read is another matter."""
    if isinstance(error, OSError):
        inside = str(error.filename or "").startswith(str(place))
        return error.errno in _FULL or (error.errno in _REFUSED and inside)
    # What torch and safetensors make of it.
    return (type(error).__name__ == "SafetensorError" and "os error" in str(error)) or "inline_container" in str(error)


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
        self._held: TextIO | None = None

    def stage(self, name: str) -> Path:
        """Where a stage's checkpoints, completions and model lie."""
        return self.path / "stages" / name

    def measured(self, label: str) -> Path:
        """Where a model's responses and what they measured lie, a line for each row."""
        return self.path / "measured" / f"{label}.jsonl"

    def claim(self, move_aside: bool, resume: bool = False) -> None:
        """Make the folder; a run that is already there is moved aside, gone on with or kept, never overwritten.

        Raises:
            RecipeError: it holds a run, and neither `move_aside` nor `resume` is true; or something else; or another process
                is at it.
        """
        if not self.writes:
            return
        try:
            if self.path.is_dir() and any(one.suffix not in (".part", ".lock") for one in self.path.iterdir()):
                self._lock()
                self._make_room(move_aside, resume)
        except OSError as error:
            raise self._unusable(error) from None
        self.hold()

    def hold(self) -> None:
        """Make the folder, and keep others away until `release`, or until this process ends however it may.

        Raises:
            RecipeError: another process is at it, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> RecipeError:
        return RecipeError(f"the output folder {self.path}", str(error), "another folder")

    def _lock(self) -> None:
        self.release()
        self._held = (self.path / "run.lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecipeError(
                f"the output folder {self.path}",
                "another process is training there",
                "that one's end first, or another folder",
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # some file systems have no locks
                raise

    def release(self) -> None:
        """Let others at it."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _make_room(self, move_aside: bool, resume: bool) -> None:
        if not (self.recipe.exists() or self.summary.exists() or self.progress.exists()):
            raise RecipeError(f"the output folder {self.path}", "it holds something that is no run", "output=another/folder")
        if resume and self.progress.exists():
            return
        if resume:
            raise RecipeError(
                f"--resume in {self.path}",
                "the run there has no progress.json, which says what of it is whole",
                "--move-aside, or output=another/folder",
            )
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
            os.truncate(self.metrics, min(size, self.metrics.stat().st_size))

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
