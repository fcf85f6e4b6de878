"""The arithmetic of GRPO's batches, before TRL meets it."""

from __future__ import annotations

import math
import os

from rlperc.errors import RecipeError
from rlperc.recipe.schema import Stage

# TRL's defaults, for options that the recipe leaves out; a test holds them against the installed TRL.
TRL_DEFAULTS = {
    kind: {"num_generations": group, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    for kind, group in (("grpo", 8), ("ppo", 8), ("rloo", 2))
}


def check_batches(stage: Stage, rows: int | None, processes: int | None = None) -> None:
    """Refuse sizes that do not make whole groups.

    Args:
        stage: of an RL kind.
        rows: rows of its data, where known.
        processes: default: what the launcher says in `WORLD_SIZE`, else 1.

    Raises:
        RecipeError: with the sizes that would do.
    """
    processes = processes or launched()
    group, per_device, accumulation = (_whole(stage, option) for option in TRL_DEFAULTS["grpo"])
    steps = _steps(stage, accumulation)
    batch = responses_per_process(stage, processes) * processes
    where = f"stages.{stage.name}.train"
    if group < 2 and stage.kind != "ppo":
        kind = stage.kind.upper()
        raise RecipeError(f"{where}: num_generations: {group}", f"{kind} compares the responses of a group", "2 or more")
    given = stage.train.get("generation_batch_size")
    if given:
        _check_given(stage, int(given), group, per_device * processes)
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


def _check_given(stage: Stage, batch: int, group: int, step: int) -> None:
    """Refuse a `generation_batch_size` that TRL would."""
    where = f"stages.{stage.name}.train"
    if stage.train.get("steps_per_generation"):
        raise RecipeError(
            f"{where}: generation_batch_size: {batch} and steps_per_generation", "each says what the other is", "one of them"
        )
    whole = math.lcm(group, step)
    if batch % whole:
        near = max(whole, round(batch / whole) * whole)
        raise RecipeError(
            f"{where}: generation_batch_size: {batch}",
            f"it holds whole groups of {group} and whole steps of {step} responses",
            f"generation_batch_size: {near}",
        )


def group_size(stage: Stage) -> int:
    """Responses to a prompt. Raises RecipeError where it is no count."""
    return _whole(stage, "num_generations")


def responses_per_process(stage: Stage, processes: int | None = None) -> int:
    """Responses that each process draws for one generation. Args as in `check_batches`."""
    _, per_device, accumulation = (_whole(stage, option) for option in TRL_DEFAULTS["grpo"])
    steps = _steps(stage, accumulation)
    given = stage.train.get("generation_batch_size")
    return int(given) // (processes or launched()) if given else per_device * steps


def _steps(stage: Stage, accumulation: int) -> int:
    steps = stage.train.get("steps_per_generation", accumulation)
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise RecipeError(f"'stages.{stage.name}.train.steps_per_generation: {steps}'", "it is a count", "1 or more")
    return steps or accumulation


def launched() -> int:
    """How many training processes the launcher starts."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _whole(stage: Stage, option: str) -> int:
    default = TRL_DEFAULTS[stage.kind][option]
    value = stage.train.get(option, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RecipeError(f"'stages.{stage.name}.train.{option}: {value}'", "it is a count", f"{option}: {default}")
    return value
