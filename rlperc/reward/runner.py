"""Running a reward over completions: a value, None because of the row, or an error; never mixed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlperc.errors import RecipeError, RewardError, did_you_mean
from rlperc.reward.contract import Reward, Score
from rlperc.reward.plugins import blame
from rlperc.words.response import Completion

Status = Literal["value", "skip"]


@dataclass(frozen=True)
class Outcome:
    """What a reward made of one completion. `value` is None exactly where the status is `skip`."""

    value: float | None
    why: str = ""

    @property
    def status(self) -> Status:
        """`skip` where the row is not this reward's."""
        return "skip" if self.value is None else "value"


def check_settings(reward: Reward, settings: Mapping[str, Any]) -> None:
    """Refuse a setting the reward does not have, or a missing one that it needs. Raises RecipeError."""
    for name in settings:
        if name not in reward.settings:
            raise RecipeError(
                f"`with: {{{name}: …}}` for the reward '{reward.name}'",
                "it has no such setting",
                did_you_mean(name, reward.settings) if reward.settings else "leave `with` out",
            )
    for name, default in reward.settings.items():
        if default is inspect.Parameter.empty and name not in settings:
            raise RecipeError(f"the reward '{reward.name}'", f"it needs the setting '{name}'", f"with: {{{name}: …}}")


def check_columns(reward: Reward, available: Sequence[str], source: str) -> None:
    """Refuse a reward whose columns the data does not have. Raises RecipeError."""
    for column, needed in reward.columns.items():
        if needed and column not in available:
            raise RecipeError(
                f"the reward '{reward.name}' on {source}",
                f"it needs the column '{column}'; the data has {', '.join(sorted(available))}",
                f"data: {{columns: {{{column}: the column's name in the data}}}}",
            )


def run_reward(
    reward: Reward,
    completions: Sequence[Completion],
    columns: Mapping[str, Sequence[Any]],
    settings: Mapping[str, Any],
) -> list[Outcome]:
    """Run a reward of our own style, one completion at a time.

    Args:
        reward: the reward.
        completions: what the model wrote.
        columns: the data's columns, each as long as `completions`.
        settings: from the recipe.

    Raises:
        RewardError: it raised, or returned something that is not a finite score within its range, or None.
    """
    taken = [name for name in reward.columns if name in columns]
    outcomes = []
    for index, completion in enumerate(completions):
        row = {name: columns[name][index] for name in taken}
        returned = guard(reward, reward.function, completion, **row, **settings)
        outcomes.append(_outcome(reward, returned))
    return outcomes


def run_trl_reward(reward: Reward, arguments: Mapping[str, Any], count: int) -> list[Outcome]:
    """Run a plain TRL function on a whole batch, and hold it to TRL's contract: one number or None each.

    Raises:
        RewardError: it raised, or returned something else.
    """
    returned = guard(reward, reward.function, **arguments)
    if isinstance(returned, str) or not isinstance(returned, Iterable):
        raise _broke(reward, f"it returned {_shown(returned)} instead of a list")
    returned = list(returned)
    if len(returned) != count:
        raise _broke(reward, f"it returned {len(returned)} scores for {count} completions")
    return [_outcome(reward, value) for value in returned]


def guard(reward: Reward, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call user code; whatever it raises becomes one readable RewardError."""
    try:
        return call(*args, **kwargs)
    except (Exception, SystemExit) as error:
        raise RewardError(
            f"scoring with the reward '{reward.name}' ({reward.origin})",
            f"it raised {blame(error, reward.origin)}",
            "a number for whatever a model may write, None where the row is not this reward's",
        ) from error


def _outcome(reward: Reward, returned: Any) -> Outcome:
    score = returned if isinstance(returned, Score) else Score(returned)
    if score.value is None:
        return Outcome(None, score.why)
    try:
        value = float(score.value)
    except (TypeError, ValueError, OverflowError):
        raise _broke(reward, f"it returned {_shown(returned)}, which is not a number") from None
    if not math.isfinite(value):
        raise _broke(reward, f"it returned {value}, which would silence the whole group's advantages")
    low, high = reward.range
    if not low <= value <= high:
        raise _broke(reward, f"it returned {value}, outside its declared range {low:g} to {high:g}")
    return Outcome(value, score.why)


def _broke(reward: Reward, why: str) -> RewardError:
    return RewardError(
        f"scoring with the reward '{reward.name}' ({reward.origin})",
        why,
        "a finite number for each completion, or None where the row is not this reward's",
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
