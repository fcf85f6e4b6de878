"""Minding SIGTERM for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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
