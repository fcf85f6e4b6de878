"""Rewards of the registry as the plain functions that TRL's trainers call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlperc.reward.contract import Reward
from rlperc.reward.runner import Outcome, run_reward, run_trl_reward
from rlperc.words.response import Tags, read_response


class TrlReward:
    """One reward with its settings, called as TRL calls a reward function.

    Its name in TRL's logs is the reward's; the reasons go to a column `<name>/why` of TRL's completions table.
    """

    def __init__(self, reward: Reward, settings: Mapping[str, Any], tags: Tags) -> None:
        self.reward, self.settings, self.tags = reward, settings, tags
        self.__name__ = reward.name

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[list[int]], **columns: Any
    ) -> list[float | None]:
        """Score a batch. Raises RewardError where the reward breaks its contract."""
        outcomes = self._run(prompts, completions, completion_ids, columns)
        if self.reward.style == "rlperc" and "log_extra" in columns:
            columns["log_extra"](f"{self.reward.name}/why", [outcome.why for outcome in outcomes])
        return [outcome.value for outcome in outcomes]

    def _run(
        self, prompts: Sequence[Any], completions: Sequence[Any], ids: Sequence[list[int]], columns: Mapping[str, Any]
    ) -> list[Outcome]:
        if self.reward.style == "trl":
            arguments = {"prompts": prompts, "completions": completions, "completion_ids": ids, **columns}
            return run_trl_reward(self.reward, arguments, len(completions))
        texts = [written if isinstance(written, str) else written[-1]["content"] for written in completions]
        read = [read_response(text, self.tags, len(tokens)) for text, tokens in zip(texts, ids, strict=True)]
        return run_reward(self.reward, read, columns, self.settings)
