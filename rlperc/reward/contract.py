"""What a reward is: a function of completions and their rows, and what its signature says about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, get_args, overload

from rlperc.errors import PluginError

Credits = Literal["outcome", "perception", "reasoning", "format"]
Scope = Literal["completion", "group", "batch"]
Style = Literal["rlperc", "trl"]
Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges `(start, end)` of a text's characters, counted in code points."""
F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__rlperc_reward__"
DEFAULT_TIMEOUT_S = 5.0
# Of one completion: they cross processes and are laid over its tokens.
MAX_RANGES = 1000
# What TRL hands to a reward function besides the data's columns.
TRL_ARGUMENTS = frozenset(
    {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}
)
SCORER = "scorer"
LABELS = frozenset({"perception", "boxes", "masks", "keypoints", "facts", "chain"})
"""Columns that say what is in the image."""


@dataclass(frozen=True)
class Score:
    """A score with its reason. `why` is shown in the completions table: say what kept it from full marks.

    `wrong` says which characters of `completion.text` it found wrong, as ranges with 0 <= start < end <= len(text), at most
    1,000 of them, in any order; what is not marked was right, or was not looked at. Only a reward that declares
    `@reward(marks=True)` may give it.
    """

    value: float
    why: str = ""
    wrong: Ranges = ()


class Scorer(Protocol):
    """The model that is training, asked how likely it finds what it wrote. Training supplies it; nothing else can."""

    def perception_logprobs(self, images: list[list[Any]]) -> list[float | None]:
        """Mean log-probability per token of each completion's perception span, seeing `images` instead of its own.

        Args:
            images: PIL images, as many for each completion as its row has.

        Returns:
            One value for each completion of the batch, in nats; None where the completion has no perception span.
        """


@dataclass(frozen=True)
class _Mark:
    range: tuple[float, float]
    credits: Credits
    scope: Scope
    bounded: bool
    timeout_s: float
    imports: tuple[str, ...]
    marks: bool


@dataclass(frozen=True)
class Reward:
    """A reward, ready to run.

    `columns` maps each column it reads to whether the data must have it; `settings` maps each setting to its
    default (`inspect.Parameter.empty` where the recipe must give one). `use` is what another process finds it by:
    empty for a function that stands in no file. A reward pickles as its `use`.
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
    scope: Scope = "completion"
    bounded: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S
    imports: tuple[str, ...] = ()
    marks: bool = False
    needs_scorer: bool = False
    use: str = field(default="", compare=False)

    @property
    def is_labelled(self) -> bool:
        """Whether it knows what is in the image."""
        return not LABELS.isdisjoint(self.columns)

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def annotations(self) -> dict[str, Any]:
        """The types of its parameters, evaluated; empty where they name what only a type checker imports."""
        try:
            return {
                p.name: p.annotation
                for p in inspect.signature(self.function, eval_str=True).parameters.values()
                if p.annotation is not p.empty
            }
        except NameError:
            return {}

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        from rlperc.reward.plugins import find_reward

        if not self.use:
            raise PluginError(
                f"the reward '{self.name}' in another process", "it stands in no file that can be loaded there", "./file.py"
            )
        return find_reward, (self.use,)


@overload
def reward(function: F, /) -> F: ...


@overload
def reward(
    *,
    range: tuple[float, float] = ...,
    credits: Credits = ...,
    scope: Scope = ...,
    bounded: bool = ...,
    timeout_s: float = ...,
    imports: tuple[str, ...] = ...,
    marks: bool = ...,
) -> Callable[[F], F]: ...


def reward(
    function: F | None = None,
    /,
    *,
    range: tuple[float, float] = (0.0, 1.0),
    credits: Credits = "outcome",
    scope: Scope = "completion",
    bounded: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    imports: tuple[str, ...] = (),
    marks: bool = False,
) -> F | Callable[[F], F]:
    """Mark a function as a reward. It stays the function it was; it only gains an attribute.

    With `scope="completion"` the first parameter is `completion`, and each column is that row's value. With `"group"` it
    is `completions`, all of one prompt, and each column is their row's value; with `"batch"` it is `completions`, those of
    one process and step, and each column is a list. The last two return a list. `async def` works in every scope. A
    keyword-only parameter `scorer` asks for the training model (`Scorer`), in batch scope. A setting whose name ends in
    `_env` names an environment variable that its workers may see; every other credential is kept from them.

    Args:
        function: where it stands without parentheses, `@reward`.
        range: lowest and highest value it may return; a value outside is an error, not a score.
        credits: which part of the response it speaks about.
        scope: what it sees at once.
        bounded: it needs little time and memory whatever a model wrote, so that it can run in the training process.
            Anything else runs in a worker process, which is killed when it takes too long.
        timeout_s: seconds for a call; a recipe may say otherwise.
        imports: heavy packages it imports inside; workers import them before its first time limit starts.
        marks: it says in `Score.wrong` which characters it found wrong.
    """
    for name, given, known in (("scope", scope, get_args(Scope)), ("credits", credits, get_args(Credits))):
        if given not in known:
            raise ValueError(f"{name} {given!r}: one of {', '.join(known)}")
    low, high = range
    if not low < high:
        raise ValueError(f"range {range}: the lowest value comes first")
    if not 0 < timeout_s < float("inf"):
        raise ValueError(f"timeout_s {timeout_s}: a number of seconds above 0")

    def mark(function: F) -> F:
        setattr(function, _MARK, _Mark((float(low), float(high)), credits, scope, bounded, timeout_s, imports, marks))
        return function

    return mark if function is None else mark(function)


def is_marked(thing: object) -> bool:
    """Whether `thing` carries `@reward`."""
    return hasattr(thing, _MARK)


def describe(function: Callable[..., Any], origin: str, use: str = "") -> Reward:
    """Read a reward off its signature. Raises PluginError where the signature is not one of a reward."""
    mark: _Mark | None = getattr(function, _MARK, None)
    name = getattr(function, "__name__", type(function).__name__)
    summary = (inspect.getdoc(function) or "").strip()
    if mark is None:
        columns = _read_trl(function, name, origin)
        unlimited = (float("-inf"), float("inf"))
        return Reward(name, function, "trl", unlimited, "outcome", columns, {}, origin, summary, scope="batch", use=use)
    columns, settings = _read_marked(function, mark, name, origin)
    needs_scorer = settings.pop(SCORER, None) is not None
    if needs_scorer and (mark.scope != "batch" or inspect.iscoroutinefunction(function)):
        raise PluginError(
            f"the reward '{name}' ({origin})",
            "the training model is asked about a whole batch at once",
            '@reward(scope="batch") above a plain `def`',
        )
    return Reward(
        name=name,
        function=function,
        style="rlperc",
        range=mark.range,
        credits=mark.credits,
        columns=columns,
        settings=settings,
        origin=origin,
        summary=summary,
        scope=mark.scope,
        bounded=mark.bounded,
        timeout_s=mark.timeout_s,
        imports=mark.imports,
        marks=mark.marks,
        needs_scorer=needs_scorer,
        use=use,
    )


def _read_marked(function: Callable[..., Any], mark: _Mark, name: str, origin: str) -> tuple[dict[str, bool], dict[str, Any]]:
    parameters = list(inspect.signature(function).parameters.values())
    first = "completion" if mark.scope == "completion" else "completions"
    if not parameters or parameters[0].name != first:
        raise PluginError(
            f"the reward '{name}' ({origin})",
            f'the first parameter of a reward with scope="{mark.scope}" is called `{first}`',
            f"def {name}({first}, …columns, *, …settings)",
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


def _read_trl(function: Callable[..., Any], name: str, origin: str) -> dict[str, bool]:
    parameters = inspect.signature(function).parameters
    if "completions" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise PluginError(
            f"the reward '{name}' ({origin})",
            "it is neither marked with @reward nor a TRL reward function, which takes `completions`",
            "`from rlperc import reward` and put @reward() above it",
        )
    return {
        p.name: p.default is p.empty
        for p in parameters.values()
        if p.name not in TRL_ARGUMENTS and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
