"""Running a reward over completions: in this process or in workers, and what becomes of its faults."""

from __future__ import annotations

import inspect
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from rlperc.errors import MissingPackageError, RecipeError, RewardError, did_you_mean
from rlperc.reward.attempt import Outcome, attempt_call, attempt_each, attempt_many
from rlperc.reward.contract import Reward, Scorer
from rlperc.reward.isolation import Isolated
from rlperc.words.response import Completion

OnError = Literal["stop", "skip", "zero"]
Group = Sequence[int]
# Below that many completions a share of faults says little; faults that came before so many others are past.
ENOUGH_TO_JUDGE = 50
WINDOW = 500
DEFAULT_MEMORY_MIB = 4096
# Reasons for faults that are kept apart; an error that quotes the completion has another one each time.
MAX_REASONS = 20
MAX_REASON_CHARACTERS = 200
OTHER_REASONS = "other reasons"
EVERYTHING = slice(None)


@dataclass(frozen=True)
class Handling:
    """How a reward is run, and what becomes of its faults.

    `on_error`: `stop` the run; `skip` that completion for this reward; or give it `zero`. A fault share above
    `max_error_share`, of the last 500 completions or so, stops the run all the same. `timeout_s` is for one call, and None
    means the reward's own. `isolate` None means: in worker processes unless the reward declares itself bounded. `workers`
    0 means as many as there are cores for this process, up to 4. `memory_mib` is a worker's, for the memory it asks for
    itself: shared mappings do not count, and a program that it starts has as much again.
    """

    on_error: OnError = "stop"
    max_error_share: float = 0.1
    timeout_s: float | None = None
    isolate: bool | None = None
    workers: int = 0
    memory_mib: int = DEFAULT_MEMORY_MIB


class RewardRunner:
    """One reward with its settings, run as its handling says.

    Counts what came of every completion in `counts`, by status, and in `faults`, by reason.
    """

    def __init__(self, reward: Reward, settings: Mapping[str, Any], handling: Handling | None = None) -> None:
        self.reward, self.settings, self.handling = reward, settings, handling or Handling()
        self.timeout_s = self.handling.timeout_s or reward.timeout_s
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        self.faults: Counter[str] = Counter()
        self._recent: deque[tuple[int, int]] = deque()  # of each call: faults, completions
        self._isolated = self._processes() if self._isolates() else None

    def run(
        self,
        completions: Sequence[Completion],
        columns: Mapping[str, Sequence[Any]],
        groups: Iterable[Group] | None = None,
        scorer: Scorer | None = None,
        wanted: slice = EVERYTHING,
    ) -> list[Outcome]:
        """Score completions.

        Args:
            completions: what the model wrote.
            columns: the data's columns, each as long as `completions`; what the reward does not read is left alone.
            groups: the places of each prompt's completions; a reward of group scope needs them.
            scorer: the training model, for a reward that asks for it.
            wanted: which outcomes to count and return; the others belong to another process, and stand here for their
                group's sake.

        Returns:
            One outcome each, in order. Faults have no value under `skip`, and 0 under `zero`.

        Raises:
            RewardError: a fault under `stop`, or too many under another.
            MissingPackageError: the reward needs a package that is not installed, whatever the handling says.
        """
        began = time.perf_counter()
        taken = {name: columns[name] for name in self.reward.columns if name in columns}
        match self.reward.scope:
            case "completion":
                outcomes = self._each(completions, taken)
            case "group":
                outcomes = self._groups(completions, taken, [*groups] if groups is not None else None)
            case "batch":
                extra = {"scorer": scorer} if self.reward.needs_scorer else {}
                outcomes = self._together([(completions, {**taken, **extra})])
        return self._settled(outcomes[wanted], began)

    def run_trl(self, arguments: Mapping[str, Any], count: int) -> list[Outcome]:
        """Run a plain TRL function on a whole batch, in this process, and hold it to TRL's contract."""
        began = time.perf_counter()
        lengths = [0] * count  # it cannot mark anything
        return self._settled(attempt_call(self.reward, lengths, lambda: self.reward.function(**arguments)), began)

    def kept(self) -> dict[str, Any]:
        """What was counted, as JSON has it."""
        return {"counts": self.counts, "faults": self.faults, "seconds": self.seconds, "recent": list(self._recent)}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on counting from there."""
        self.counts, self.faults, self.seconds = Counter(kept["counts"]), Counter(kept["faults"]), kept["seconds"]
        self._recent = deque((faults, count) for faults, count in kept["recent"])

    def close(self) -> None:
        """End the worker processes, if there are any."""
        if self._isolated is not None:
            self._isolated.close()

    def _isolates(self) -> bool:
        """Whether in workers: a function that stands in no file, or asks for the trainer or its model, cannot be."""
        here = self.reward.style == "trl" or self.reward.needs_scorer or not self.reward.use
        if here and self.handling.isolate:
            what = "the model" if self.reward.needs_scorer else "what TRL's trainer hands it"
            raise RecipeError(
                f"`isolate: true` for the reward '{self.reward.name}'",
                f"it works on {what}, which stays in the training process",
                'leave `isolate` out, or write it with @reward(scope="batch")',
            )
        return not here and (not self.reward.bounded if self.handling.isolate is None else self.handling.isolate)

    def _processes(self) -> Isolated:
        check_imports(self.reward)
        workers = self.handling.workers or default_workers()
        return Isolated(self.reward, self.settings, self.timeout_s, workers, self.handling.memory_mib)

    def _each(self, completions: Sequence[Completion], columns: Mapping[str, Sequence[Any]]) -> list[Outcome]:
        names = tuple(columns)
        values = zip(*columns.values(), strict=True) if names else iter([()] * len(completions))
        rows = [dict(zip(names, row, strict=True)) for row in values]
        if self._isolated is not None:
            return self._isolated.score(completions, rows)
        return attempt_each(self.reward, completions, rows, self.settings, self.timeout_s)

    def _groups(
        self, completions: Sequence[Completion], columns: Mapping[str, Sequence[Any]], groups: list[Group] | None
    ) -> list[Outcome]:
        if groups is None or sorted(place for group in groups for place in group) != list(range(len(completions))):
            raise RewardError(
                f"scoring with the reward '{self.reward.name}'",
                "it compares the completions of a prompt, and it is not known which belong together",
                "a `prompt_id` in each line of a file; whole groups of `num_generations` in training",
            )
        calls = [
            ([completions[place] for place in group], {name: values[group[0]] for name, values in columns.items()})
            for group in groups
        ]
        outcomes = self._together(calls)
        places = [place for group in groups for place in group]
        return [outcome for _, outcome in sorted(zip(places, outcomes, strict=True), key=lambda pair: pair[0])]

    def _together(self, calls: Sequence[tuple[Sequence[Completion], Mapping[str, Any]]]) -> list[Outcome]:
        if self._isolated is not None:
            return self._isolated.score_together(calls)
        return [outcome for call in calls for outcome in attempt_many(self.reward, *call, self.settings)]

    def _settled(self, outcomes: list[Outcome], began: float) -> list[Outcome]:
        self.seconds += time.perf_counter() - began
        self.counts.update(outcome.status for outcome in outcomes)
        faults = {place: outcome for place, outcome in enumerate(outcomes) if outcome.is_fault}
        self._recent.append((len(faults), len(outcomes)))
        while sum(count for _, count in self._recent) - self._recent[0][1] >= WINDOW:
            self._recent.popleft()
        if not faults:
            return outcomes
        for fault in faults.values():
            why = fault.why[:MAX_REASON_CHARACTERS]
            self.faults[why if why in self.faults or len(self.faults) < MAX_REASONS else OTHER_REASONS] += 1
        self._judge(faults, len(outcomes))
        if self.handling.on_error == "skip":
            return outcomes
        low, high = self.reward.range
        return [one._replace(value=min(max(0.0, low), high)) if one.is_fault else one for one in outcomes]

    def _judge(self, faults: dict[int, Outcome], count: int) -> None:
        asked = f"scoring with the reward '{self.reward.name}' ({self.reward.origin})"
        if missing := [fault.why for fault in faults.values() if fault.status == "missing"]:
            raise MissingPackageError(asked, missing[0], "pip install the package it imports")
        if self.handling.on_error == "stop":
            place, first = next(iter(faults.items()))
            others = f", and on {len(faults) - 1} more" if len(faults) > 1 else ""
            raise RewardError(
                asked,
                f"{first.why} (on completion {place + 1} of {count}{others})",
                "a finite number for whatever a model may write, None where the row is not its own; or `on_error: skip`",
            )
        failed, total = (sum(parts) for parts in zip(*self._recent, strict=True))
        if total >= ENOUGH_TO_JUDGE and failed > self.handling.max_error_share * total:
            raise RewardError(
                asked,
                f"it failed on {failed} of the last {total} completions, most often because {self.faults.most_common(1)[0][0]}",
                f"a reward that works, or a `max_error_share` above {self.handling.max_error_share:g}",
            )


def default_workers() -> int:
    """Workers for each isolated reward of this process: its share of the cores, up to 4."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def check_imports(reward: Reward) -> None:
    """Refuse a reward whose declared imports are not installed. Raises MissingPackageError."""
    for name in reward.imports:
        package = name.partition(".")[0]
        if find_spec(package) is None:
            raise MissingPackageError(f"the reward '{reward.name}'", f"it needs {package}", f"pip install {package}")


def check_settings(reward: Reward, settings: Mapping[str, Any]) -> None:
    """Refuse a setting the reward does not have, one of the wrong type, or a missing one that it needs. Raises RecipeError."""
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
    if settings:
        _check_types(reward, settings)


def _check_types(reward: Reward, settings: Mapping[str, Any]) -> None:
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    for name, value in settings.items():
        annotation = reward.annotations.get(name, Any)
        try:
            # Strictly, because the reward gets the value as it is; but YAML has no tuples.
            TypeAdapter(annotation).validate_python(value, strict=not isinstance(value, list))
        except PydanticSchemaGenerationError:
            continue  # a class of the user's, which only the reward itself can judge
        except ValidationError as error:
            fault = error.errors()[0]
            wanted = fault.get("ctx", {}).get("expected") or getattr(annotation, "__name__", str(annotation))
            why = fault["msg"][0].lower() + fault["msg"][1:]
            asked = f"`with: {{{name}: {value}}}` for the reward '{reward.name}'"
            raise RecipeError(asked, why, f"with: {{{name}: {wanted}}}") from None


def check_columns(reward: Reward, available: Sequence[str], source: str) -> None:
    """Refuse a reward whose columns the data does not have. Raises RecipeError."""
    for column, needed in reward.columns.items():
        if needed and column not in available:
            raise RecipeError(
                f"the reward '{reward.name}' on {source}",
                f"it needs the column '{column}'; the data has {', '.join(sorted(available))}",
                f"data: {{columns: {{{column}: the column's name in the data}}}}",
            )
