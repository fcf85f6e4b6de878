"""PPO's arithmetic: rewards paid at tokens, advantages by GAE, the value loss. Pure functions.

Shapes: B completions, T tokens, K rewards. Position t is the state before token t is written, and the action that writes it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pay_at(rewards: Tensor, places: Tensor, width: int) -> Tensor:
    """Put each reward on the token at which it is paid.

    Args:
        rewards: (B, K).
        places: index of a token for each of them. Shape: (B, K).
        width: T.

    Returns:
        Rewards of tokens; those of one token add up. Shape: (B, T).
    """
    return rewards.new_zeros(rewards.size(0), width).scatter_add(1, places, rewards)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16), over responses that end with their last token.

    Args:
        rewards: paid at each token. Shape: (B, T).
        values: of the state before each token. Shape: (B, T).
        mask: 1 on a response's tokens, which stand at the left. Shape: (B, T).
        gamma: discount.
        lam: 0 trusts the values, 1 the rewards.

    Returns:
        Advantages, and what the values should have been (advantages + values), both 0 outside the mask. Shapes: (B, T).
    """
    outside = mask == 0
    rewards, values = rewards.masked_fill(outside, 0.0), values.masked_fill(outside, 0.0)  # nothing follows the end
    following = torch.cat([values[:, 1:], values.new_zeros(values.size(0), 1)], dim=1)
    errors = rewards + gamma * following - values
    advantages = torch.zeros_like(errors)
    carried = errors.new_zeros(errors.size(0))
    for t in reversed(range(errors.size(1))):
        carried = errors[:, t] + gamma * lam * carried
        advantages[:, t] = carried
    return advantages * mask, (advantages + values) * mask


def whiten(values: Tensor, mask: Tensor, totals: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1, by the statistics of everyone.

    Args:
        values: (B, T).
        mask: (B, T).
        totals: sums over all processes of `moments`. Shape: (3,).
    """
    count, total, squares = totals
    mean = total / count.clamp(min=1)
    variance = (squares / count.clamp(min=1) - mean**2).clamp(min=0)
    return (values - mean) / (variance.sqrt() + 1e-8) * mask


def moments(values: Tensor, mask: Tensor) -> Tensor:
    """Count, sum and sum of squares inside the mask, in double precision. Shape: (3,)."""
    inside = values.double() * mask
    return torch.stack([mask.sum().double(), inside.sum(), inside.square().sum()])


def value_losses(values: Tensor, old_values: Tensor, returns: Tensor, cliprange: float) -> tuple[Tensor, Tensor]:
    """Half the squared error, or that of a value held near its old one where this is larger.

    The clipping of OpenAI's baselines, studied in arXiv 2005.12729: a value that has moved far from what it was at
    generation gets no gradient for moving further.

    Returns:
        The loss of each token, and which tokens were clipped. Shapes: (B, T).
    """
    held = torch.clamp(values, old_values - cliprange, old_values + cliprange)
    free, clipped = (values - returns).square(), (held - returns).square()
    return 0.5 * torch.maximum(free, clipped), clipped > free
