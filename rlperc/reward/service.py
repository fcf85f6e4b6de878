"""The process that isolates a reward: it starts clean, keeps a pool of workers, and forwards completions to them.

It stands between the training process and the workers, because a pool that forked or spawned from a training script would
inherit its environment, run the script again, and die with its threads. It ends when whoever started it ends.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future, TimeoutError
from typing import TYPE_CHECKING

from rlperc.reward.attempt import OUT_OF_MEMORY, Outcome, too_slow
from rlperc.reward.worker import EXIT_OUT_OF_MEMORY, Assignment, prepare, score

if TYPE_CHECKING:
    from pebble import ProcessPool

Job = tuple[bytes, float]
"""A pickled call and its time limit in seconds."""


def main() -> None:
    """Serve the process at the other end of the socket whose number is the first argument."""
    # Registered before multiprocessing registers its own, and so run after that has removed its semaphores and folders.
    atexit.register(_end_group)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    from multiprocessing.connection import Connection

    link = Connection(int(sys.argv[1]))
    workers = Workers(link.recv(), link.recv())
    try:
        while True:
            for answer in workers.answers(link.recv()):
                link.send_bytes(answer.encode())
    except (EOFError, ConnectionError):
        pass  # nobody is left to answer
    finally:
        workers.stop()


class Workers:
    """The pool, made anew when it breaks."""

    def __init__(self, assignment: Assignment, imports: tuple[str, ...]) -> None:
        self.assignment, self.imports = assignment, imports
        self.pool = self._pool()

    def answers(self, jobs: list[Job]) -> Iterator[str]:
        """For each job in order, as JSON: its outcomes, or `{"lost": outcome}` where its worker was lost with it."""
        futures = self._schedule(jobs)
        for place, job in enumerate(jobs):
            try:
                yield futures[place].result()
            except (TimeoutError, OSError) as error:  # pebble's ProcessExpired is an OSError
                yield _lost(_fault(error, job[1]))
            except Exception:  # noqa: BLE001 - what the pool itself raises is no contract of its own
                # The pool itself broke, which was no fault of this call: once more, with another pool.
                self.stop()
                self.pool = self._pool()
                futures[place:] = self._schedule(jobs[place:])
                yield self._once_more(futures[place], job[1])

    def stop(self) -> None:
        """End the workers."""
        self.pool.stop()  # type: ignore[no-untyped-call]
        self.pool.join()

    def _once_more(self, future: Future[str], limit: float) -> str:
        try:
            return future.result()
        except Exception as error:  # noqa: BLE001 - whatever the pool reports belongs to this call, not to the next one
            return _lost(_fault(error, limit))

    def _schedule(self, jobs: list[Job]) -> list[Future[str]]:
        if not self.pool.active:
            self.pool = self._pool()
        return [self.pool.schedule(score, args=(call,), timeout=limit) for call, limit in jobs]

    def _pool(self) -> ProcessPool:
        from multiprocessing import get_context

        from pebble import ProcessPool

        # A fork of a server that has only imported what it must: quick, and free of this process's threads.
        context = get_context("forkserver")
        context.set_forkserver_preload(["rlperc.reward.worker", *self.imports])
        return ProcessPool(self.assignment.workers, initializer=prepare, initargs=(self.assignment,), context=context)


def _fault(error: BaseException, limit: float) -> Outcome:
    """What a lost call comes to."""
    if isinstance(error, TimeoutError):
        return too_slow(limit)
    code = getattr(error, "exitcode", None)
    if code is None:
        return Outcome("error", None, f"its worker failed: {type(error).__name__}: {error}")
    if code == EXIT_OUT_OF_MEMORY:
        return OUT_OF_MEMORY
    how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
    return Outcome("error", None, f"its worker process ended {how}")


def _lost(fault: Outcome) -> str:
    return json.dumps({"lost": fault})


def _end_group() -> None:
    """Take everything along, also what a reward has started by itself."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
