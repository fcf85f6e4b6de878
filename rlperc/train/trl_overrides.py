"""Everything that rlperc overrides in TRL. Each override has a test that fails when TRL moves underneath it.

- `_calculate_rewards` returns the rewards of all processes, before they are weighed: the one place to see them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from trl import GRPOTrainer

from rlperc.score.coupling import Coupling


class RlpercGRPOTrainer(GRPOTrainer):
    """TRL's trainer, watching how its rewards move together within groups."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coupling = Coupling(list(self.reward_func_names))

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        if self.model.training:
            names = self.coupling.names
            correlations = self.coupling.add(rewards.double().cpu().numpy(), self.num_generations)
            for i, left in enumerate(names):
                for j, right in enumerate(names[:i]):
                    if not math.isnan(correlations[i, j]):
                        self._metrics["train"][f"coupling/{right}/{left}"].append(correlations[i, j])
        return rewards
