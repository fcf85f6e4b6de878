"""What a reward is: a function of one completion and its row, and what its signature says about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rlperc.errors import PluginError

Credits = Literal["outcome", "perception", "reasoning", "format"]
Style = Literal["rlperc", "trl"]
F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__rlperc_reward__"
# What TRL hands to a reward function besides the data's columns.
TRL_ARGUMENTS = frozenset(
    {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}
)


@dataclass(frozen=True)
class Score:
    """A score with its reason. `why` is shown in the completions table: say what kept it from full marks."""

    value: float
    why: str = ""


@dataclass(frozen=True)
class _Mark:
    range: tuple[float, float]
    credits: Credits


@dataclass(frozen=True)
class Reward:
    """A reward, ready to run.

    `columns` maps each column it reads to whether the data must have it; `settings` maps each setting to its
    default (`inspect.Parameter.empty` where the recipe must give one).
    """

    name: str
    function: Callable[..., Any]
    style: Style
    range: tuple[float, float]
    credits: Credits
    columns: dict[str, bool]
    settings: dict[str, Any]
    origin: str
    summary: str


def reward(*, range: tuple[float, float] = (0.0, 1.0), credits: Credits = "outcome") -> Callable[[F], F]:
    """Mark a function as a reward. It stays the function it was; it only gains an attribute.

    Args:
        range: lowest and highest value it may return; a value outside is an error, not a score.
        credits: which part of the response it speaks about.
    """
    low, high = range
    if not low < high:
        raise ValueError(f"range {range}: the lowest value comes first")

    def mark(function: F) -> F:
        setattr(function, _MARK, _Mark((float(low), float(high)), credits))
        return function

    return mark


def is_marked(thing: object) -> bool:
    """Whether `thing` carries `@reward`."""
    return hasattr(thing, _MARK)


def describe(function: Callable[..., Any], origin: str) -> Reward:
    """Read a reward off its signature. Raises PluginError where the signature is not one of a reward."""
    mark: _Mark | None = getattr(function, _MARK, None)
    name = getattr(function, "__name__", type(function).__name__)
    columns, settings = _read_marked(function, name, origin) if mark else _read_trl(function, name, origin)
    return Reward(
        name=name,
        function=function,
        style="rlperc" if mark else "trl",
        range=mark.range if mark else (float("-inf"), float("inf")),
        credits=mark.credits if mark else "outcome",
        columns=columns,
        settings=settings,
        origin=origin,
        summary=(inspect.getdoc(function) or "").strip(),
    )


def _read_marked(function: Callable[..., Any], name: str, origin: str) -> tuple[dict[str, bool], dict[str, Any]]:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "completion":
        raise PluginError(
            f"the reward '{name}' ({origin})",
            "the first parameter of a function marked with @reward is the completion",
            f"def {name}(completion, …columns, *, …settings)",
        )
    columns: dict[str, bool] = {}
    settings: dict[str, Any] = {}
    for parameter in parameters[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY:
            settings[parameter.name] = parameter.default
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            columns[parameter.name] = parameter.default is parameter.empty
        else:
            raise PluginError(
                f"the parameter '{parameter}' of the reward '{name}' ({origin})",
                "columns and settings are read from the signature, so each needs a name of its own",
                "one parameter for each column, and one after `*` for each setting",
            )
    return columns, settings


def _read_trl(function: Callable[..., Any], name: str, origin: str) -> tuple[dict[str, bool], dict[str, Any]]:
    parameters = inspect.signature(function).parameters
    if "completions" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise PluginError(
            f"the reward '{name}' ({origin})",
            "it is neither marked with @reward nor a TRL reward function, which takes `completions`",
            "`from rlperc import reward` and put @reward() above it",
        )
    if inspect.iscoroutinefunction(function):
        raise PluginError(f"the reward '{name}' ({origin})", "rlperc does not run async rewards yet", "a plain `def`")
    columns = {
        p.name: p.default is p.empty
        for p in parameters.values()
        if p.name not in TRL_ARGUMENTS and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return columns, {}
