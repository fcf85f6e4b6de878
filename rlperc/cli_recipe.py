"""What commands that take a recipe have in common: its name, overrides, and `--tiny`."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlperc.recipe.schema import Recipe


def first_process() -> bool:
    """Whether this process is the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


def add_recipe(parser: argparse.ArgumentParser, recipe: str, overrides: str) -> None:
    """Add the arguments; `recipe` and `overrides` say what they are for."""
    parser.add_argument("recipe", help=recipe)
    parser.add_argument("overrides", nargs="*", default=[], metavar="a.b=c", help=overrides)
    parser.add_argument("--tiny", action="store_true", help="two steps on a random tiny model of the recipe's architecture")


def read_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe that is asked for; the first process says what `--tiny` changed. Raises UserError."""
    from rlperc.recipe.load import load_recipe, load_tiny

    if not options.tiny:
        return load_recipe(options.recipe, *options.overrides)
    recipe, changed = load_tiny(options.recipe, *options.overrides)
    if first_process():
        print(f"tiny: {changed}", flush=True)
    return recipe
