"""A stage's `train:` as the host trainer's own config object."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch

from rlperc.errors import RecipeError
from rlperc.recipe.schema import Recipe, Stage

C = TypeVar("C")


def build_config(kind: type[C], recipe: Recipe, stage: Stage, folder: Path, **ours: Any) -> C:
    """Build a `TrainingArguments` or one of TRL's configs.

    The recipe's `train:` wins over `ours`, which win over the host's defaults. bf16 needs a GPU that has it: TRL
    turns it on everywhere, which makes CPU runs slow and inexact.

    Raises:
        RecipeError: the host refuses the values.
    """
    cuda = torch.cuda.is_available()
    options = {
        "output_dir": str(folder),
        "seed": recipe.seed,
        "report_to": recipe.report_to,
        "run_name": f"{recipe.name}-{stage.name}",
        "use_cpu": not cuda,
        "bf16": cuda and torch.cuda.is_bf16_supported() and not stage.train.get("fp16", False),
        "logging_steps": 1,
        "disable_tqdm": False,
        **ours,
        **stage.train,
    }
    try:
        return kind(**options)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise RecipeError(
            f"stages.{stage.name}.train", " ".join(str(error).split()), f"values that {kind.__name__} accepts"
        ) from error
