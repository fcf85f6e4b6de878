"""In a worker process: load one reward, then score what arrives. A worker that takes too long is killed, not asked."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlperc.errors import UserError
from rlperc.reward.attempt import OUT_OF_MEMORY, Outcome, attempt_each, attempt_many
from rlperc.reward.contract import Reward
from rlperc.reward.plugins import find_reward
from rlperc.words.response import Completion

MIB = 1024 * 1024
EXIT_OUT_OF_MEMORY = 77


@dataclass(frozen=True)
class Assignment:
    """What a worker is started for. `path` is the `sys.path` that the reward was found with."""

    use: str
    settings: Mapping[str, Any]
    timeout_s: float
    workers: int
    memory_mib: int
    path: list[str]


class _State:
    """A worker's own, set once at its start."""

    assignment: Assignment
    reward: Reward | None = None
    failure: Outcome


def prepare(assignment: Assignment) -> None:
    """Load the reward and its heavy imports, then limit the memory. What fails here is told at every call."""
    sys.path[:] = assignment.path
    _State.assignment = assignment
    try:
        reward = find_reward(assignment.use)
        for name in reward.imports:
            importlib.import_module(name)
        _State.reward = reward
    except ImportError as error:
        _State.failure = Outcome("missing", None, str(error))
    except Exception as error:  # noqa: BLE001 - told where it can be heard
        why = error.why if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _State.failure = Outcome("error", None, f"it cannot be loaded in a worker: {why}")
    # Of the memory it asks for itself: mapped libraries, of which some are huge, do not count.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = assignment.memory_mib * MIB
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # As it was before Python and the pool: what is stuck in C could not run a handler.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def score(job: bytes) -> str:
    """Score a pickled job, which is the completions and the columns or rows of one call.

    Returns:
        The outcomes as JSON: the process that reads them unpickles nothing that a worker wrote.
    """
    completions, columns = pickle.loads(job)  # noqa: S301 - from the process that started this one
    try:
        outcomes = _outcomes(completions, columns)
    except BaseException as error:  # noqa: BLE001 - even a KeyboardInterrupt is a reward's own here
        outcomes = [Outcome("error", None, f"it raised {type(error).__name__}")] * len(completions)
    if OUT_OF_MEMORY in outcomes:
        # What it holds would be missing to the next completion: a new worker starts empty.
        os._exit(EXIT_OUT_OF_MEMORY)
    return json.dumps(outcomes)


def _outcomes(completions: Sequence[Completion], columns: Any) -> list[Outcome]:
    reward, settings = _State.reward, _State.assignment.settings
    if reward is None:
        return [_State.failure] * len(completions)
    if reward.scope != "completion":
        return attempt_many(reward, completions, columns, settings)
    return attempt_each(reward, completions, columns, settings, _State.assignment.timeout_s)
