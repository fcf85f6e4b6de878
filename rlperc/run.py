"""A whole run, top to bottom: check, open the process group, make the folder, go through the parts, leave."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch import distributed

from rlperc.parts import Run, Say
from rlperc.process import in_first, quiet
from rlperc.recipe.batches import launched
from rlperc.recipe.check import check_recipe
from rlperc.recipe.folder import RunFolder
from rlperc.recipe.preflight import check_machine
from rlperc.recipe.schema import Recipe
from rlperc.train.sharding import after_configs, before_configs
from rlperc.train.stages import stage_config
from rlperc.train.stop import Stop
from rlperc.watch.job import Watch


def run_recipe(recipe: Recipe, move_aside: bool = False, resume: bool = False, say: Say = print) -> RunFolder:
    """Run a recipe.

    SIGTERM ends it with exit code 143, after a checkpoint where a stage trains.

    Args:
        recipe: a resolved recipe.
        move_aside: move a run that is already in the output folder aside, instead of refusing.
        resume: go on with the run that is in the output folder; where there is none, begin it.
        say: told what begins, in one process only.

    Returns:
        The run's folder.

    Raises:
        UserError: the recipe cannot run as it is, or a reward broke its contract. What was measured until then
            is in the folder.
        JobError: another process of the job failed or is gone.
    """
    watch = Watch()
    with watch.guarding():
        configs, state = _prepared(recipe, say)
        watch.meet()
        folder = RunFolder(recipe.output, writes=state.is_main_process)
        with (stop := Stop()).listening():
            in_first(state, lambda: folder.claim(move_aside, resume))
            run = Run(recipe, folder, state, stop, watch, say if state.is_main_process else lambda _: None)
            with run.recorded(), watch.guarding():
                run.go(configs)
                state.wait_for_everyone()
    folder.release()
    watch.close()
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return folder


def _prepared(recipe: Recipe, say: Say) -> tuple[list[Any], PartialState]:
    """The checked recipe's configs, a stage each, and the process group that they opened."""
    check_recipe(recipe)
    for warning in check_machine(recipe):
        say(f"warning: {warning}")
    quiet(tiny=recipe.stages[0].model.tiny is not None)
    sharded = recipe.distributed != "ddp"
    if sharded:
        before_configs()
    if launched() > 1 and not torch.cuda.is_available():
        # transformers hands the limit on for GPUs only.
        train = recipe.stages[0].train
        limit = timedelta(seconds=train.get("ddp_timeout", 1800))
        PartialState(cpu=True, backend=train.get("ddp_backend"), timeout=limit)
    # The configs first: they open the process group with the recipe's own `ddp_timeout` and `ddp_backend`.
    configs = [stage_config(recipe, stage, RunFolder(recipe.output).stage(stage.name)) for stage in recipe.stages]
    if sharded:
        after_configs()
    return configs, PartialState(cpu=not torch.cuda.is_available())
