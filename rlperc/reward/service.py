"""The process that isolates a reward: it starts clean, keeps a pool of workers, and forwards completions to them.

It stands between the training process and the workers, because a pool that forked or spawned from a training script would
inherit its environment, run the script again, and die with its threads. It ends when whoever started it ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import Future, TimeoutError
from multiprocessing import get_context
from multiprocessing.connection import Connection

from pebble import ProcessExpired, ProcessPool

from rlperc.reward.attempt import Outcome, too_slow
from rlperc.reward.worker import Assignment, prepare, score

Job = tuple[bytes, int, float]
"""A pickled call, how many completions it scores, and its time limit in seconds."""


def main() -> None:
    """Serve the process at the other end of the socket whose number is the first argument."""
    link = Connection(int(sys.argv[1]))
    assignment: Assignment = link.recv()
    # A fork of a server that has only imported what it must: quick, and free of this process's threads.
    context = get_context("forkserver")
    context.set_forkserver_preload(["rlperc.reward.worker", *link.recv()])
    with ProcessPool(assignment.workers, initializer=prepare, initargs=(assignment,), context=context) as pool:
        try:
            while True:
                jobs: list[Job] = link.recv()
                futures = [pool.schedule(score, args=(call,), timeout=limit) for call, _, limit in jobs]
                answers = [_answer(future, count, limit) for future, (_, count, limit) in zip(futures, jobs, strict=True)]
                link.send_bytes(f"[{','.join(answers)}]".encode())
        except (EOFError, ConnectionError):
            # Nobody is left to answer: take everything along, also what a reward has started by itself.
            os.killpg(os.getpgrp(), signal.SIGKILL)


def _answer(future: Future[str], count: int, limit: float) -> str:
    """The outcomes of one job as JSON."""
    try:
        return future.result()
    except TimeoutError:
        fault = too_slow(limit)
    except ProcessExpired as error:
        code = error.exitcode
        how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
        fault = Outcome("error", None, f"its worker process ended {how}")
    except Exception as error:  # noqa: BLE001 - whatever the pool reports belongs to this call, not to the next one
        fault = Outcome("error", None, f"its worker failed: {type(error).__name__}: {error}")
    return json.dumps([fault] * count)


if __name__ == "__main__":
    main()
