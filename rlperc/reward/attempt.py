"""One call of a reward: what comes of it is a value, a skip because of the row, or a fault; never an exception of ours."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

from rlperc.errors import UserError
from rlperc.reward.contract import MAX_RANGES, Ranges, Reward, Score
from rlperc.reward.plugins import blame
from rlperc.words.response import Completion

Status = Literal["value", "skip", "error", "timeout", "nan", "inf", "missing"]
# Calls of an async reward that wait at the same time, in one worker.
CONCURRENT_CALLS = 32
# Of a reason: an error that quotes a long completion would fill the tables.
MAX_REASON_CHARACTERS = 1000


class Outcome(NamedTuple):
    """What a reward made of one completion. `value` is None and nothing is `wrong` unless the status is `value`.

    `skip`: the row is not this reward's. `error`: it raised or broke its contract. `timeout`: it took too long.
    `nan`, `inf`: it returned that. `missing`: a package it needs is not installed. `wrong`: as in `Score`.
    """

    status: Status
    value: float | None = None
    why: str = ""
    wrong: Ranges = ()

    @property
    def is_fault(self) -> bool:
        """Whether our side broke, rather than the model or the row."""
        return self.status not in ("value", "skip")


OUT_OF_MEMORY = Outcome("error", None, "it ran out of its memory")


def attempt(reward: Reward, completion: Completion, row: Mapping[str, Any], settings: Mapping[str, Any]) -> Outcome:
    """Score one completion with a reward of completion scope. Never raises for what the reward does."""
    try:
        return judged(reward, reward.function(completion, **row, **settings), len(completion.text))
    except BaseException as error:  # noqa: BLE001 - a user's code; what it raised is told
        return _raised(reward, error)


def attempt_many(
    reward: Reward, completions: Sequence[Completion], columns: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[Outcome]:
    """Score a group or a batch in one call. Never raises for what the reward does.

    Args:
        reward: of group or batch scope.
        completions: of one prompt, or of one batch.
        columns: a group's row, or each column as a list.
        settings: from the recipe.
    """
    lengths = [len(completion.text) for completion in completions]
    return attempt_call(reward, lengths, lambda: reward.function(completions, **columns, **settings))


def attempt_call(reward: Reward, lengths: Sequence[int], call: Callable[[], Any]) -> list[Outcome]:
    """Make a call that scores completions of `lengths` characters at once, and hold it to that: one number or None each."""
    count = len(lengths)
    try:
        returned = call()
        if isinstance(returned, Coroutine):
            returned = _in_a_loop(returned)
        if returned is None and reward.scope == "group":
            return [Outcome("skip")] * count
        if isinstance(returned, str | bytes | Mapping | Set) or not isinstance(returned, Iterable):
            return [Outcome("error", None, f"it returned {_shown(returned)} instead of a list")] * count
        returned = list(returned)
        if len(returned) != count:
            return [Outcome("error", None, f"it returned {len(returned)} scores for {count} completions")] * count
        return [judged(reward, one, length) for one, length in zip(returned, lengths, strict=True)]
    except BaseException as error:  # noqa: BLE001 - as above
        return [_raised(reward, error)] * count


def attempt_each(
    reward: Reward,
    completions: Sequence[Completion],
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    timeout_s: float,
) -> list[Outcome]:
    """Score completions with a reward of completion scope; `timeout_s` is for an async one, whose calls wait together."""
    if reward.is_async:
        return attempt_concurrently(reward, completions, rows, settings, timeout_s)
    return [attempt(reward, completion, row, settings) for completion, row in zip(completions, rows, strict=True)]


def attempt_concurrently(
    reward: Reward,
    completions: Sequence[Completion],
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    timeout_s: float,
) -> list[Outcome]:
    """Score completions with an async reward of completion scope, many waiting at once, each with its own time limit."""

    async def everything() -> list[Outcome]:
        places = asyncio.Semaphore(CONCURRENT_CALLS)

        async def one(completion: Completion, row: Mapping[str, Any]) -> Outcome:
            async with places:
                limit = asyncio.timeout(timeout_s)
                try:
                    async with limit:
                        returned = await reward.function(completion, **row, **settings)
                        return judged(reward, returned, len(completion.text))
                except BaseException as error:  # noqa: BLE001 - as above
                    return too_slow(timeout_s) if limit.expired() else _raised(reward, error)

        return list(await asyncio.gather(*(one(c, r) for c, r in zip(completions, rows, strict=True))))

    return list(_in_a_loop(everything()))


def judged(reward: Reward, returned: Any, length: int) -> Outcome:
    """Hold what a reward returned for a completion of `length` characters to its contract."""
    value, why, wrong = (returned.value, returned.why, returned.wrong) if isinstance(returned, Score) else (returned, "", ())
    why = "" if why is None else str(why)[:MAX_REASON_CHARACTERS]
    if value is None:
        return Outcome("skip", None, why)
    try:
        # Text that looks like a number may be what the model wrote.
        number = None if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None:
        return Outcome("error", None, f"it returned {_shown(returned)}, which is not a number")
    if not math.isfinite(number):
        kind: Status = "nan" if number != number else "inf"
        return Outcome(kind, None, f"it returned {number}, which would silence the whole group's advantages")
    low, high = reward.range
    if not low <= number <= high:
        return Outcome("error", None, f"it returned {number}, outside its declared range {low:g} to {high:g}")
    try:
        return Outcome("value", number, why, _held(reward, wrong, length))
    except ValueError as error:
        return Outcome("error", None, str(error))


def _held(reward: Reward, wrong: Any, length: int) -> Ranges:
    """What a reward marked in a text of `length` characters. Raises ValueError with what is wrong about it."""
    if not isinstance(wrong, tuple | list):
        raise ValueError(f"it marked {_shown(wrong)} as wrong, which is not a tuple of ranges")
    if wrong and not reward.marks:
        raise ValueError("it marked characters as wrong, which only a reward with @reward(marks=True) may")
    if len(wrong) > MAX_RANGES:
        raise ValueError(f"it marked {len(wrong)} ranges as wrong, more than {MAX_RANGES}")
    ranges = []
    for one in wrong:
        match one:
            case (int(start), int(end)) if 0 <= start < end <= length:
                ranges.append((int(start), int(end)))
            case _:
                raise ValueError(
                    f"it marked {_shown(one)} as wrong, which is no (start, end) with 0 <= start < end <= {length}, its length"
                )
    return tuple(ranges)


def too_slow(timeout_s: float) -> Outcome:
    """The outcome of a call that ran into its time limit."""
    return Outcome("timeout", None, f"it took longer than its {timeout_s:g} s")


def _raised(reward: Reward, error: BaseException) -> Outcome:
    """The outcome for what a reward raised. Raises KeyboardInterrupt again: that is the user's."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    if isinstance(error, ImportError):
        return Outcome("missing", None, str(error))
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, UserError):
        why = f"{error.asked}: {error.why}; instead: {error.instead}"
    else:
        why = f"it raised {blame(error, reward.origin)}"
    return Outcome("error", None, why[:MAX_REASON_CHARACTERS])


def _in_a_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, also where this thread already runs a loop (a notebook): in one thread of its own, with one loop.

    The loop stays, because clients of servers keep connections that belong to it.
    """
    return _loop_thread().submit(_run, coroutine).result()


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return _loop().run_until_complete(coroutine)


@functools.cache
def _loop_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="rlperc-async-rewards")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__
        text = f"a {type(value).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= 60 else text[:57] + "…"
