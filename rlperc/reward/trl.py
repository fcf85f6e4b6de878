"""Rewards of the registry as the plain functions that TRL's trainers call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlperc.errors import RewardError
from rlperc.reward.attempt import Outcome
from rlperc.reward.contract import Ranges, Reward, Scorer
from rlperc.reward.runner import RewardRunner
from rlperc.words.response import Completion, Tags, read_response, text_of

REPORTED = ("skip", "error", "timeout", "nan", "inf")


class TrlReward:
    """One reward with its settings, called as TRL calls a reward function.

    Its name in TRL's logs is the reward's; the reasons go to a column `<name>/why` of TRL's completions table, and the
    share of completions that came to anything but a value to the metrics `rewards/<name>/<status>`. `wrong` is what it marked
    in its last call: the ranges of each completion of this process, in order, empty where it marked nothing or gave no value.
    """

    def __init__(self, runner: RewardRunner, tags: Tags, group_size: int) -> None:
        self.runner, self.tags, self.group_size = runner, tags, group_size
        self.scorer: Scorer | None = None
        self.wrong: list[Ranges] = []
        self.__name__ = runner.reward.name

    @property
    def reward(self) -> Reward:
        """The reward behind it."""
        return self.runner.reward

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float | None]:
        """Score a batch. Raises RewardError where the reward breaks its contract and its handling says stop."""
        if self.reward.style == "trl":
            arguments = {"prompts": prompts, "completions": completions, "completion_ids": completion_ids, **columns}
            outcomes = self.runner.run_trl(arguments, len(completions))
        else:
            pairs = zip(completions, completion_ids, strict=True)
            read = [read_response(text_of(written), self.tags, len(ids)) for written, ids in pairs]
            asked_for = self.reward.columns
            taken = {name: values for name, values in {**columns, "prompt": prompts}.items() if name in asked_for}
            outcomes = self._run(read, taken, prompts)
        self.wrong = [outcome.wrong for outcome in outcomes]
        self._log(outcomes, columns)
        return [outcome.value for outcome in outcomes]

    def _run(self, read: list[Completion], columns: dict[str, Any], prompts: Sequence[Any]) -> list[Outcome]:
        if self.reward.scope != "group":
            return self.runner.run(read, columns, scorer=self.scorer)
        asked = [_text(prompt) for prompt in prompts]
        if len(read) % self.group_size == 0:
            return self.runner.run(read, columns, self._groups(asked))
        everything, start = _across_processes(list(zip(read, asked, *columns.values(), strict=True)))
        # Only what stands in a group with a completion of ours: the other processes score theirs.
        low = start - start % self.group_size
        high = -(-(start + len(read)) // self.group_size) * self.group_size
        mine = everything[low:high]
        whole = {name: [one[index + 2] for one in mine] for index, name in enumerate(columns)}
        groups = self._groups([one[1] for one in mine])
        return self.runner.run([one[0] for one in mine], whole, groups, wanted=slice(start - low, start - low + len(read)))

    def _groups(self, asked: Sequence[str]) -> list[range]:
        size = self.group_size
        groups = [range(first, first + size) for first in range(0, len(asked), size)]
        if len(asked) % size or any(asked[place] != asked[group[0]] for group in groups for place in group):
            raise RewardError(
                f"scoring with the reward '{self.reward.name}'",
                f"it compares the {size} completions of a prompt, and they do not stand together",
                "the recipe's `num_generations` in the trainer's own config, and no torn group",
            )
        return groups

    def _log(self, outcomes: list[Outcome], columns: Mapping[str, Any]) -> None:
        if self.reward.style == "rlperc" and "log_extra" in columns:
            columns["log_extra"](f"{self.reward.name}/why", [outcome.why for outcome in outcomes])
        if "log_metric" in columns:
            for status in REPORTED:  # all of them each time: TRL takes the mean over what was logged
                share = sum(outcome.status == status for outcome in outcomes) / max(1, len(outcomes))
                columns["log_metric"](f"rewards/{self.reward.name}/{status}", share)


def _text(prompt: Any) -> str:
    """What a prompt says, without its images: comparing those would compare every pixel."""
    if isinstance(prompt, str):
        return prompt
    parts = [message.get("content") for message in prompt]
    return repr([[part.get("text") for part in content] if isinstance(content, list) else content for content in parts])


def _across_processes(items: list[Any]) -> tuple[list[Any], int]:
    """The items of all processes, in their order, and where this one's begin."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    return gather_object(items), PartialState().process_index * len(items)
