"""How the loss of supervised fine-tuning is shared between what is seen and the rest: L = λ·L_p + (1 − λ)·L_r.

L_p is the mean loss of the tokens of the perception span, tags included, and L_r that of all others that are learned
(arXiv 2605.29496). Plain fine-tuning is λ = the share of perception tokens.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlperc.recipe.part import Part


class Fixed(Part):
    """One λ for the whole stage."""

    mode: Literal["fixed"]
    perception: float = Field(0.5, gt=0, lt=1)
    """λ."""


class Dynamic(Part):
    """λ follows what is measured while the stage trains."""

    mode: Literal["dynamic"]
    rule: Literal["loss", "ngdiff", "token_gradient"] = "loss"
    """What λ goes to: `loss`, L_p / (L_p + L_r), more weight to what is learned less; `ngdiff`, ‖g_r‖ / (‖g_p‖ + ‖g_r‖), which
    makes both gradients equally long (NGDiff, arXiv 2410.22086, for two losses that both fall); `token_gradient`,
    γ_p / (γ_p + γ_r) with γ the mean length of a token's gradient."""
    every: int = Field(5, ge=1)
    """Optimizer steps between two measurements."""
    smoothing: float = Field(0.8, ge=0, lt=1)
    """Of the old λ, at each measurement."""
    low: float = Field(0.02, gt=0, lt=1)
    high: float = Field(0.9, gt=0, lt=1)
    """λ stays between them."""
    floor: bool = True
    """λ never falls below the share of perception tokens, where fine-tuning would have it by itself."""

    @model_validator(mode="after")
    def _in_order(self) -> Dynamic:
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high: {self.high}")
        return self


Reweight = Annotated[Fixed | Dynamic, Field(discriminator="mode")]
