"""Stages `grpo`, `ppo` and `rloo`: TRL's `GRPOTrainer` and `RLOOTrainer`, fed from the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, RLOOConfig

from rlperc.recipe.credit import Ppo
from rlperc.reward.trl import TrlReward
from rlperc.train.callbacks import dress
from rlperc.train.checkpoints import Checkpoints, Keeps
from rlperc.train.credit import Credit
from rlperc.train.options import refusals, training
from rlperc.train.parity import ParityWatch
from rlperc.train.ppo import RlpercPPOTrainer
from rlperc.train.trained import Trained, left_by
from rlperc.train.trl_overrides import RlpercGRPOTrainer, RlpercRLOOTrainer
from rlperc.train.vllm_setup import Setup
from rlperc.words.response import Tags


class PPOConfig(GRPOConfig):
    """GRPO's options, with groups of one: PPO compares a response with its critic, not with others."""

    def __post_init__(self) -> None:
        group: int = vars(self)["num_generations"]
        self.num_generations = _Alone(1) if group == 1 else group
        super().__post_init__()
        self.num_generations = group


class _Alone(int):
    """A 1 that passes TRL's check for at least 2 responses of a prompt."""

    def __lt__(self, other: int) -> bool:
        return False


def rl_trainer(
    model: Any,
    processor: Any,
    rows: Dataset,
    args: GRPOConfig | RLOOConfig,
    callbacks: Sequence[TrainerCallback],
    rewards: Sequence[TrlReward],
    credit: Credit,
    tags: Tags,
    peft_config: Any = None,
    ppo: Ppo | None = None,
    trunk: Any = None,
    setup: Setup | None = None,
) -> Any:
    """The trainer of an RL stage: PPO's where its options are given, else that of the config's kind.

    Raises:
        RecipeError: TRL refuses what it is given.
    """
    shared = {
        "model": model,
        "args": args,
        "train_dataset": rows,
        "processing_class": processor,
        "reward_funcs": list(rewards),
        "callbacks": list(callbacks),
        "peft_config": peft_config,
        "credit": credit,
        "tags": tags,
        "setup": setup,
    }
    with refusals("the stage's trainer", f"what {type(args).__name__} and its trainer accept"):
        if ppo is not None:
            return RlpercPPOTrainer(ppo=ppo, trunk=trunk, **shared)
        return (RlpercRLOOTrainer if isinstance(args, RLOOConfig) else RlpercGRPOTrainer)(**shared)


def train_rl(trainer: Any, checkpoints: Checkpoints) -> Trained:
    """Train. The rewards' worker processes end with it, however it ends."""
    rewards = [function for function in trainer.reward_funcs if isinstance(function, TrlReward)]
    dress(trainer, trainer.kind)
    watch = ParityWatch(trainer) if trainer.use_vllm else None
    keeps: dict[str, Keeps] = {"coupling": trainer.coupling, **{f"rewards/{one.__name__}": one.runner for one in rewards}}
    if watch is not None:
        trainer.add_callback(watch)
        keeps["parity"] = watch
    try:
        with training(trainer.kind):
            checkpoints.train(trainer, keeps)
    finally:
        for reward in rewards:
            reward.runner.close()
        if trainer.use_vllm:
            trainer.vllm_generation.close()
    if isinstance(trainer, RlpercPPOTrainer):
        trainer.drop_critic()
    tallies = {reward.__name__: _tally(reward) for reward in rewards}
    shares = trainer.silent_shares
    zero_spread = sum(shares) / len(shares) if shares else None
    parity = watch.at_start if watch is not None else None
    return left_by(trainer, coupling=trainer.coupling, tallies=tallies, zero_spread=zero_spread, parity=parity)


def _tally(reward: TrlReward) -> dict[str, Any]:
    runner = reward.runner
    parts = gather_object([(runner.counts, runner.faults, runner.seconds)])
    counts, faults = Counter[str](), Counter[str]()
    for part in parts:
        counts.update(part[0])
        faults.update(part[1])
    return {"counts": dict(counts), "faults": dict(faults.most_common()), "seconds": max(part[2] for part in parts)}
