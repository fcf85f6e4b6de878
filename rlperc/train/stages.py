"""One stage: load the model, train it, save it. The model goes from stage to stage as a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback, TrainingArguments
from trl import GRPOConfig, SFTConfig

from rlperc.errors import DataError
from rlperc.recipe.batches import check_batches
from rlperc.recipe.rewards import LoadedReward, load_rewards, trl_functions
from rlperc.recipe.schema import Lora, Recipe, Stage
from rlperc.reward.runner import check_columns
from rlperc.score.coupling import Coupling
from rlperc.train.contrast import train_contrast
from rlperc.train.data import IMAGE_COLUMNS
from rlperc.train.grpo import train_grpo
from rlperc.train.options import build_config
from rlperc.train.sft import train_sft


def stage_config(recipe: Recipe, stage: Stage, folder: Path) -> Any:
    """The host trainer's config for a stage. Raises RecipeError where the host refuses it."""
    match stage.kind:
        case "contrast":
            # The wrapped model is saved by us when the stage is done; the host cannot save its shared weights.
            ours = {"remove_unused_columns": False, "save_strategy": "no"}
            return build_config(TrainingArguments, recipe, stage, folder, **ours)
        case "sft":
            # TRL's limit of 1,024 tokens could cut image tokens off.
            return build_config(SFTConfig, recipe, stage, folder, max_length=None)
        case "grpo":
            weights = [use.weight for use in stage.rewards]
            shown = {"log_completions": True, "num_completions_to_print": 0}
            return build_config(GRPOConfig, recipe, stage, folder, reward_weights=weights, **shown)


def train_stage(
    recipe: Recipe, stage: Stage, args: Any, model: Any, processor: Any, rows: Dataset, callbacks: Sequence[TrainerCallback]
) -> tuple[Any, Coupling | None]:
    """Train a stage.

    Returns:
        The model, which adapters may wrap now; and how the rewards moved together, for an RL stage.

    Raises:
        UserError: the data is not what the stage needs, or a reward broke its contract.
    """
    peft_config = _lora(stage.model.lora)
    match stage.kind:
        case "contrast":
            train_contrast(model, processor, rows, args, callbacks, stage.data.source)
            return model, None
        case "sft":
            return train_sft(model, processor, rows, args, callbacks, stage.data.source, peft_config), None
        case "grpo":
            loaded = load_rewards(stage)
            check_rl_rows(stage, rows, loaded)
            return train_grpo(model, processor, rows, args, callbacks, trl_functions(loaded, recipe), peft_config)


def check_rl_rows(stage: Stage, rows: Dataset, loaded: list[LoadedReward]) -> None:
    """Hold the loaded rows to what could not be known before. Raises UserError."""
    check_batches(stage, len(rows))
    for one in loaded:
        check_columns(one.reward, rows.column_names, stage.data.source)
    for name in IMAGE_COLUMNS:
        if name in rows.column_names:
            without = sum(not value for value in rows.with_format("arrow")[name].to_pylist()) if len(rows) else 0
            if 0 < without < len(rows):
                raise DataError(
                    f"the stage '{stage.name}' (grpo) on {stage.data.source}",
                    f"{without} of {len(rows)} rows have no image, and TRL cannot mix the two in a batch",
                    "two data sets, one with images and one without",
                )


def _lora(settings: Lora | None) -> LoraConfig | None:
    if settings is None:
        return None
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        task_type="CAUSAL_LM",
    )
