"""The check of vLLM against the trainer by itself, before anything trains."""

from __future__ import annotations

from pathlib import Path

from rlperc.errors import RecipeError
from rlperc.recipe.rollout import Parity
from rlperc.recipe.schema import RL_KINDS, Recipe
from rlperc.train.data import load_rows
from rlperc.train.models import load_model
from rlperc.train.parity import check, compare, spread, table
from rlperc.train.stages import make_trainer, stage_config
from rlperc.train.start import make_start, start_source


def parity_alone(recipe: Recipe, folder: Path) -> str:
    """Compare on the model that the recipe starts from, with the rows, the processor and vLLM of its first stage on vLLM.

    Args:
        recipe: a resolved recipe.
        folder: for a tiny model, and what a server needs.

    Returns:
        What was found, for a person to read.

    Raises:
        RolloutError: the two are not one model; with a table of the differences.
        UserError: the recipe cannot be run, or has no stage on vLLM.
    """
    stage = next((one for one in recipe.stages if one.kind in RL_KINDS and one.rollout.engine == "vllm"), None)
    if stage is None:
        raise RecipeError("parity of vLLM", "no RL stage of this recipe draws on vLLM", "rollout: {engine: vllm}")
    settings = stage.rollout.parity if stage.rollout.parity.rows else Parity()
    make_start(recipe, folder / "start")
    model, processor = load_model(start_source(recipe, folder / "start"), stage.model)
    rows = load_rows(stage.data, recipe.seed, recipe.tags)
    args = stage_config(recipe, stage, folder / "stage")
    trainer = make_trainer(recipe, stage, args, model, processor, rows, [])
    try:
        found = compare(trainer, settings)
        dtype = trainer.vllm_generation.setup.coarser_dtype
    finally:
        trainer.vllm_generation.close()
    check(found, settings, dtype, processor)
    mean, largest = spread(found)
    tokens = sum(len(one.differences) for one in found)
    where = f"stage {stage.name}, {dtype}, {tokens} tokens of {len(found)} responses"
    apart = f"log-probabilities {mean:.1e} apart on average, {largest:.1e} at most"
    return f"{table(found, processor)}\n{where}: the same ids; {apart}"
