"""How a job of many processes ends when one of them dies or fails: all of them, at once, with the reason."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from rlperc.errors import JobError, UserError
from rlperc.watch.signals import TERMINATED, Told, on_sigterm
from rlperc.watch.stall import PATIENCE, Stall, Standstill
from rlperc.watch.star import COMES_WITHIN, Star

FAILED, USERS_FAULT, INTERRUPTED = 1, 2, 130
GRACE = 5.0
"""Seconds for a main thread to fail by itself because another process did, before its process is ended."""
_KILLED_AFTER = "30"
"""Seconds from SIGTERM to SIGKILL where torchrun is told nothing else."""
_MEETS_WITHIN = 60.0
_LONGEST = 4000
"""Characters of a reason: models that do not fit list all their weights."""


class End(NamedTuple):
    """Why a job ends: whose fault it is, and the exit code of all."""

    rank: int
    reason: str
    code: int


class Watch:
    """Of one process over the job that it is a part of. In a job of one process it does nothing."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.last_words: list[Callable[[str, int], None]] = []
        """Called with the reason and the exit code where the process is ended although its main thread stands in a call."""
        self._name = f"rank {self.rank} ({socket.gethostname()}, process {os.getpid()})"
        self._began, self._met = time.monotonic(), self.world == 1
        self._still, self._stall, self._told = Standstill(), Stall(patience), Told()
        self._moves_within = max(1.0, float(os.environ.get("PET_SHUTDOWN_TIMEOUT", _KILLED_AFTER)) - 2 * GRACE)
        """Seconds for a job that stands still to move again once it is told to end; a large checkpoint may take as long."""
        self._end: End | None = None
        self._leaving = False
        """The main thread is on its way out, and stands for a while to hear why."""
        self._settled, self._left = threading.Event(), threading.Event()
        self._star = Star(self.rank, self.world, self._name, self, every=min(1.0, patience / 4))
        if self.world > 1:
            self._told.listen()
            self._star.start()

    def meet(self) -> None:
        """Wait for all others, once the process group is open: from here on none can die unnoticed."""
        if self.world > 1 and not self._star.whole.wait(_MEETS_WITHIN) and self.rank == 0:
            missing = ", ".join(map(str, self._star.missing))
            _say(f"warning: rank {missing} cannot connect to rank 0; whether it dies is not noticed")
        self._met = True

    def moved(self) -> None:
        """A step was made."""
        self._still.steps += 1

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """What fails inside ends the job.

        Raises:
            JobError: another process ended it, and what was raised here follows from that; or this one told rank 0, who
                says it for all.
        """
        try:
            yield
        except BaseException as error:
            # A launcher sends it to those that are left, which have to find out why they end.
            with on_sigterm(signal.SIG_IGN) if self.world > 1 else nullcontext():
                self._failed(error) if isinstance(error, Exception) else self._asked_to_leave(error)
            raise

    def close(self) -> None:
        """The job is done: nobody is missed any more."""
        self._left.set()
        self._star.close(GRACE)
        if self.world > 1:
            self._told.close()

    def _failed(self, error: Exception) -> None:
        if self.world == 1 or self._left.is_set() or isinstance(error, JobError):
            return
        mine = isinstance(error, UserError)
        if not mine:
            self._blame_another(error)
        reason = (str(error) if mine else f"{type(error).__name__}: {error}")[:_LONGEST]
        end = End(self.rank, f"{self._name}: {reason}" if self.rank else reason, USERS_FAULT if mine else FAILED)
        self._left.set()
        to_launcher(end.reason)
        if self._star.tell(end=end) and mine and self.rank:
            raise JobError(*end) from error

    def _asked_to_leave(self, error: BaseException) -> None:
        """SIGTERM comes from a launcher when another process has died; otherwise whoever gets it takes the others along.

        What a stage saves before it ends, all have saved by then.
        """
        if self.world == 1 or self._left.is_set():
            return
        self._blame_another(error)
        self._left.set()
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else INTERRUPTED
        self._star.tell(end=End(self.rank, f"{self._name} was {'interrupted' if code == INTERRUPTED else 'told to end'}", code))
        self._star.part()

    def _blame_another(self, error: BaseException) -> None:
        """Where another process dies, calls that were waiting for it fail, and its end becomes known a moment later."""
        self._leaving = True
        if self._settled.wait(GRACE) and self._end is not None and self._end.rank != self.rank:
            self._left.set()
            raise JobError(*self._end) from error

    # What the star's thread calls.

    def heard(self, rank: int, message: dict[str, Any]) -> None:
        """Another process ends the job, asks where this one stands, or says where it stands."""
        if "end" in message:
            self._ends(End(*message["end"]))
        if "ask" in message:
            self._star.tell(standing=str(self._still))
        if "standing" in message:
            self._stall.answers[rank] = str(message["standing"])

    def lost(self, rank: int) -> None:
        """A process is gone without a word."""
        name = self._star.names.get(rank, f"rank {rank}")
        why = "killed (for memory, by the scheduler, by a person), or its machine is not there any more"
        self._ends(End(rank, f"{name} is gone: {why}", FAILED))

    def look(self) -> None:
        """See whether all have come, and whether anything moves."""
        still = self._still.look()
        if self.rank or self._end or self._left.is_set():
            return
        missing = self._star.missing
        if missing and not self._met and time.monotonic() - self._began > COMES_WITHIN:
            self._ends(End(missing[0], f"rank {missing[0]} did not come within {COMES_WITHIN:.0f} s", FAILED))
        if self._told.look() > self._moves_within < still and not self._leaving:
            why = f"the job was told to end, and cannot save first: nothing has moved for {still:.0f} s"
            self._ends(End(0, why, TERMINATED))
        if self._stall.asks(still):
            self._star.tell(ask=True)
            self._stall.answers[0] = str(self._still)
        if report := self._stall.report(still, self._star.names, missing):
            logging.getLogger(__name__).warning("rlperc: %s", report)  # above the progress bars

    def _ends(self, end: End) -> None:
        if self._end is None and not self._left.is_set():
            self._end = end
            if self.rank == 0:
                self._star.tell(end=end)
            self._settled.set()
            threading.Thread(target=self._end_process, args=(end,), daemon=True).start()

    def _end_process(self, end: End) -> None:
        if self._left.wait(GRACE):
            return
        # A disk that takes nothing more may be why the job ends, and may hold whoever writes.
        last = threading.Timer(2 * GRACE, os._exit, (end.code,))
        last.daemon = True
        last.start()
        try:
            for words in self.last_words:
                words(end.reason, end.code)
            if speaks(end):
                _say(end.reason)
        finally:
            os._exit(end.code)


def speaks(end: End | JobError) -> bool:
    """Whether this process is the one that says it."""
    return os.environ.get("RANK", "0") == ("1" if end.rank == 0 else "0")


def _say(text: str) -> None:
    print(f"\nrlperc: {text}", file=sys.stderr, flush=True)  # noqa: T201 - below the bars, whose lock may be held


def to_launcher(reason: str) -> None:
    """Leave it where torchrun looks for the reason that it shows last, unless one is there: the first says who it was."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file and not Path(file).exists():
        said = f"rlperc: {reason}"
        extra = {"py_callstack": said, "timestamp": str(int(time.time()))}
        Path(file).write_text(json.dumps({"message": {"message": said, "extraInfo": extra}}), encoding="utf-8")
