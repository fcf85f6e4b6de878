"""What every part of a recipe shares: unknown keys are errors, and a number may follow a schedule."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

LARGEST = 1e9  # of a number in a schedule: also infinity and NaN are beyond it


class Part(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _checked(value: Any) -> Any:
    points = value if isinstance(value, dict) else {0: value}
    numbers = [*points, *points.values()]
    if not points or not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) <= LARGEST for n in numbers):
        why = "it is a number, or numbers at shares of the training"
        raise PydanticCustomError(
            "schedule", why, {"expected": "0.5, or {0: 1.0, 0.5: 0.2}, with numbers for keys and a blank after each colon"}
        )
    if not all(0 <= share <= 1 for share in points):
        why = "a schedule's keys are shares of the training, from 0 (its start) to 1 (its end)"
        raise PydanticCustomError("schedule", why, {"expected": "{0: 1.0, 0.5: 0.2}"})
    return dict(sorted(points.items())) if isinstance(value, dict) else value


def _a_share(value: float | dict[float, float]) -> float | dict[float, float]:
    if not all(0 <= number <= 1 for number in _values(value)):
        raise PydanticCustomError("share", "a share lies between nothing, 0, and all, 1", {"ge": 0, "le": 1})
    return value


def _a_strength(value: float | dict[float, float]) -> float | dict[float, float]:
    if not all(number >= 0 for number in _values(value)):
        raise PydanticCustomError("strength", "below 0 it would do the opposite of what it is called", {"ge": 0})
    return value


def _values(scheduled: float | dict[float, float]) -> list[float]:
    return list(scheduled.values()) if isinstance(scheduled, dict) else [scheduled]


Scheduled = Annotated[float | dict[float, float], BeforeValidator(_checked)]
"""A number, or its values at shares of the training: `{0: 1.0, 0.5: 0.2}` falls in a straight line over the first half."""
Share = Annotated[Scheduled, AfterValidator(_a_share)]
"""The same, from 0 to 1 throughout."""
Strength = Annotated[Scheduled, AfterValidator(_a_strength)]
"""The same, never below 0."""


def value_at(scheduled: float | dict[float, float], progress: float) -> float:
    """A schedule's value: straight lines between its points, the nearest point's value outside of them.

    Args:
        scheduled: a number, or values at shares of the training.
        progress: share of the training that is done, 0 to 1.
    """
    if not isinstance(scheduled, dict):
        return scheduled
    points = list(scheduled.items())
    for (left, low), (right, high) in pairwise(points):
        if left <= progress <= right:
            return low + (high - low) * (progress - left) / (right - left)
    return points[0][1] if progress < points[0][0] else points[-1][1]


def is_never(scheduled: float | dict[float, float]) -> bool:
    """Whether it is 0 throughout."""
    return not any(_values(scheduled))
