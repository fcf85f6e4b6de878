"""A stage's `train:` as the host trainer's own config object."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.integrations import get_reporting_integration_callbacks

from rlperc.errors import RecipeError
from rlperc.recipe.distributed import deepspeed_config
from rlperc.recipe.schema import Recipe, Stage

C = TypeVar("C")


def build_config(
    kind: type[C],
    recipe: Recipe,
    stage: Stage,
    folder: Path,
    ours: Mapping[str, Any] | None = None,
    forced: Mapping[str, Any] | None = None,
) -> C:
    """Build a `TrainingArguments` or one of TRL's configs.

    The recipe's `train:` wins over `ours`, which win over the host's defaults; `forced` wins over all. bf16 needs a GPU
    that has it: TRL turns it on everywhere, which makes CPU runs slow and inexact.

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
        "deepspeed": deepspeed_config(recipe),
        **(ours or {}),
        **stage.train,
        **(forced or {}),
    }
    with refusals(f"stages.{stage.name}.train", f"values that {kind.__name__} accepts"):
        config: Any = kind(**options)
    with refusals(f"report_to: {recipe.report_to}", "none, or a tracker that is installed here"):
        get_reporting_integration_callbacks(config.report_to)
    # One process drives one device: several GPUs are torchrun's business, and TRL refuses nn.DataParallel.
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config  # type: ignore[no-any-return]


@contextmanager
def refusals(asked: str, instead: str) -> Iterator[None]:
    """What the host refuses is the recipe's fault, and said as one."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, RuntimeError, ImportError) as error:
        raise RecipeError(asked, " ".join(str(error).split()), instead) from error


@contextmanager
def training(stage: str) -> Iterator[None]:
    """What the host refuses only once it runs, such as a kernel that is not installed, is the recipe's fault too.

    Only a ValueError or an ImportError is taken for that, and its place is kept in the message.
    """
    try:
        yield
    except (ValueError, ImportError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise RecipeError(f"training ({stage})", f"{error} ({where})", "options under `train:` that the host accepts") from error
