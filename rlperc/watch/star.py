"""The connections of a job: rank 0 holds one to every other rank.

The kernel closes the connections of a process that dies, and finds a machine that is gone, whatever the interpreters are
doing: one that is busy for minutes is not taken for dead.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import threading
from datetime import timedelta
from typing import Any, Protocol

from rlperc.watch.wire import Wire, listening

COMES_WITHIN = 600.0
"""Seconds for all processes to start: reading torch from a network's disk takes minutes."""


class Hears(Protocol):
    """Who is told what comes in, in the star's thread."""

    def heard(self, rank: int, message: dict[str, Any]) -> None:
        """A message of a rank."""

    def lost(self, rank: int) -> None:
        """A rank is gone that did not part."""

    def look(self) -> None:
        """About every second."""


class Star(threading.Thread):
    """This process's end of them, in a thread of its own."""

    def __init__(self, rank: int, world: int, name: str, hears: Hears, every: float = 1.0) -> None:
        super().__init__(name="rlperc-watch", daemon=True)
        self.names = {rank: name}
        """Of the ranks that have come."""
        self.whole = threading.Event()
        """All connections of this process are there."""
        self._rank, self._world, self._hears, self._every = rank, world, hears, every
        self._wires: dict[int, Wire] = {}
        self._parted: set[int] = set()
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._server = socket.socket()
        self._token = os.urandom(16).hex()

    @property
    def missing(self) -> list[int]:
        """Ranks that rank 0 has not heard of."""
        return [rank for rank in range(self._world) if rank not in self.names]

    def tell(self, **message: Any) -> bool:
        """Tell rank 0, or as rank 0 all others; whether it went out to any."""
        return any([wire.send(**message) for wire in list(self._wires.values())])

    def part(self) -> None:
        """Say that this process leaves in good order."""
        self.tell(parted=True)

    def close(self, seconds: float) -> None:
        """Leave. Rank 0 waits until all others have parted, so that it is not missed."""
        self.part()
        self._closing.set()
        if self.is_alive():
            self.join(seconds)

    def run(self) -> None:
        """Connect, and listen until it is closed."""
        try:
            (self._open if self._rank == 0 else self._connect)()
        except (OSError, RuntimeError):  # the latter from torch's store
            return  # rank 0 says who is missing
        os.register_at_fork(after_in_child=self._forget)
        try:
            self._listen()
        except Exception:
            logging.getLogger(__name__).exception("rlperc: nobody notices any more whether a process dies:")

    def _listen(self) -> None:
        while not (self._closing.is_set() and (self._rank or not self._wires)):
            for key, _ in self._selector.select(timeout=self._every):
                if key.fileobj is self._server:
                    self._accept(self._server)
                elif isinstance(key.data, Wire):
                    self._greet(key.data)
                else:
                    self._read(key.data)
            if not self._closing.is_set():
                self._hears.look()
        for rank in list(self._wires):
            self._drop(rank)

    def _open(self) -> None:
        self._server = listening()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._store().set("address", json.dumps([self._server.getsockname()[1], self._token, self.names[0]]))

    def _connect(self) -> None:
        port, token, self.names[0] = json.loads(self._store().get("address"))
        wire = Wire(socket.create_connection((os.environ["MASTER_ADDR"], port), timeout=COMES_WITHIN))
        wire.send(token=token, rank=self._rank, name=self.names[self._rank])
        self._add(0, wire)
        self.whole.set()

    def _store(self) -> Any:
        """The launcher's, or else the process group's, once it is open."""
        from torch.distributed import PrefixStore, TCPStore

        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=COMES_WITHIN))
        return PrefixStore(f"rlperc/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)

    def _accept(self, server: socket.socket) -> None:
        try:
            wire = Wire(server.accept()[0])
        except OSError as error:  # too many files are open
            logging.getLogger(__name__).warning("rlperc: a process cannot connect: %s", error)
            return
        self._selector.register(wire.socket, selectors.EVENT_READ, wire)

    def _greet(self, wire: Wire) -> None:
        """Take in whoever says the token that rank 0 left in the store."""
        messages = wire.read()
        if messages == []:
            return
        self._selector.unregister(wire.socket)
        hello, *more = messages or [{}]
        rank = hello.get("rank")
        if hello.get("token") != self._token or not isinstance(rank, int):
            wire.close()
            return
        self.names[rank] = str(hello.get("name"))
        self._add(rank, wire)
        self._hear(rank, more)
        if not self.missing:
            self._selector.unregister(self._server)
            self._server.close()  # nobody else is expected
            self.whole.set()

    def _add(self, rank: int, wire: Wire) -> None:
        self._wires[rank] = wire
        self._selector.register(wire.socket, selectors.EVENT_READ, rank)

    def _read(self, rank: int) -> None:
        messages = self._wires[rank].read()
        self._hear(rank, messages or [])
        if messages is None:
            self._drop(rank)
            if rank not in self._parted and not self._closing.is_set():
                self._hears.lost(rank)

    def _hear(self, rank: int, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            if message.get("parted"):
                self._parted.add(rank)
            else:
                self._hears.heard(rank, message)

    def _forget(self) -> None:
        for wire in self._wires.values():
            wire.forget()
        self._server.close()

    def _drop(self, rank: int) -> None:
        wire = self._wires.pop(rank)
        self._selector.unregister(wire.socket)
        wire.close()
