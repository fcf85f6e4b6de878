"""A stage's blend, bound to its rewards: what each is worth now, and whom it credits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlperc.recipe.credit import Blend, GateFailed, GatePrompt, NormalizeThenSum, Spans
from rlperc.recipe.part import Scheduled, is_never, value_at
from rlperc.recipe.rewards import LoadedReward
from rlperc.train.blend import (
    Channel,
    Scale,
    by_span,
    gate_failed,
    gate_prompt,
    normalize_then_sum,
    sum_then_normalize,
    without_spread,
)


@dataclass(frozen=True)
class Credit:
    """How a stage's rewards become advantages. `channels` and `weights` stand in the rewards' order, probes included."""

    blend: Blend
    channels: Sequence[Channel]
    weights: Sequence[Scheduled]

    @property
    def active(self) -> list[int]:
        """The rewards that are ever trained on; the others are probes."""
        return [k for k, weight in enumerate(self.weights) if not is_never(weight)]

    def weights_at(self, progress: float) -> list[float]:
        """What each reward weighs at a share of the training, alpha included."""
        weights = [value_at(weight, progress) for weight in self.weights]
        if self.blend.alpha is None:
            return weights
        alpha = value_at(self.blend.alpha, progress)
        share = {"perception": alpha, "outcome": 1 - alpha}
        return [weight * share.get(channel.credits, 1.0) for weight, channel in zip(weights, self.channels, strict=True)]

    def knobs_at(self, progress: float) -> dict[str, float]:
        """The blend's own numbers that may follow a schedule, where it has them."""
        names = ("alpha", "protect", "punish", "penalty")
        return {n: value_at(getattr(self.blend, n), progress) for n in names if getattr(self.blend, n, None) is not None}

    def silent_groups(self, rewards: Tensor, group_size: int, progress: float) -> Tensor:
        """Which groups teach nothing now: no reward that weighs anything differs. Shape: (B / group_size,), boolean."""
        counted = [k for k, weight in enumerate(self.weights_at(progress)) if weight]
        return without_spread(rewards[:, counted], group_size).all(1)

    def advantages(self, rewards: Tensor, present: Tensor | None, group_size: int, scale: Scale, progress: float) -> Tensor:
        """Blend the rewards of all processes; see `rlperc.train.blend` for the shapes.

        Args:
            rewards: of all completions, NaN where a reward has no opinion. Shape: (B, K), probes included.
            present: which regions each completion has tokens in, for blends by region. Shape: (B, S), boolean.
            group_size: completions of one prompt, which stand together.
            scale: TRL's `scale_rewards`.
            progress: share of the training that is done.

        Returns:
            Advantages of completions (B,), or by region (B, S).
        """
        active, now = self.active, self.weights_at(progress)
        rewards = rewards[:, active]
        channels = [self.channels[k] for k in active]
        weights = torch.tensor([now[k] for k in active], dtype=rewards.dtype, device=rewards.device)
        blend, knobs = self.blend, self.knobs_at(progress)
        match blend:
            case NormalizeThenSum():
                return normalize_then_sum(rewards, weights, group_size, blend.min_std)
            case Spans():
                assert present is not None  # noqa: S101 - the trainer's business, not the user's
                return by_span(rewards, weights, channels, present, group_size, scale, blend.min_std, blend.outcome_on)
            case GateFailed():
                return gate_failed(
                    rewards,
                    weights,
                    channels,
                    group_size,
                    scale,
                    blend.min_std,
                    knobs["protect"],
                    knobs["punish"],
                    blend.failed_below,
                )
            case GatePrompt():
                return gate_prompt(rewards, weights, channels, group_size, scale, blend.min_std, blend.cap)
            case _:
                return sum_then_normalize(rewards, weights, group_size, scale, blend.min_std)


def bind(blend: Blend, loaded: Sequence[LoadedReward]) -> Credit:
    """The credit of a stage's rewards."""
    channels = [Channel(one.reward.credits, *one.reward.range) for one in loaded]
    return Credit(blend, channels, [one.use.weight for one in loaded])
