"""In a worker process: load one reward, then score what arrives. A worker that takes too long is killed, not asked."""

from __future__ import annotations

import importlib
import json
import pickle
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlperc.errors import UserError
from rlperc.reward.attempt import Outcome, attempt, attempt_concurrently, attempt_many
from rlperc.reward.contract import Reward
from rlperc.reward.plugins import find_reward

MIB = 1024 * 1024


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
    limit = assignment.memory_mib * MIB
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def score(job: bytes) -> str:
    """Score a pickled job, which is the completions and the columns or rows of one call.

    Returns:
        The outcomes as JSON: the process that reads them unpickles nothing that a worker wrote.
    """
    completions, columns = pickle.loads(job)  # noqa: S301 - from the process that started this one
    reward, settings = _State.reward, _State.assignment.settings
    if reward is None:
        outcomes = [_State.failure] * len(completions)
    elif reward.scope != "completion":
        outcomes = attempt_many(reward, completions, columns, settings)
    elif reward.is_async:
        outcomes = attempt_concurrently(reward, completions, columns, settings, _State.assignment.timeout_s)
    else:
        outcomes = [attempt(reward, one, row, settings) for one, row in zip(completions, columns, strict=True)]
    return json.dumps(outcomes)
