"""Stage `grpo`: TRL's `GRPOTrainer`, fed from the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig

from rlperc.reward.trl import TrlReward
from rlperc.score.coupling import Coupling
from rlperc.train.callbacks import dress
from rlperc.train.options import refusals, training
from rlperc.train.trl_overrides import RlpercGRPOTrainer


@dataclass(frozen=True)
class Trained:
    """What a stage leaves: the model, which peft may wrap, and for an RL stage what is known of its rewards.

    `tallies` holds for each reward, over all processes, how many completions came to which status, and why it failed.
    """

    model: Any
    coupling: Coupling | None = None
    tallies: dict[str, dict[str, Any]] = field(default_factory=dict)


def train_grpo(
    model: Any,
    processor: Any,
    rows: Dataset,
    args: GRPOConfig,
    callbacks: Sequence[TrainerCallback],
    rewards: list[TrlReward],
    peft_config: Any = None,
) -> Trained:
    """Train. The rewards' worker processes end with it, however it ends."""
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
    try:
        with training("grpo"):
            trainer.train()
    finally:
        for reward in rewards:
            reward.runner.close()
    tallies = {reward.__name__: _tally(reward) for reward in rewards}
    return Trained(trainer.accelerator.unwrap_model(trainer.model), trainer.coupling, tallies)


def _tally(reward: TrlReward) -> dict[str, Any]:
    runner = reward.runner
    parts = gather_object([(runner.counts, runner.faults, runner.seconds)])
    counts, faults = Counter[str](), Counter[str]()
    for part in parts:
        counts.update(part[0])
        faults.update(part[1])
    return {"counts": dict(counts), "faults": dict(faults.most_common()), "seconds": max(part[2] for part in parts)}
