"""PPO on TRL's GRPO trainer, which brings generation, images, rewards and logging.

What it overrides besides:

- `_compute_loss` gets the value loss beside it.
- `_save`, `_load_from_checkpoint` and `create_optimizer`, which are transformers', keep the critic beside the policy.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from rlperc.recipe.credit import Ppo, Spans
from rlperc.train.blend import REACHES, without_gaps
from rlperc.train.critic import (
    Valued,
    attach_critic,
    load_critic,
    own_learning_rate,
    parted,
    save_critic,
    without_critic,
)
from rlperc.train.gae import gae, moments, pay_at, value_losses, whiten
from rlperc.train.spans import last_token
from rlperc.train.tokens import REGIONS
from rlperc.train.trl_overrides import RlpercGRPOTrainer


class RlpercPPOTrainer(RlpercGRPOTrainer):
    """PPO (arXiv 1707.06347) on GRPO's machinery: advantages from a critic, by GAE, instead of from a group.

    The policy's loss is TRL's clipped surrogate on advantages of shape (B, T).
    """

    kind = "ppo"

    def __init__(self, *, ppo: Ppo, trunk: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ppo = ppo
        self.policy = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        attach_critic(self.policy, trunk)

    @property
    def per_token(self) -> bool:
        """Always: advantages come from the values of states."""
        return True

    def _advantages(self, output: dict[str, Any], regions: Tensor | None) -> Tensor:
        mask, ppo = output["completion_mask"], self.ppo
        values, logps = self._values(output)
        paid = self._paid(mask, regions)
        reference = output.get("ref_per_token_logps")
        if ppo.kl_in == "reward" and reference is not None:
            difference = (output.get("old_per_token_logps", logps) - reference) * mask
            paid = paid - self.beta * difference
            count, total, _ = self.accelerator.reduce(moments(difference, mask), reduction="sum").tolist()
            self._metrics["train"]["kl"].append(total / max(1, count))
        advantages, returns = gae(paid, values, mask, ppo.gamma, ppo.lam)
        output["old_values"], output["returns"] = values, returns
        if not ppo.whiten_advantages:
            return advantages
        totals = self.accelerator.reduce(moments(advantages, mask), reduction="sum")
        return whiten(advantages, mask, totals).float()

    def _paid(self, mask: Tensor, regions: Tensor | None) -> Tensor:
        """What each token is paid: all at the last one, or in span mode at the end of the span that a reward credits."""
        active = self.credit.active
        mine = self._mine(without_gaps(self._rewards, self.num_generations), len(mask))[:, active]
        places = []
        for k in active:
            reaches = REACHES[self.credit.channels[k].credits]
            narrow = isinstance(self.credit.blend, Spans) and len(reaches) == 1
            places.append(last_token(mask, regions, REGIONS.index(reaches[0]) if narrow else None))
        weights = self.reward_weights.to(mask.device)[active]
        return pay_at(mine * weights, torch.stack(places, dim=1), mask.size(1))

    def _values(self, output: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Values and log-probabilities of the policy as it is now. Shapes: (B, T)."""
        policy = Valued(self.model)
        takes = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
        width = output["completion_ids"].size(1)
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            logps, _, _ = self._get_per_token_logps_and_entropies(
                policy,
                torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
                torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
                width,
                batch_size=self.args.per_device_train_batch_size,
                **{name: value for name, value in output.items() if name in takes},
            )
        return policy.values(width), logps

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        policy, mask = Valued(model), inputs["completion_mask"]
        with self._kl_where_it_is_paid():
            loss: Tensor = super()._compute_loss(policy, inputs)
        values = policy.values(mask.size(1))
        losses, clipped = value_losses(values, inputs["old_values"], inputs["returns"], self.ppo.cliprange_value)
        # The mean over the tokens of an optimizer step, as TRL has it for the policy's loss ("dapo").
        tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
        tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        self._log_critic(losses.detach(), clipped.float(), inputs["returns"], values.detach(), mask)
        return loss + self.ppo.vf_coef * (losses * mask).sum() / tokens

    @contextmanager
    def _kl_where_it_is_paid(self) -> Iterator[None]:
        """TRL adds the KL to the loss wherever beta is not 0."""
        beta: float = self.args.beta
        self.beta = 0.0 if self.ppo.kl_in == "reward" else beta
        try:
            yield
        finally:
            self.beta = beta

    def _log_critic(self, losses: Tensor, clipped: Tensor, returns: Tensor, values: Tensor, mask: Tensor) -> None:
        """Means over all processes, and the share of the returns' variance that the values explain.

        That is below 0 where they are worse than a constant.
        """
        parts = torch.stack([moments(one, mask) for one in (losses, clipped, returns, returns - values)])
        found = self.accelerator.reduce(parts, reduction="sum").tolist()
        (count, loss, _), (_, held, _), (_, total, squares), (_, off, left) = found
        count = max(1.0, count)
        metrics, spread = self._metrics["train"], squares - total**2 / count
        metrics["ppo/value_loss"].append(loss / count)
        metrics["ppo/value_clipped"].append(held / count)
        if spread > 0:
            metrics["ppo/explained_variance"].append(1 - (left - off**2 / count) / spread)

    def drop_critic(self) -> None:
        """Take the critic off the policy."""
        del self.policy.critic

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """transformers', with the critic's own learning rate."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if self.ppo.critic_learning_rate is not None:
            own_learning_rate(optimizer, self.policy.critic, self.ppo.critic_learning_rate)
        return optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        policy, own = parted(state_dict) if state_dict is not None else (None, self.policy.critic.state_dict())
        with without_critic(self.policy):
            super()._save(str(folder), policy)
        # Nothing was gathered where ZeRO-3 writes its shards instead, which hold the critic too.
        if self.args.should_save and own:
            save_critic(own, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # under DeepSpeed, its engine reads both
        load_critic(self.policy.critic, Path(resume_from_checkpoint))
