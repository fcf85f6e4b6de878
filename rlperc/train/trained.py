"""What a stage leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from rlperc.recipe.schema import Model
from rlperc.score.coupling import Coupling
from rlperc.train.models import load_model
from rlperc.train.sharding import gathered, let_go


@dataclass(frozen=True)
class Trained:
    """The model, which peft may wrap, and for an RL stage what is known of its rewards.

    `weights` are all of the model's, in the first process, where each process holds a part of them only. `tallies` holds for
    each reward, over all processes, how many completions came to which status, and why it failed; `zero_spread` is the share of
    groups in which no reward that weighed anything differed; `parity` what the check of vLLM found before the first step: mean
    and largest difference in log-probability, in nats.
    """

    model: Any
    weights: dict[str, torch.Tensor] | None = None
    coupling: Coupling | None = None
    tallies: dict[str, dict[str, Any]] = field(default_factory=dict)
    zero_spread: float | None = None
    parity: tuple[float, float] | None = None


def whole_model(trained: Trained, source: str | Path, settings: Model) -> Any:
    """The trained model with all its weights, in the first process.

    Args:
        trained: what the stage left.
        source: what the stage began with.
        settings: of the stage.
    """
    if trained.weights is None:
        return trained.model
    model = load_model(source, settings)[0]
    if isinstance(trained.model, PeftModel):
        model = PeftModel(model, trained.model.peft_config["default"])
    model.load_state_dict(trained.weights)
    return model


def left_by(trainer: Any, **known: Any) -> Trained:
    """What a trainer leaves. All processes take part in it, and the trainer trains no more."""
    trained = Trained(trainer.accelerator.unwrap_model(trainer.model), gathered(trainer), **known)
    if trainer.is_deepspeed_enabled:
        let_go(trainer.model_wrapped)
    return trained
