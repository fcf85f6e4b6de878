"""Where a study's file is found, and what is made of it: read, checked, narrowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlperc.errors import RecipeError, did_you_mean
from rlperc.recipe.faults import explain
from rlperc.recipe.load import read_yaml
from rlperc.reward.plugins import bundled
from rlperc.study.plan import KINDS, Study


def studies() -> list[Path]:
    """The studies that ship with rlperc."""
    return sorted(bundled("recipes").glob("reproduce/*.yaml"))


def find_study(path: Path) -> Path:
    """The file, or the one of that path that ships with rlperc. Raises RecipeError."""
    shipped = bundled("recipes")
    if path.is_file():
        return path.resolve()
    if (inside := shipped / path.relative_to("recipes") if path.is_relative_to("recipes") else shipped / path).is_file():
        return inside
    known = ", ".join(f"recipes/reproduce/{file.name}" for file in studies())
    raise RecipeError(f"the study {path}", "there is no such file", f"a YAML file; shipped: {known}")


def load_study(file: Path) -> Study:
    """Read a study. Raises RecipeError."""
    raw: dict[str, Any] = read_yaml(file, f"the study {file}", "about:, seeds:, cases:, runs:, claims:")
    if "stages" in raw and "cases" not in raw:
        raise RecipeError(f"the study {file}", "this is a recipe, which has stages", f"rlperc train {file}")
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise explain(error, raw, file, Study, KINDS) from None
    cases = {}
    for name, case in study.cases.items():
        recipes = {recipe: _beside(file, name, one) for recipe, one in case.recipes.items()}
        cases[name] = case.model_copy(update={"recipes": recipes})
    return study.model_copy(update={"cases": cases})


def _beside(file: Path, case: str, recipe: Path) -> Path:
    found = (file.parent / recipe).resolve()
    if not found.is_file():
        raise RecipeError(
            f"{recipe} in the study's case '{case}'", f"there is no {found}", "a recipe's file, counted from the study's"
        )
    return found


def narrow(study: Study, seeds: list[int] | None, cases: list[str] | None) -> Study:
    """The study with other seeds, or with some of its cases. Raises RecipeError where it has none of that name."""
    for name in cases or ():
        if name not in study.cases:
            raise RecipeError(f"--only {name}", "the study has no case of that name", did_you_mean(name, study.cases))
    if any(seed < 0 for seed in seeds or ()):
        raise RecipeError(f"--seeds {min(seeds or [0])}", "a seed is at least 0", "--seeds 0 1 2")
    if len(set(seeds or ())) < len(seeds or ()):
        raise RecipeError(
            f"--seeds {' '.join(map(str, seeds or ()))}", "one stands twice, and would count as two", "--seeds 0 1 2"
        )
    kept = {name: found for name, found in study.cases.items() if cases is None or name in cases}
    chosen = {"seeds": seeds, "more_seeds": {}} if seeds else {}
    return study.model_copy(update={**chosen, "cases": kept})
