"""Reward functions written for other trainers, taken as they are.

| trainer | what it calls | recognised by |
|---|---|---|
| verl | `compute_score(data_source, solution_str, ground_truth, extra_info=None, **settings)` | `solution_str` |
| EasyR1 | `compute_score(reward_input, **settings)` or `compute_score(reward_inputs, **settings)` | its first parameter |
| ms-swift | a class with `__call__(self, completions, **columns)` | being such a class |

Their gold answer is our column `answer`; verl's `data_source` and `extra_info` are columns of those names. Of a dictionary
they return, `score` (verl) or `overall` (EasyR1) is the value and the rest its reason.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rlperc.reward.contract import Score, is_marked, reward
from rlperc.words.response import Completion, text_of

Function = Callable[..., Any]
UNLIMITED = (float("-inf"), float("inf"))
_VERL = ("data_source", "solution_str", "ground_truth", "extra_info")


def is_reward_class(thing: object) -> bool:
    """Whether `thing` is a class whose instances score completions, as ms-swift's ORM classes do."""
    return inspect.isclass(thing) and "completions" in inspect.signature(thing.__call__).parameters


def adapt(thing: Function) -> Function:
    """A function of ours or TRL's for one written for verl, EasyR1 or ms-swift; anything else as it is."""
    if is_marked(thing):
        return thing
    if is_reward_class(thing):
        return _of_swift(thing)
    names = list(inspect.signature(thing).parameters)
    if "solution_str" in names:
        return _of_verl(thing)
    if names and names[0] in ("reward_input", "reward_inputs"):
        return _of_easyr1(thing, together=names[0] == "reward_inputs")
    return thing


def _of_verl(theirs: Function) -> Function:
    def scored(completion: Completion, answer: Any, data_source: Any = None, extra_info: Any = None, **settings: Any) -> Any:
        given = {
            "data_source": data_source,
            "solution_str": completion.text,
            "ground_truth": answer,
            "extra_info": extra_info,
        }
        taken = inspect.signature(theirs).parameters
        return _score(theirs(**{name: given[name] for name in _VERL if name in taken}, **settings), "score")

    return _marked(
        _awaiting(scored, "score") if inspect.iscoroutinefunction(theirs) else scored, theirs, _settings(theirs, _VERL)
    )


def _of_easyr1(theirs: Function, together: bool) -> Function:
    def seen(completion: Completion, answer: Any) -> dict[str, Any]:
        return {"response": completion.text, "response_length": completion.tokens, "ground_truth": answer}

    def one(completion: Completion, answer: Any, **settings: Any) -> Any:
        return _score(theirs(seen(completion, answer), **settings), "overall")

    def many(completions: list[Completion], answer: list[Any], **settings: Any) -> Any:
        inputs = [seen(completion, gold) for completion, gold in zip(completions, answer, strict=True)]
        return [_score(returned, "overall") for returned in theirs(inputs, **settings)]

    return _marked(many if together else one, theirs, _settings(theirs, ("reward_input", "reward_inputs")), together)


def _of_swift(theirs: Function) -> Function:
    """TRL calls a function with what ms-swift calls an ORM with, but for messages where that has text."""
    orm = theirs()

    @functools.wraps(orm.__call__)
    def scored(completions: list[Any], **columns: Any) -> Any:
        return orm([text_of(written) for written in completions], **columns)

    scored.__name__ = theirs.__name__
    scored.__doc__ = theirs.__doc__
    return scored


def _awaiting(scored: Function, key: str) -> Function:
    """The same for a coroutine function, whose call gives what is yet to be awaited."""

    @functools.wraps(scored)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return _score(await scored(*args, **kwargs), key)

    return awaited


def _score(returned: Any, key: str) -> Any:
    if not isinstance(returned, Mapping):
        return returned
    rest = ", ".join(f"{name}={value}" for name, value in returned.items() if name != key)
    return Score(returned[key], why=rest)


def _settings(theirs: Function, taken: tuple[str, ...]) -> list[inspect.Parameter]:
    return [
        parameter.replace(kind=parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(theirs).parameters.values()
        if parameter.name not in taken and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


def _marked(ours: Function, theirs: Function, settings: list[inspect.Parameter], together: bool = False) -> Function:
    """Our function under their name, with their settings in its signature, which is where settings are read from."""
    columns = [p for p in inspect.signature(ours).parameters.values() if p.kind is not p.VAR_KEYWORD]
    ours.__name__, ours.__doc__ = theirs.__name__, theirs.__doc__
    setattr(ours, "__signature__", inspect.Signature([*columns, *settings]))  # noqa: B010 - mypy knows no such attribute
    return reward(range=UNLIMITED, scope="batch" if together else "completion")(ours)
