"""Minding SIGTERM for a while, and knowing of it while the main thread stands in a call."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

TERMINATED = 128 + signal.SIGTERM
"""The exit code of what it has ended, as shells and schedulers have it."""


@contextmanager
def on_sigterm(does: Callable[..., Any] | signal.Handlers) -> Iterator[None]:
    """What SIGTERM does inside. Only a program's main thread can say it; in another one nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, does)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Told:
    """When SIGTERM came to a process that minds it.

    Python runs handlers in the main thread, between two of its steps: one that waits in a collective is never told. The C
    part of the interpreter writes the signal's number into a socket right away.
    """

    def __init__(self) -> None:
        self._at: float | None = None
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def listen(self) -> None:
        """Begin. In a thread that is not the program's main one nothing is heard."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # what a child is told is its own affair

    def close(self) -> None:
        """End, in the thread that began."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)

    def look(self) -> float:
        """Seconds since it came; 0 where it has not."""
        with suppress(BlockingIOError):
            if self._at is None and signal.SIGTERM in self._read.recv(4096):
                self._at = time.monotonic()
        return time.monotonic() - self._at if self._at is not None else 0.0
