"""Being told to end: SIGTERM, which schedulers send some time before they kill."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rlperc.watch.signals import TERMINATED, on_sigterm


class Stop:
    """What SIGTERM does. A stage saves first, at the end of its step, and ends then; anything else ends at once.

    What ends at once loses nothing: parts of a run that have ended are on the disk. More of them change nothing: launchers
    pass theirs on, and schedulers send theirs to all processes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._can_wait = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Mind SIGTERM inside. Only a program's main thread can; in another one nothing is minded."""
        with on_sigterm(self._caught):
            yield

    @contextmanager
    def saves_first(self) -> Iterator[None]:
        """What stands inside looks at `asked` and saves; the program ends behind it."""
        self._can_wait = True
        try:
            yield
        finally:
            self._can_wait = False
        self.end_if_asked()

    def end_if_asked(self) -> None:
        """End the program where that was asked for, with exit code 143."""
        if self.asked:
            sys.exit(TERMINATED)

    def _caught(self, number: int, frame: FrameType | None) -> Any:
        self.asked = True  # also where the exit that follows gets lost, as in a destructor
        if not self._can_wait:
            sys.exit(TERMINATED)
