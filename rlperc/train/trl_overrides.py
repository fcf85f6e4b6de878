"""Everything that rlperc overrides in TRL. Each override has a test that fails when TRL moves underneath it.

- `_calculate_rewards` is called with the rows and returns the rewards of all processes, before they are weighed: the one
  place to lend rewards the model, and to see what they say of whole groups.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from trl import GRPOTrainer

from rlperc.recipe.sizes import with_sizes
from rlperc.reward.trl import TrlReward
from rlperc.score.coupling import Coupling
from rlperc.train.scorer import ModelScorer
from rlperc.words.response import Tags


class RlpercGRPOTrainer(GRPOTrainer):
    """TRL's trainer, which lends its model to the rewards that ask for it and watches how rewards move within groups."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coupling = Coupling(list(self.reward_func_names))
        self._ours = [function for function in self.reward_funcs if isinstance(function, TrlReward)]

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        wanted = {column for function in self._ours for column in function.reward.columns}
        inputs = with_sizes(inputs, wanted, self.processing_class)
        asking = [function for function in self._ours if function.reward.needs_scorer]
        if asking:
            scorer = self._scorer(asking[0].tags, inputs, completion_ids_list)  # a recipe has one set of tags
            for function in asking:
                function.scorer = scorer
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training:
            self._watch(rewards)
        return self._without_faults(rewards)

    def _scorer(self, tags: Tags, inputs: list[dict[str, Any]], completion_ids: list[list[int]]) -> ModelScorer:
        prompts = [row["prompt"] for row in inputs]
        size = self.args.per_device_train_batch_size
        return ModelScorer(self.model, self.processing_class, prompts, completion_ids, tags, size, self.chat_template_kwargs)

    def _without_faults(self, rewards: torch.Tensor) -> torch.Tensor:
        """Take completions that a reward of ours failed on out of their group, for that reward.

        TRL sums a NaN as 0, which would hold our fault against the completion; the mean of the group holds nothing
        against anyone. Where the whole group is NaN, the row is not the reward's, and 0 for all changes nothing.
        """
        groups = rewards.view(-1, self.num_generations, rewards.size(1))
        means = groups.nanmean(dim=1, keepdim=True).expand_as(groups)
        ours = torch.tensor([f in self._ours and f.reward.style == "rlperc" for f in self.reward_funcs], device=groups.device)
        return torch.where(groups.isnan() & ours, means, groups).view_as(rewards)

    def _watch(self, rewards: torch.Tensor) -> None:
        names = self.coupling.names
        correlations = self.coupling.add(rewards.double().cpu().numpy(), self.num_generations)
        for i, left in enumerate(names):
            for j, right in enumerate(names[:i]):
                if not math.isnan(correlations[i, j]):
                    self._metrics["train"][f"coupling/{right}/{left}"].append(correlations[i, j])
