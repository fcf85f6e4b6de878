"""Every error a user can cause, in three beats: what was asked, why it cannot be, what to write instead.

`UserError` and its children end the command line with one message and exit code 2. Anything else that
reaches the top is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The input was wrong. Keeps its three beats as arguments, so it survives pickling."""

    def __init__(self, asked: str, why: str, instead: str) -> None:
        super().__init__(asked, why, instead)
        self.asked, self.why, self.instead = asked, why, instead

    def __str__(self) -> str:
        return f"{self.asked}\n  why: {self.why}\n  instead: {self.instead}"


class RecipeError(UserError):
    """A recipe says something that cannot be done."""


class DataError(UserError):
    """The data is not what the recipe says it is."""


class PluginError(UserError):
    """A reward could not be found or loaded."""


class RewardError(UserError):
    """A reward broke its contract while scoring: it raised, or returned something that is not a score."""


class RolloutError(UserError):
    """vLLM does not draw from the policy, or its server is gone."""


class FolderError(UserError):
    """A run's folder takes no more: the disk is full, or not ours to write on."""


class JobError(Exception):
    """Another process of this job ended it, or this one did and rank 0 says so for all: no fault of this process's own."""

    def __init__(self, rank: int, reason: str, code: int) -> None:
        super().__init__(rank, reason, code)
        self.rank, self.reason, self.code = rank, reason, code

    def __str__(self) -> str:
        return self.reason


class MachineError(UserError):
    """This machine lacks what the recipe needs."""


class MissingPackageError(UserError):
    """An optional package is needed and not installed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the closest known word, else the list of what is known."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "one of: " + ", ".join(options) if options else "nothing is known here"
