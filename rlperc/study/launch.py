"""Doing a study's jobs, several at a time, each in processes of its own; whatever is interrupted goes on the next time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rlperc.errors import FolderError
from rlperc.recipe.folder import RunFolder
from rlperc.study.jobs import Job

POLL_S = 0.2
LAST_WORDS = 12
"""Lines of a failed job's output that are shown."""


class Ended(Exception):
    """The study was told to end. `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def do_jobs(planned: Mapping[Job, str], at_once: int, launcher: Sequence[str], say: Callable[[str], None]) -> list[Job]:
    """Do what is not done yet.

    Args:
        planned: jobs, each after the one it needs, and their recipes.
        at_once: how many run together.
        launcher: the command that runs `-m rlperc train …`: python, or `torchrun --nproc_per_node 8`.
        say: told what begins and what became of it.

    Returns:
        The jobs that failed, and those that needed one of them.

    Raises:
        Ended: by Ctrl-C or SIGTERM, which went on to the jobs and was waited for.
        FolderError: the study's folder cannot be written in.
    """
    done = {job for job in planned if job.summary() is not None}
    waiting = [job for job in planned if job not in done]
    running: dict[Job, subprocess.Popen[bytes]] = {}
    failed: list[Job] = []
    for job in done:  # one that ended while no study looked, too
        job.tidy()
    if done:
        say(f"{len(done)} of {len(planned)} runs are there already")
    logs: dict[Job, int] = {}
    with _told() as told, _ending(running, told):
        while (waiting or running) and not told:
            failed += [job for job in waiting if job.needs in failed]
            waiting = [job for job in waiting if job not in failed]
            for job in [job for job in waiting if job.needs is None or job.needs in done][: at_once - len(running)]:
                waiting.remove(job)
                logs[job] = job.log.stat().st_size if job.log.exists() else 0
                running[job] = _begin(job, planned[job], at_once, launcher)
                say(f"{job}: begins ({len(waiting)} wait)")
            time.sleep(POLL_S)
            for job in [job for job, process in running.items() if process.poll() is not None]:
                code = running.pop(job).returncode
                found = job.summary()
                if found is None:
                    failed.append(job)
                    say(f"{job}: {_failure(job, code, logs[job])}")
                else:
                    done.add(job)
                    job.tidy()
                    say(f"{job}: {_success(found)}")
    if told:
        raise Ended(128 + told[0])
    return failed


def _begin(job: Job, recipe: str, at_once: int, launcher: Sequence[str]) -> subprocess.Popen[bytes]:
    several = any(word.startswith(("--nproc", "--num_processes", "--num-processes")) for word in launcher)  # with own defaults
    threads = {} if several else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))}
    try:
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        RunFolder(job.folder).write(job.file, recipe)
        with job.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the command is the user's own
                [*launcher, "-m", "rlperc", "train", str(job.file), "--resume"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**threads, **os.environ},
                start_new_session=True,  # Ctrl-C is ours; they hear of it by SIGTERM, and save
            )
    except OSError as error:
        raise FolderError(f"beginning {job}", str(error), "--out where there is room, and --launch what is there") from None


@contextmanager
def _told() -> Iterator[list[int]]:
    """Signals that came and end the study; what they did before is put back."""
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)

    # Under nohup a terminal may close.
    heard = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ending(running: Mapping[Job, subprocess.Popen[bytes]], told: Sequence[int]) -> Iterator[None]:
    """However it is left, no training stays behind: they are told to end, and killed at a second signal."""
    try:
        yield
    finally:
        for process in running.values():
            _send(process, signal.SIGTERM)
        before = len(told)
        while any(process.poll() is None for process in running.values()):
            time.sleep(POLL_S)
            if len(told) > max(before, 1):
                for process in running.values():
                    _send(process, signal.SIGKILL)


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    """To all processes of a training."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def _success(summary: dict[str, Any]) -> str:
    measures = summary["eval"].get("after", {})
    shown = ", ".join(f"{name} {100 * measures[name]:.1f}" for name in ("a", "a_p", "a_r") if measures.get(name) is not None)
    return f"{shown} ({summary['seconds']:.0f} s)"


def _failure(job: Job, code: int, since: int) -> str:
    said = job.log.read_bytes()[since:].decode(errors="replace")  # what earlier tries said stands before that
    lines = said.replace("\r", "\n").splitlines()
    begins = next((k for k in reversed(range(len(lines))) if lines[k].startswith("rlperc: ")), -LAST_WORDS)
    return "\n  ".join([f"failed with exit code {code}; {job.log} ends with", *lines[begins:][:LAST_WORDS]])
