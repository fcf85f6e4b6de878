"""Train three stages under ZeRO-3, and say after each what is left of its engine. See test_released.py."""

from __future__ import annotations

import gc
import sys
from typing import Any

from rlperc.parts import Run
from rlperc.recipe.load import load_recipe
from rlperc.run import run_recipe

HELD = {"DeepSpeedEngine", "DeepSpeedZeroOptimizer_Stage3", "DeepSpeedZeRoOffload"}
inner = Run._stage


def stage(self: Run, *rest: Any) -> None:
    inner(self, *rest)
    gc.collect()
    print("left:", sorted({type(one).__name__ for one in gc.get_objects()} & HELD))


if __name__ == "__main__":
    Run._stage = stage  # type: ignore[method-assign]
    run_recipe(load_recipe(*sys.argv[1:]), say=lambda _: None)
