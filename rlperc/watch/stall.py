"""Whether a job still moves, and who waits on what where it does not."""

from __future__ import annotations

import threading
import time

from rlperc.watch.standing import Stack, described, stack

PATIENCE = 120.0
"""Seconds without a move before it is said; then after twice as long, and so on."""
_ANSWER = 10.0
"""Seconds for a process to say where it stands."""


class Standstill:
    """How long the thread that makes this has stood where it stands.

    It has moved where it is found at another line, or a step was counted: a loop may well be met at one line each time.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._thread = threading.get_ident()
        self._seen: tuple[int, Stack] = (0, ())
        self._since = time.monotonic()

    def look(self) -> float:
        """Seconds."""
        found = self.steps, stack(self._thread)
        if found != self._seen:
            self._seen, self._since = found, time.monotonic()
        return time.monotonic() - self._since

    def __str__(self) -> str:
        return f"{described(self._seen[1])}, for {time.monotonic() - self._since:.0f} s"


class Stall:
    """Rank 0's questions to all processes, when nothing moves."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.answers: dict[int, str] = {}
        self._patience = self._next = patience
        self._asked: float | None = None

    def asks(self, still: float) -> bool:
        """Whether all are to be asked now, this process having stood still for so many seconds."""
        if still < self._patience:
            self._next, self._asked = self._patience, None
        if still < self._next or self._asked is not None:
            return False
        self._asked, self._next, self.answers = time.monotonic(), 2 * still, {}
        return True

    def report(self, still: float, names: dict[int, str], missing: list[int]) -> str | None:
        """What they said, once all have or their time is up; None before that, and where nobody was asked."""
        if self._asked is None:
            return None
        if len(self.answers) < len(names) and time.monotonic() - self._asked < min(_ANSWER, self._patience):
            return None
        self._asked = None
        silent = "alive, but in a call that lets no other thread of it run"
        lines = [f"  {names[rank]} {self.answers.get(rank, silent)}" for rank in sorted(names)]
        lines += [f"  rank {rank} has not come yet" for rank in missing]
        ends = "A collective is given up after `train: {ddp_timeout: …}` seconds, 1800 where the recipe says nothing."
        return "\n".join([f"nothing has moved for {still:.0f} s:", *lines, f"  {ends}"])
