"""Where a thread stands, in one line: which collective it waits in, and who called it."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

Stack = tuple[tuple[str, int, str], ...]
"""File, line and function of every frame, the innermost first."""

OURS = Path(__file__).resolve().parents[1]
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")})


def stack(thread: int) -> Stack:
    """What a thread is in; empty where it has ended.

    Args:
        thread: `threading.Thread.ident`.
    """
    found = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(found)


def described(found: Stack) -> str:
    """The collective it waits in, else the innermost function; and the innermost place in rlperc or in a user's file."""
    if not found:
        return "has ended"
    file, line, function = found[0]
    inner = f"{function} ({Path(file).name}:{line})"
    waits = next((name for file, _, name in found if "/torch/distributed/" in file and not name.startswith("_")), None)
    place = next(((file, line, name) for file, line, name in found if _is_ours(file)), None)
    called = f", called from {_short(place[0])}:{place[1]} in {place[2]}" if place and place != found[0] else ""
    return f"waits in {waits}{called}" if waits else f"is in {inner}{called}"


def _is_ours(file: str) -> bool:
    if file.startswith("<"):
        return False
    return file.startswith(str(OURS)) or not file.startswith(_LIBRARIES)


def _short(file: str) -> str:
    return file.removeprefix(f"{OURS.parent}/")
