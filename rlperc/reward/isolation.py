"""A reward in processes of its own: no credentials, little memory, killed when it takes too long."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rlperc.reward.attempt import CONCURRENT_CALLS, Outcome, judged
from rlperc.reward.contract import Reward, Score
from rlperc.reward.worker import Assignment
from rlperc.words.response import Completion

_CREDENTIAL = re.compile(
    r"TOKENS?(?![A-Z])|SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CONNECTION_STRING|WEBHOOK"
    r"|(^|_)(KEYS?|PAT|PASS|AUTH|AUTHORIZATION|BEARER|JWT|DSN|COOKIE)(_|$)|.+_PWD$",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")
# A reward must not join the run's process group.
_OF_THE_RUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"}
# A worker has one core; and a GPU is the trainer's.
_WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
# The service is our own; if it does not answer by then, the pool itself is stuck.
GRACE_S = 60.0
STOP_S = 3.0
STUCK = Outcome("timeout", None, "the process that isolates it did not answer")
ENDED = Outcome("error", None, "the process that isolates it ended")

Answer = list[Outcome] | Outcome
"""Of one call: its outcomes; or the one fault it came to where its worker was lost with it."""


class Isolated:
    """A reward in worker processes. Started at the first call, ended by `close` or with this process."""

    def __init__(self, reward: Reward, settings: Mapping[str, Any], timeout_s: float, workers: int, memory_mib: int) -> None:
        self.reward = reward
        path = [os.path.abspath(folder) for folder in sys.path]
        self.assignment = Assignment(reward.use, dict(settings), timeout_s, workers, memory_mib, path)
        self._defaults = {name: value for name, value in reward.settings.items() if isinstance(value, str)}
        self._service: _Service | None = None
        self._one_at_a_time = threading.Lock()

    def score(self, completions: Sequence[Completion], rows: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Score each completion with its row: one call each, or all waiting at once for an async reward."""
        limit = self.assignment.timeout_s
        if self.reward.is_async:
            turns = -(-len(completions) // CONCURRENT_CALLS)
            # Each call has its own limit on the worker's loop; this one is for a loop that is blocked.
            (answer,) = self._call([(completions, rows)], limit * turns + limit)
            if isinstance(answer, list):
                return answer
            # One of them held up the loop or took the worker along: by itself, each is judged by what it does alone.
        return _flat(self._call([([one], [row]) for one, row in zip(completions, rows, strict=True)], limit), [1] * len(rows))

    def score_together(self, calls: Sequence[tuple[Sequence[Completion], Mapping[str, Any]]]) -> list[Outcome]:
        """Score groups or batches, one call each; the outcomes of all of them, in order."""
        return _flat(self._call(calls, self.assignment.timeout_s), [len(call[0]) for call in calls])

    def close(self) -> None:
        """End the processes. The next call would start new ones."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    def _call(self, calls: Sequence[tuple[Sequence[Completion], Any]], limit: float) -> list[Answer]:
        jobs = [(pickle.dumps(call), limit) for call in calls]
        answers: list[Answer] = []
        with self._one_at_a_time:
            if self._service is None:
                environment = clean_environment(os.environ, {**self._defaults, **self.assignment.settings})
                self._service = _Service(self.assignment, self.reward.imports, environment)
            try:
                for answer, (completions, _) in zip(self._service.ask(jobs, limit + GRACE_S), calls, strict=True):
                    answers.append(_rejudged(self.reward, answer, completions))
            except BaseException as error:  # an answer that comes later must not be taken for another call's
                self.close()
                if not isinstance(error, EOFError | ConnectionError | TimeoutError):
                    raise
                fault = STUCK if isinstance(error, TimeoutError) else ENDED
                answers += [fault] * (len(jobs) - len(answers))
        return answers


def _rejudged(reward: Reward, answer: Answer, completions: Sequence[Completion]) -> Answer:
    """An answer held to the reward's contract once more: what ran in the worker may have written it."""
    if isinstance(answer, Outcome):
        return answer

    def again(outcome: Outcome, length: int) -> Outcome:
        status, value, why, wrong = outcome
        if status != "value" or value is None:
            return Outcome(status, value, why)
        return judged(reward, Score(value, why, wrong), length)

    return [again(one, len(completion.text)) for one, completion in zip(answer, completions, strict=True)]


def _flat(answers: Sequence[Answer], counts: Sequence[int]) -> list[Outcome]:
    """The outcomes of all calls; a lost call's fault is that of each of its completions."""
    pairs = zip(answers, counts, strict=True)
    return [one for answer, count in pairs for one in (answer if isinstance(answer, list) else [answer] * count)]


class _Service:
    """A running `rlperc.reward.service`, in a process group of its own."""

    def __init__(self, assignment: Assignment, imports: tuple[str, ...], environment: Mapping[str, str]) -> None:
        ours, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                # -P: a file of the user's that is called like a module of ours or of Python's must not stand in for it.
                [sys.executable, "-P", "-m", "rlperc.reward.service", str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
                start_new_session=True,
            )
        self.link: Connection = ours
        self.stop = weakref.finalize(self, _stop, self.process, ours)
        ours.send(assignment)
        ours.send(imports)

    def ask(self, jobs: list[tuple[bytes, float]], patience: float) -> Iterator[Answer]:
        """Send jobs and give their answers as they come, in order. Raises TimeoutError where one does not come."""
        self.link.send(jobs)
        for _ in jobs:
            if not self.link.poll(patience):
                raise TimeoutError
            answer = json.loads(self.link.recv_bytes())
            yield Outcome(*answer["lost"][:3]) if isinstance(answer, dict) else [Outcome(*one) for one in answer]


def clean_environment(environment: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, str]:
    """The environment without what looks like a credential, but for the variables that settings `…_env` name.

    By the name of a variable, and by a password in a URL. Files that hold credentials stay readable.
    """
    named = {value for name, value in settings.items() if name.endswith("_env") and value is not None}
    kept = {name: value for name, value in environment.items() if name in named or not _is_secret(name, value)}
    python_path = [str(Path(__file__).parents[2]), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, **_WORKER_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(python_path)}


def _is_secret(name: str, value: str) -> bool:
    if name in ("PWD", "OLDPWD"):
        return False
    return name in _OF_THE_RUN or bool(_CREDENTIAL.search(name) or _PASSWORD_IN_URL.search(value))


def _stop(process: subprocess.Popen[bytes], link: Connection) -> None:
    """End the service, which tidies up and takes its group along; what does not end by itself is killed."""
    link.close()
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_descriptor(stream: Any) -> bool:
    try:
        return isinstance(stream.fileno(), int)
    except (AttributeError, OSError, ValueError):  # a notebook's stream
        return False
