"""Messages between two processes: JSON lines over TCP."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any

LONGEST = 1 << 16
"""Bytes of a message: whoever sends more is none of us."""
# A machine that is gone says nothing: the kernel asks after 10 s without a word, and gives up 30 s later.
_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 40_000),  # milliseconds, where something was sent
)


class Wire:
    """One end of a connection, which any thread may write to and one thread reads."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._got = b""
        self._writing = threading.Lock()
        connection.settimeout(5)  # a full buffer on a dead line must not hold whoever writes
        for level, option, value in _ALIVE:
            connection.setsockopt(level, option, value)

    def send(self, **message: Any) -> bool:
        """Whether it went out; not whether it came in."""
        with self._writing, suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")
            return True
        return False

    def read(self) -> list[dict[str, Any]] | None:
        """What has come in; None where the other end is gone, or is none of ours. Blocks where nothing has come."""
        try:
            got = self.socket.recv(LONGEST)
        except TimeoutError:
            return []
        except OSError:
            return None
        self._got += got
        *lines, self._got = self._got.split(b"\n")
        if not got or len(self._got) > LONGEST:
            return None
        try:
            found = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        return found if all(isinstance(one, dict) for one in found) else None

    def forget(self) -> None:
        """Close this process's copy, in a child that was forked: the other end is not to take the child for its parent."""
        self.socket.close()

    def close(self) -> None:
        """End it: the other end reads that."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def listening() -> socket.socket:
    """A socket on a free port, for IPv6 too where there is any."""
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", 0), backlog=1024)
