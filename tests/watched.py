"""One of two processes of a job under rlperc's watch. See test_watch.py."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta

from torch import distributed

from rlperc.cli import _leave
from rlperc.errors import DataError, JobError
from rlperc.train.stop import Stop
from rlperc.watch.job import Watch


def main(case: str) -> None:
    cases = {does.__name__: does for does in (sleep, waits, fails, fault, ends, told, apart, forks)}
    watch, first = Watch(patience=2), os.environ["RANK"] == "0"
    watch.last_words.append(lambda reason, _: print("last words:", reason, flush=True))
    with watch.guarding():
        distributed.init_process_group("gloo", timeout=timedelta(seconds=300))
        watch.meet()
        distributed.barrier()
        print("together", flush=True)
        cases[case](first)
    watch.close()
    distributed.destroy_process_group()
    print("closed", flush=True)


def sleep(first: bool) -> None:
    time.sleep(300)


def told(first: bool) -> None:
    with Stop().listening():
        time.sleep(300)


def apart(first: bool) -> None:
    """Each waits for the other at another place, in a call that no handler of Python's interrupts."""
    groups = [distributed.new_group([0, 1]) for _ in range(2)]
    stop = Stop()
    with stop.listening(), stop.saves_first():
        distributed.barrier(groups[0 if first else 1])


def forks(first: bool) -> None:
    if not first and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    time.sleep(300)


def waits(first: bool) -> None:
    if first:
        distributed.barrier()
    else:
        time.sleep(8)
        distributed.barrier()


def fails(first: bool) -> None:
    if first:
        time.sleep(300)
    raise DataError("row 7", "it is torn", "another row")


def fault(first: bool) -> None:
    if first:
        distributed.barrier()
    raise ZeroDivisionError("by nothing")


def ends(first: bool) -> None:
    time.sleep(0 if first else 3)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except SystemExit as error:
        _leave(error.code)
    except JobError as error:
        print("ended by", error.rank, error, flush=True)
        _leave(error.code)
