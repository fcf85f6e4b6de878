"""Post-training for vision-language models that pays for seeing, built on TRL.

`run_recipe` loads torch; everything else here does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlperc.errors import UserError
from rlperc.reward.contract import Score, reward
from rlperc.words.response import Completion

if TYPE_CHECKING:
    from rlperc.recipe.load import load_recipe
    from rlperc.recipe.rewards import trl_rewards
    from rlperc.run import run_recipe

__all__ = ["Completion", "Score", "UserError", "load_recipe", "reward", "run_recipe", "trl_rewards"]

_LATER = {"load_recipe": "rlperc.recipe.load", "trl_rewards": "rlperc.recipe.rewards", "run_recipe": "rlperc.run"}


def __getattr__(name: str) -> Any:
    """Import the heavier names when they are asked for."""
    if name not in _LATER:
        raise AttributeError(f"module 'rlperc' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LATER[name]), name)
