"""The scores that a run's completions tables hold, so that rewards can be held together that only training can ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlperc.errors import DataError, MissingPackageError, RecipeError, did_you_mean
from rlperc.recipe.batches import group_size
from rlperc.recipe.folder import RunFolder
from rlperc.recipe.load import load_recipe
from rlperc.recipe.rewards import load_rewards
from rlperc.recipe.schema import RL_KINDS, Stage
from rlperc.score.offline import Collected


def collected_of(run: Path, stage: str | None = None, steps: int | None = None) -> Collected:
    """What a stage's rewards gave, group by group.

    Args:
        run: a run's folder.
        stage: of kind grpo or ppo; the only one if None.
        steps: the first ones alone, before much was trained.

    Raises:
        UserError: it is no run's folder, has no such stage, or wrote no tables.
    """
    asked = f"coupling of {run}"
    if not (run / "recipe.yaml").is_file():
        raise DataError(asked, "it is a folder, and no run's: it has no recipe.yaml", "a run's folder, or a file of completions")
    chosen = _stage(asked, load_recipe(run / "recipe.yaml").stages, stage)
    collected = Collected([one.reward for one in load_rewards(chosen)])
    size = group_size(chosen)
    for values in _tables(asked, RunFolder(run).stage(chosen.name) / "completions", collected.names, steps):
        if len(values) % size:
            why = f"a table has {len(values)} completions, and a prompt {size}"
            raise DataError(asked, why, "a folder that one run wrote")
        collected.groups += np.split(values, len(values) // size)
    return collected


def _stage(asked: str, stages: list[Stage], name: str | None) -> Stage:
    known = {stage.name: stage for stage in stages if stage.kind in RL_KINDS}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name not in known:
        if not known:
            raise RecipeError(asked, "none of the run's stages has rewards", "a run of GRPO or PPO")
        why = f"the run has no RL stage '{name}'" if name else "several of the run's stages have rewards"
        raise RecipeError(asked, why, did_you_mean(name, known) if name else f"--stage {' or '.join(known)}")
    return known[name]


def _tables(asked: str, folder: Path, names: list[str], steps: int | None) -> Iterator[NDArray[np.float64]]:
    """Of each step's completions the scores, NaN where a reward had no opinion. Shape of each: (completions, rewards)."""
    files = sorted(folder.glob("*.parquet"))[:steps]
    if not files:
        why = f"there are no completions tables in {folder}"
        raise DataError(asked, why, "a run of GRPO or PPO that did not turn log_completions off")
    try:
        from pyarrow.parquet import read_table
    except ImportError:
        raise MissingPackageError(asked, "parquet needs pyarrow", 'pip install "rlperc[train]"') from None
    for file in files:
        table = read_table(file)
        if lacking := [name for name in names if name not in table.column_names]:
            raise DataError(asked, f"{file} has no column '{lacking[0]}'", "a folder that one run wrote")
        yield np.array([table[name].to_pylist() for name in names], dtype=float).T
