"""What a recipe starts from, the same for the trainer and for a server beside it."""

from __future__ import annotations

from pathlib import Path

import torch

from rlperc.errors import RecipeError
from rlperc.recipe.schema import Recipe, Stage
from rlperc.train.data import load_rows
from rlperc.train.models import load_config
from rlperc.train.tiny import save_tiny_model

TOKENIZER_ROWS = 2000


def start_source(recipe: Recipe, folder: Path) -> str | Path:
    """The model to start from: a name, or `folder`, where `make_start` puts a tiny one."""
    first = recipe.stages[0].model
    return folder if first.tiny is not None else str(first.name)


def make_start(recipe: Recipe, folder: Path, writes: bool = True) -> None:
    """Make the model to start from, where it is a tiny one. It follows from the recipe alone.

    Args:
        recipe: a resolved recipe.
        folder: where it goes.
        writes: whether this process is the one that makes it.
    """
    first = recipe.stages[0]
    if first.model.tiny is None or not writes:
        return
    teacher = next((s for s in recipe.stages if s.kind == "sft"), first)
    rows = load_rows(teacher.data.model_copy(update={"rows": TOKENIZER_ROWS}), recipe.seed, recipe.tags)
    texts = [str(message["content"]) for prompt in rows["prompt"] for message in prompt]
    texts += [str(text) for text in rows["response"]] if "response" in rows.column_names else []
    save_tiny_model(folder, first.model.tiny, texts, recipe.tags, recipe.seed)


def computes_in(stage: Stage, source: str | Path) -> str:
    """The dtype that an RL stage's trainer computes in, by torch's name, without making the trainer's config.

    The config cannot be made outside the training: TRL refuses batches that only several processes fill.

    Args:
        stage: of an RL kind.
        source: what `start_source` returned.

    Raises:
        RecipeError: the model has no config, or one that says no dtype where the stage leaves it to the model.
    """
    cuda = torch.cuda.is_available()
    fp16 = stage.train.get("fp16", False)
    bf16 = stage.train.get("bf16", cuda and torch.cuda.is_bf16_supported() and not fp16)
    if bf16 or (bf16 is None and not fp16):
        return "bfloat16"
    if fp16:
        return "float16"
    return _of_the_weights(stage, source) if stage.model.dtype == "auto" else stage.model.dtype


def _of_the_weights(stage: Stage, source: str | Path) -> str:
    dtype = load_config(source, stage.model).dtype
    if dtype is None:
        raise RecipeError(
            f"model.dtype: auto with '{source}'", "its config names no dtype", "model: {dtype: float32 or bfloat16}"
        )
    return str(dtype).removeprefix("torch.")
