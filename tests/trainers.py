"""RL trainers on a tiny model in this process, for what can only be seen inside of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from launch import QUICKSTART
from torch import distributed
from trl import GRPOTrainer

from rlperc.recipe.load import load_recipe
from rlperc.recipe.schema import Recipe, Stage, TinyModel
from rlperc.train.checkpoints import Checkpoints
from rlperc.train.data import load_rows
from rlperc.train.models import load_model
from rlperc.train.stages import make_trainer, stage_config
from rlperc.train.stop import Stop
from rlperc.train.tiny import save_tiny_model
from rlperc.words.response import Tags

FEW = (
    "stages.reason.train.max_steps=2",
    "stages.reason.train.per_device_train_batch_size=8",
    "stages.reason.train.num_generations=4",
    "stages.reason.train.max_completion_length=12",
    "stages.reason.train.warmup_steps=0",
    "stages.reason.train.learning_rate=1e-2",
    "stages.reason.data.rows=16",
)


def tiny_model(folder: Path) -> Path:
    """A tiny model with random weights, saved."""
    rows = load_rows(load_recipe(QUICKSTART).stages[1].data.model_copy(update={"rows": 200}), seed=0)
    save_tiny_model(folder, TinyModel(), rows["response"], Tags(), seed=0)
    return folder


def reason_stage(*overrides: str) -> tuple[Recipe, Stage]:
    """The quickstart's RL stage, cut down to seconds."""
    recipe = load_recipe(QUICKSTART, *FEW, *overrides)
    return recipe, recipe.stages[-1]


def make(start: Path, folder: Path, *overrides: str) -> Any:
    """The trainer that `rlperc train` would make for the quickstart's RL stage, from another model."""
    recipe, stage = reason_stage(*overrides)
    model, processor = load_model(start, stage.model)
    rows, args = load_rows(stage.data, seed=0), stage_config(recipe, stage, folder)
    return make_trainer(recipe, stage, args, model, processor, rows, [])


def checkpoints(folder: Path) -> Checkpoints:
    """Of a stage that nobody stops and that begins at its beginning."""
    return Checkpoints(folder, Stop(), lambda step: None)


def part() -> None:
    """End what processes share, together: gloo's threads can take down one that just leaves."""
    distributed.barrier()
    distributed.destroy_process_group()


def say(monkeypatch: pytest.MonkeyPatch, texts: Sequence[str]) -> None:
    """Let the model say these texts, in turn."""

    def generate(self: GRPOTrainer, prompt_ids: list, *_: object) -> tuple:
        tokenizer = self.processing_class.tokenizer
        said = [texts[i % len(texts)] for i in range(len(prompt_ids))]
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in said]
        return [[*one, tokenizer.eos_token_id] for one in ids], None

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", generate)


def pay(trainer: GRPOTrainer, rewards: Callable[[str, str], float]) -> None:
    """Other rewards, by their names and the completion's text: a random model would get nothing."""

    def scoring(name: str) -> Callable:
        return lambda completions, **_: [rewards(name, one[-1]["content"]) for one in completions]

    trainer.reward_funcs = [scoring(name) for name in trainer.reward_func_names]
    trainer._ours = []


def outputs(trainer: GRPOTrainer) -> list[dict]:
    """Every step's output, as the loss will see it, once the trainer has trained."""
    seen = []
    inner = trainer._generate_and_score_completions

    def outer(inputs: list) -> dict:
        seen.append(inner(inputs))
        return dict(seen[-1])

    trainer._generate_and_score_completions = outer
    return seen
