"""The file of scores: a line for each completion, written batch by batch, and read back where a scoring goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from rlperc.errors import DataError
from rlperc.score.tally import Scored

_ENCODE = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False).encode
_BEGINNING = b'{"scores": {'
STATUSES = ("value", "skip", "error", "timeout")


class ForeignScores(DataError):
    """The file to go on with was begun with other rewards or another file, or holds no scores."""


class Output:
    """A file of scores. A line is `{"scores": {name: number or null}, "why": {name: text}, "status": {name: …}}`."""

    def __init__(self, path: Path, names: Sequence[str], resume: bool) -> None:
        """Open the file; what is in it stays unless `resume` finds it torn.

        Raises:
            DataError: it exists and is not to be resumed, or its folder does not exist.
        """
        self.path, self.names = path, list(names)
        self.written = 0
        self._old: BinaryIO | None = None
        self._new: BinaryIO | None = None
        if not path.parent.is_dir():
            raise DataError(f"writing {path}", f"there is no folder {path.parent}", "--out in a folder that exists")
        if not path.exists():
            return
        if not resume:
            raise DataError(f"writing {path}", "it already exists", "--resume to go on with it, or --out another.jsonl")
        try:
            self._old = path.open("rb")
        except OSError as error:
            raise self._fault(error) from None

    def take(self, count: int) -> list[Scored] | None:
        """Read the next batch back, where the file holds it whole. What follows the last whole batch is cut off.

        Args:
            count: completions in the batch.

        Returns:
            One for each reward; None where the batch is still to be scored, and so is every later one.

        Raises:
            ForeignScores: its lines are not scores of these rewards.
        """
        if self._old is None:
            return None
        start = self._old.tell()
        lines = list(islice(self._old, count))
        torn = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if not _BEGINNING.startswith(torn[: len(_BEGINNING)]):
            raise self._foreign(self.written + len(lines) + 1)
        taken = self._read(lines)  # also what will be cut off: nobody else's file is shortened
        if len(lines) == count:
            self.written += count
            return taken
        self._old.close()
        self._old = None
        try:
            self._new = self.path.open("r+b")
            self._new.truncate(start)
            self._new.seek(start)
        except OSError as error:
            raise self._fault(error) from None
        return None

    def write(self, scored: Sequence[Scored]) -> None:
        """Append a batch, one item for each reward. Raises DataError where it cannot be written."""
        whole = self._lines(scored)
        try:
            self._new = self._new or self.path.open("xb")
            self._new.write(_bytes(whole))
            self._new.flush()
        except OSError as error:
            raise self._fault(error) from None
        self.written += len(whole)

    def finish(self) -> None:
        """Close the file. Raises ForeignScores where it holds more than was asked for."""
        more = self._old is not None and self._old.read(1)
        self.close()
        if more:
            raise ForeignScores(
                f"going on with {self.path}",
                f"it has more lines than the {self.written} completions of the file that is scored",
                "the file that it was begun with, or --out another.jsonl",
            )

    def close(self) -> None:
        """Close the file as it is."""
        for stream in (self._old, self._new):
            if stream is not None:
                stream.close()

    def _lines(self, scored: Sequence[Scored]) -> list[str]:
        names = self.names
        rows = (zip(*column, strict=True) for column in zip(*scored, strict=True))
        return [
            _ENCODE(
                {
                    "scores": dict(zip(names, scores, strict=True)),
                    "why": dict(zip(names, whys, strict=True)),
                    "status": dict(zip(names, statuses, strict=True)),
                }
            )
            for scores, whys, statuses in zip(*rows, strict=True)
        ]

    def _read(self, lines: list[bytes]) -> list[Scored]:
        scored = [Scored([], [], []) for _ in self.names]
        for place, line in enumerate(lines, start=self.written + 1):
            try:
                row = json.loads(line)
                names = list(row["scores"])
                if names != self.names:
                    raise ForeignScores(
                        f"going on with {self.path}",
                        f"line {place} has scores of {', '.join(names)} instead of {', '.join(self.names)}",
                        "the same rewards in the same order, or --out another.jsonl",
                    )
                for name, reward in zip(names, scored, strict=True):
                    _take_back(reward, row["scores"][name], row["why"][name], row["status"][name])
            except (ValueError, RecursionError, KeyError, TypeError):
                raise self._foreign(place) from None
        return scored

    def _foreign(self, place: int) -> ForeignScores:
        return ForeignScores(f"going on with {self.path}", f"line {place} is no line of scores", "--out another.jsonl")

    def _fault(self, error: OSError) -> DataError:
        return DataError(f"writing {self.path}", str(error), "--out where a file can be written")


def _take_back(reward: Scored, score: object, why: object, status: object) -> None:
    if not isinstance(score, float | int | None) or not isinstance(why, str) or status not in STATUSES:
        raise ValueError
    reward.scores.append(score)
    reward.whys.append(why)
    reward.statuses.append(str(status))


def _bytes(lines: list[str]) -> bytes:
    try:
        return "".join(f"{line}\n" for line in lines).encode()
    except UnicodeEncodeError:  # a reason quotes a lone surrogate, which only an escape can write
        return "".join(f"{_writable(line)}\n" for line in lines).encode()


def _writable(line: str) -> str:
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(line))
    return line
