"""Stage `grpo`: TRL's `GRPOTrainer`, fed from the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig

from rlperc.reward.trl import TrlReward
from rlperc.score.coupling import Coupling
from rlperc.train.callbacks import dress
from rlperc.train.options import refusals, training
from rlperc.train.trl_overrides import RlpercGRPOTrainer


def train_grpo(
    model: Any,
    processor: Any,
    rows: Dataset,
    args: GRPOConfig,
    callbacks: Sequence[TrainerCallback],
    rewards: list[TrlReward],
    peft_config: Any = None,
) -> tuple[Any, Coupling]:
    """Train; return the model (wrapped by peft where there are adapters) and the rewards' coupling."""
    with refusals("the stage's trainer", "what GRPOTrainer accepts"):
        trainer = RlpercGRPOTrainer(
            model=model,
            args=args,
            train_dataset=rows,
            processing_class=processor,
            reward_funcs=list(rewards),
            callbacks=list(callbacks),
            peft_config=peft_config,
        )
    dress(trainer, "grpo")
    with training("grpo"):
        trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model), trainer.coupling
