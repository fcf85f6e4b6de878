"""From rewards to advantages: pure functions, in the order of `rlperc.recipe.credit`.

Shapes: B completions, those of one prompt standing together in groups of `group_size`; K rewards, probes left out; S the
regions of a response (`rlperc.train.tokens.REGIONS`); T tokens. A reward is NaN where it has no opinion: the row is not
its own, or it failed. Such a completion is left out of that reward's statistics, and the reward says nothing for or
against it; in a sum of rewards it counts as the group's mean. Groups whose rewards do not differ get advantage 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlperc.reward.contract import Credits
from rlperc.train.tokens import REGIONS

# As TRL has it, so that a sum and GDPO's blend equal TRL's own.
EPSILON = 1e-4
Scale = Literal["group", "batch", "none"]
PERCEPTION = REGIONS.index("perception")
REACHES: dict[Credits, tuple[str, ...]] = {
    "outcome": ("rest", "think", "answer"),
    "perception": ("perception",),
    "reasoning": ("think",),
    "format": REGIONS,
}


@dataclass(frozen=True)
class Channel:
    """A reward as blending sees it: what it credits, and the range of its values."""

    credits: Credits
    low: float = 0.0
    high: float = 1.0


def sum_then_normalize(rewards: Tensor, weights: Tensor, group_size: int, scale: Scale = "group", min_std: float = 0.0) -> Tensor:
    """The weighted sum of the rewards, less its group's mean, over its standard deviation (GRPO, arXiv 2402.03300).

    Args:
        rewards: (B, K).
        weights: (K,).
        group_size: completions of one prompt.
        scale: what to divide by: the group's standard deviation, the batch's, or nothing (Dr.GRPO, arXiv 2503.20783).
        min_std: floor under what is divided by.

    Returns:
        Advantages, 0 where no reward has an opinion. Shape: (B,).
    """
    rewards, weights = _counted(rewards, weights)
    unscored = rewards.isnan().all(1)
    total = (without_gaps(rewards, group_size) * weights).sum(1)
    total[unscored] = torch.nan
    return normalized(total[:, None], group_size, scale, min_std)[:, 0].nan_to_num(0.0)


def normalize_then_sum(rewards: Tensor, weights: Tensor, group_size: int, min_std: float = 0.0) -> Tensor:
    """Each reward normalised in its group, the weighted sum normalised over the batch (GDPO, arXiv 2601.05242).

    Args and shapes as in `sum_then_normalize`.
    """
    rewards, weights = _counted(rewards, weights)
    unscored = rewards.isnan().all(1)
    total = (normalized(rewards, group_size, "group", min_std) * weights).nansum(1)
    total[unscored] = torch.nan
    return ((total - total.nanmean()) / (_std(total, 0) + EPSILON)).nan_to_num(0.0)


def by_span(
    rewards: Tensor,
    weights: Tensor,
    channels: Sequence[Channel],
    present: Tensor,
    group_size: int,
    scale: Scale = "group",
    min_std: float = 0.0,
    outcome_on: Literal["rest", "all"] = "rest",
) -> Tensor:
    """Each reward normalised on its own and given only to the regions it credits (Vision-SR1, arXiv 2508.19652).

    A completion without a region that a reward credits (a missing tag) takes that reward on all of its tokens: there is
    no perception to blame, but there is a response that lacks one.

    Args:
        rewards: (B, K).
        weights: (K,).
        channels: K of them.
        present: which regions a completion has tokens in. Shape: (B, S), boolean.
        group_size: completions of one prompt.
        scale: as in `sum_then_normalize`.
        min_std: floor under what is divided by.
        outcome_on: whether rewards of the outcome reach the perception span too.

    Returns:
        Advantages by region. Shape: (B, S).
    """
    credit = normalized(rewards, group_size, scale, min_std).nan_to_num(0.0) * weights
    advantages = credit.new_zeros(present.shape)
    for k, channel in enumerate(channels):
        names = REGIONS if channel.credits == "outcome" and outcome_on == "all" else REACHES[channel.credits]
        reach = torch.tensor([region in names for region in REGIONS], device=present.device)
        there = (present & reach).any(1, keepdim=True)
        advantages += credit[:, k, None] * torch.where(there, reach, True)
    return advantages


def gate_failed(
    rewards: Tensor,
    weights: Tensor,
    channels: Sequence[Channel],
    group_size: int,
    scale: Scale = "group",
    min_std: float = 0.0,
    protect: float = 1.0,
    punish: float = 1.0,
    failed_below: float = 0.5,
) -> Tensor:
    """The sum; on failed responses, perception tokens gain or lose by the perception (MoCA).

    A' = A + protect |A| where the perception is right, A - punish |A| where it is wrong, on the perception tokens of
    responses whose outcome failed; in between, in proportion to the perception reward. MoCA has no division by the
    standard deviation (`scale` none) and does not state its protect and punish.

    Args and shapes as in `by_span`; `failed_below` is a share of the outcome's range.
    """
    advantages = sum_then_normalize(rewards, weights, group_size, scale, min_std)[:, None].repeat(1, len(REGIONS))
    failed = _share(rewards, channels, "outcome") < failed_below
    right = _share(rewards, channels, "perception")
    shift = advantages[:, PERCEPTION].abs() * (protect * right - punish * (1 - right))
    advantages[:, PERCEPTION] += torch.where(failed, shift, 0.0).nan_to_num(0.0)
    return advantages


def gate_prompt(
    rewards: Tensor,
    weights: Tensor,
    channels: Sequence[Channel],
    group_size: int,
    scale: Scale = "group",
    min_std: float = 0.0,
    cap: float = 0.5,
) -> Tensor:
    """Outcome and reasoning count as far as the group perceives: A * min(mean perception, cap) (PEARL, arXiv 2511.18437).

    PEARL measures the perception of a prompt by questions of its own; here it is the group's mean perception reward, as a
    share of its range. Rewards of perception and format count as they are (PEARL weighs perception with 0.1).

    Args as in `by_span`.

    Returns:
        Advantages. Shape: (B,).
    """
    credit = normalized(rewards, group_size, scale, min_std).nan_to_num(0.0) * weights
    seen = _group_mean(_share(rewards, channels, "perception")[:, None], group_size)
    gated = torch.tensor([channel.credits in ("outcome", "reasoning") for channel in channels], device=rewards.device)
    gate = seen.nan_to_num(cap).clamp(max=cap)
    return torch.where(gated, credit * gate, credit).sum(1)


def penalize_span(advantages: Tensor, wrong: Tensor, penalty: float = 1.0) -> Tensor:
    """Tokens that a verifier marks wrong lose a share of |A|: A'_t = A_t - penalty * m_t * |A_t| (Perceval, CVPR 2026).

    Args:
        advantages: (B,).
        wrong: which tokens are marked. Shape: (B, T), boolean.
        penalty: at 1, marked tokens of a good response get nothing, and those of a bad one get twice the blame.

    Returns:
        Shape: (B, T).
    """
    return advantages[:, None] - penalty * wrong * advantages[:, None].abs()


def on_tokens(advantages: Tensor, regions: Tensor) -> Tensor:
    """Advantages by region (B, S), on the tokens of those regions (B, T), as (B, T)."""
    return advantages.gather(1, regions)


def normalized(rewards: Tensor, group_size: int, scale: Scale, min_std: float) -> Tensor:
    """Rewards less their group's mean, over a standard deviation (with Bessel's correction, as TRL has it).

    Args and shapes as in `sum_then_normalize`. NaN stays NaN.
    """
    flat = without_spread(rewards, group_size).repeat_interleave(group_size, dim=0)
    # The mean of equal numbers may be a rounding off them, which a division by next to nothing would blow up.
    centered = (rewards - _group_mean(rewards, group_size)).masked_fill(flat & ~rewards.isnan(), 0.0)
    if scale == "none":
        return centered
    if scale == "batch":
        return centered / (_std(rewards, 0).clamp(min=min_std) + EPSILON)
    groups = rewards.view(-1, group_size, rewards.size(1))
    std = _std(groups, 1).clamp(min=min_std).expand_as(groups).reshape(rewards.shape)
    return centered / (std + EPSILON)


def without_spread(rewards: Tensor, group_size: int) -> Tensor:
    """Which groups teach nothing by which reward: no two completions that it has an opinion on differ. (B / group_size, K)."""
    groups = rewards.view(-1, group_size, rewards.size(1))
    high = groups.nan_to_num(-torch.inf).amax(1)
    return ~(high > groups.nan_to_num(torch.inf).amin(1))


def without_gaps(rewards: Tensor, group_size: int) -> Tensor:
    """Where a reward has no opinion, its group's mean, so that a sum takes no side; 0 where it has none on the group."""
    return torch.where(rewards.isnan(), _group_mean(rewards, group_size).nan_to_num(0.0), rewards)


def _counted(rewards: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Without the rewards that a schedule gives no weight now: whether they have an opinion must not matter."""
    counted = weights != 0
    return (rewards[:, counted], weights[counted]) if counted.any() else (torch.zeros_like(rewards), weights)


def _group_mean(rewards: Tensor, group_size: int) -> Tensor:
    groups = rewards.view(-1, group_size, rewards.size(1))
    return groups.nanmean(1, keepdim=True).expand_as(groups).reshape(rewards.shape)


def _std(rewards: Tensor, dim: int) -> Tensor:
    count = (~rewards.isnan()).sum(dim, keepdim=True)
    squares = (rewards - rewards.nanmean(dim, keepdim=True)).square().nansum(dim, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()


def _share(rewards: Tensor, channels: Sequence[Channel], credits: Credits) -> Tensor:
    """The mean of the rewards that credit something, each as a share of its range; NaN where none has an opinion. (B,)."""
    shares = [(rewards[:, k] - c.low) / (c.high - c.low) for k, c in enumerate(channels) if c.credits == credits]
    return torch.stack(shares, dim=1).nanmean(1)
