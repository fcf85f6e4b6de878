"""λ over the steps of a supervised stage: what was measured in a step, and what λ becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlperc.recipe.reweight import Dynamic, Fixed

REST, PERCEPTION = 0, 1
"""Where each kind of token stands in what follows."""


@dataclass
class Seen:
    """Sums over the tokens of an optimizer step, over all batches and processes, the rest first and then perception.

    Attributes:
        tokens: how many. Shape: (2,).
        losses: sums of -log p, in nats. Shape: (2,).
        lengths: sums of the lengths of the tokens' gradients by the hidden state that the output head reads. Shape: (2,).
        maps: sums of the outer products of those gradients and the hidden states: the gradient of a linear map in front of
            the output head, at the identity. Shape: (2, width, width). Empty where it is not asked for.
    """

    tokens: Tensor
    losses: Tensor
    lengths: Tensor
    maps: Tensor

    @classmethod
    def nothing(cls, device: Any, width: int = 0) -> Seen:
        """No token yet."""
        tokens, losses, lengths = (torch.zeros(2, device=device) for _ in range(3))
        return cls(tokens, losses, lengths, torch.zeros(2, width, width, device=device))


class Balance:
    """Holds λ. Every process must be shown the same."""

    def __init__(self, settings: Fixed | Dynamic) -> None:
        self.settings = settings
        self.perception: float | None = settings.perception if isinstance(settings, Fixed) else None
        """λ; None before the first measurement, where the loss is the plain one."""

    @property
    def rule(self) -> str | None:
        """What λ follows, if it does."""
        return self.settings.rule if isinstance(self.settings, Dynamic) else None

    def measures(self, step: int) -> bool:
        """Whether gradients are to be looked at in the step after `step` others."""
        return isinstance(self.settings, Dynamic) and self.rule != "loss" and step % self.settings.every == 0

    def weights(self, tokens: Tensor) -> Tensor:
        """What each token's loss counts, so that their mean is λ·L_p + (1 − λ)·L_r; 1 where one kind is missing.

        Args:
            tokens: how many of each kind there are in all batches of the step. Shape: (2,).

        Returns:
            Shape: (2,).
        """
        if self.perception is None or not tokens.all():
            return torch.ones_like(tokens, dtype=torch.float)
        wanted = torch.tensor([1 - self.perception, self.perception], device=tokens.device)
        return wanted * tokens.sum() / tokens

    def update(self, step: int, seen: Seen) -> dict[str, float]:
        """Take in what step number `step` (from 0) has shown, and say what λ was in it and what was measured."""
        rest, perceived = seen.tokens.tolist()
        if not (rest and perceived):
            return {}
        share, means = perceived / (rest + perceived), seen.losses / seen.tokens
        said = {
            "lambda": share if self.perception is None else self.perception,
            "share": share,
            "loss_rest": float(means[REST]),
            "loss_perception": float(means[PERCEPTION]),
        }
        if isinstance(self.settings, Dynamic) and step % self.settings.every == 0:
            sizes = _sizes(self.settings.rule, seen)
            said |= {"size_rest": float(sizes[REST]), "size_perception": float(sizes[PERCEPTION])}
            self.perception = _next(self.settings, self.perception, sizes, share)
        return said

    def kept(self) -> float | None:
        """λ."""
        return self.perception

    def restore(self, kept: float | None) -> None:
        """Go on from there."""
        self.perception = kept


def _sizes(rule: str, seen: Seen) -> Tensor:
    """What the rule compares, of each kind. Shape: (2,)."""
    if rule == "loss":
        return seen.losses / seen.tokens
    if rule == "token_gradient":
        return seen.lengths / seen.tokens
    return torch.linalg.matrix_norm(seen.maps) / seen.tokens


def _next(settings: Dynamic, before: float | None, sizes: Tensor, share: float) -> float:
    rest, perception = float(sizes[REST]), float(sizes[PERCEPTION])
    if not rest + perception > 0:
        return share if before is None else before
    target = (rest if settings.rule == "ngdiff" else perception) / (rest + perception)
    smoothed = target if before is None else settings.smoothing * before + (1 - settings.smoothing) * target
    return min(max(smoothed, settings.low, share if settings.floor else 0.0), settings.high)
