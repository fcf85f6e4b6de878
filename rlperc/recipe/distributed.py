"""How weights, gradients and optimizer states are spread over processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rlperc.errors import RecipeError
from rlperc.recipe.schema import Recipe
from rlperc.reward.plugins import bundled

WAYS = ("ddp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")


def deepspeed_config(recipe: Recipe) -> dict[str, Any] | None:
    """DeepSpeed's configuration that a recipe asks for, from ours or a file of the user's; None where it asks for none.

    Raises:
        RecipeError: there is none of that name, or it cannot be used as it is.
    """
    _check_launcher(recipe)
    if recipe.distributed == "ddp":
        return None
    ours = recipe.distributed in WAYS
    file = bundled("recipes") / "deepspeed" / f"{recipe.distributed}.json" if ours else Path(recipe.distributed)
    if not ours and file.suffix != ".json":
        raise _refused(recipe, "there is no such way", f"one of {', '.join(WAYS)}, or a DeepSpeed configuration, ./my.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(recipe, f"it cannot be read as JSON: {error}", f"a file of JSON, or one of {', '.join(WAYS)}") from None
    _check(recipe, config)
    return config  # type: ignore[no-any-return]


def _check_launcher(recipe: Recipe) -> None:
    """Refuse what `accelerate launch` was told of this: the stages' trainers are told by the recipe, and by it alone."""
    for name, instead in (
        ("ACCELERATE_USE_DEEPSPEED", "distributed: zero2, in the recipe, and `accelerate launch --multi_gpu`"),
        ("ACCELERATE_USE_FSDP", "distributed: zero3, in the recipe, and `accelerate launch --multi_gpu`"),
    ):
        if os.environ.get(name, "false").lower() == "true":
            raise _refused(recipe, f"the launcher was told another way ({name}=true)", instead)


def _check(recipe: Recipe, config: Any) -> None:
    """Hold a configuration to what DeepSpeed, or transformers, would say late or not at all."""
    zero = config.get("zero_optimization") if isinstance(config, dict) else None
    if not isinstance(zero, dict) or zero.get("stage") not in (0, 1, 2, 3):
        raise _refused(recipe, "it names no stage of ZeRO", '"zero_optimization": {"stage": 2}')
    if zero["stage"] == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise _refused(
            recipe,
            "under ZeRO-3 each process holds a part of the model, and without gathering no model could be saved",
            '"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true}',
        )
    rated = [stage.name for stage in recipe.stages if stage.ppo is not None and stage.ppo.critic_learning_rate is not None]
    if rated and "optimizer" in config:
        raise _refused(
            recipe,
            f"its own optimizer gives all parameters one learning rate, and '{rated[0]}' has a `critic_learning_rate`",
            'no "optimizer" there: transformers makes the one that `train: {optim: …}` names',
        )


def _refused(recipe: Recipe, why: str, instead: str) -> RecipeError:
    return RecipeError(f"distributed: {recipe.distributed}", why, instead)
