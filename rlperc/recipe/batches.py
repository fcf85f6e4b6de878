"""The arithmetic of GRPO's batches, before TRL meets it."""

from __future__ import annotations

import os

from rlperc.errors import RecipeError
from rlperc.recipe.schema import Stage

# TRL's defaults, for options that the recipe leaves out; a test holds them against the installed TRL.
TRL_DEFAULTS = {"num_generations": 8, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}


def check_batches(stage: Stage, rows: int | None, processes: int | None = None) -> None:
    """Refuse sizes that do not make whole groups.

    Args:
        stage: of kind `grpo`.
        rows: rows of its data, where known.
        processes: default: what the launcher says in `WORLD_SIZE`, else 1.

    Raises:
        RecipeError: with the sizes that would do.
    """
    processes = processes or int(os.environ.get("WORLD_SIZE", "1"))
    group, per_device, accumulation = (_whole(stage, option) for option in TRL_DEFAULTS)
    steps = int(stage.train.get("steps_per_generation") or accumulation)
    batch = int(stage.train.get("generation_batch_size") or per_device * processes * steps)
    where = f"stages.{stage.name}.train"
    if group < 2:
        raise RecipeError(f"{where}: num_generations: {group}", "GRPO compares the responses of a group", "2 or more")
    if batch % group:
        sizes = [size for size in range(1, 4 * per_device + group) if size * processes * steps % group == 0]
        near = sorted(sorted(sizes, key=lambda size: abs(size - per_device))[:3])
        raise RecipeError(
            f"{where}: groups of {group} from {per_device} responses x {processes} processes x {steps} steps = {batch}",
            f"{batch} is not a multiple of {group}, so a group would be torn apart",
            f"per_device_train_batch_size: {' or '.join(map(str, near))}; or num_generations: "
            f"{' or '.join(str(n) for n in range(2, min(batch, 64) + 1) if batch % n == 0) or 'another'}",
        )
    prompts = batch // group
    if rows is not None and rows < prompts:
        raise RecipeError(
            f"{where}: {prompts} prompts for each generation",
            f"the data has {rows} rows, and TRL drops a batch it cannot fill",
            f"data: {{rows: {prompts}}} or more, or a smaller per_device_train_batch_size",
        )


def _whole(stage: Stage, option: str) -> int:
    value = stage.train.get(option, TRL_DEFAULTS[option])
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RecipeError(f"'stages.{stage.name}.train.{option}: {value}'", "it is a count", f"{option}: {TRL_DEFAULTS[option]}")
    return value
