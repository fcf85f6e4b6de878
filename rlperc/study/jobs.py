"""A study's jobs: one training for each run, case and seed, each with a recipe and a folder of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from rlperc.errors import RecipeError, UserError, did_you_mean
from rlperc.recipe.check import check_recipe
from rlperc.recipe.load import dump_recipe, load_recipe, load_tiny
from rlperc.recipe.names import reward_name
from rlperc.recipe.progress import checkpoint_name
from rlperc.recipe.schema import Recipe, Stage
from rlperc.reward.plugins import find_reward
from rlperc.score.roles import EXAMPLES, roles_of
from rlperc.study.plan import Case, Choice, Coupled, Run, Study


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        case: its name in the study.
        run: likewise.
        seed: of this training.
        folder: of the run; its recipe and what it prints stand beside it.
        needs: the job that leaves the model this one begins with.
    """

    case: str
    run: str
    seed: int
    folder: Path
    needs: Job | None

    def __str__(self) -> str:
        return f"{self.case} {self.run} {self.seed}"

    @property
    def file(self) -> Path:
        """The recipe as it is trained."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def log(self) -> Path:
        """What the training prints."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def summary(self) -> dict[str, Any] | None:
        """What the run left, if it is done."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if found.get("status") == "done" else None

    def tidy(self) -> None:
        """Take away a done run's checkpoints: nothing goes on from them, and those of many large models fill a disk."""
        for checkpoint in self.folder.glob(f"stages/*/{checkpoint_name('*')}"):
            shutil.rmtree(checkpoint)


def jobs_of(study: Study, out: Path) -> list[Job]:
    """All jobs, each after the one it needs, seed by seed: what an interruption leaves is whole seeds."""
    return [job for seed in study.all_seeds for case in study.cases for job in _of_one(study, out, case, seed)]


def _of_one(study: Study, out: Path, case: str, seed: int) -> Iterator[Job]:
    made: dict[str, Job] = {}

    def make(run: str) -> Job:
        if run not in made:
            earlier = study.runs[run].from_
            needs = make(earlier) if earlier else None
            made[run] = Job(case, run, seed, out / case / f"{run}-{seed}", needs)
        return made[run]

    for run in study.runs_of(case):
        if seed in study.seeds_of(run):
            make(run)
    yield from made.values()


def plan(study: Study, jobs: Iterable[Job], base: Path, tiny: bool = False) -> dict[Job, str]:
    """The recipe of every job, as YAML; checked as far as it can be before anything has run.

    Args:
        study: whose jobs they are.
        jobs: each after the one it needs.
        base: the folder of the study's file, which paths in its overrides count from.
        tiny: two steps for each stage, on random tiny models, as `rlperc train --tiny` does.

    Raises:
        UserError: one of them cannot be trained, or its folder holds another one's run.
    """
    planned: dict[Job, str] = {}
    checked: set[tuple[str, str]] = set()
    for job in jobs:
        with _told_where(job):
            recipe = _recipe(study, job, base, tiny)
            if (job.case, job.run) not in checked:
                check_recipe(recipe)
                _has_rewards(study, job, recipe)
                checked.add((job.case, job.run))
        # What a run began with belongs to it.
        origin = f"# begins with {_digest(planned[job.needs])}\n" if job.needs else ""
        planned[job] = origin + dump_recipe(_begins_with(recipe, job.needs))
        _compare(job, planned[job])
    return planned


def _recipe(study: Study, job: Job, base: Path, tiny: bool) -> Recipe:
    run, case = study.runs[job.run], study.cases[job.case]
    file, overrides = case.recipes[run.recipe], [_worded(text, case, job) for text in (*case.set_, *run.set_)]
    for text in overrides:
        if (key := text.partition("=")[0]) in ("seed", "name", "output"):
            raise RecipeError(
                f"set: {text}", f"the study says every run's {key}", "seeds: […] at the top of the study, and --out"
            )
    # As JSON, which YAML reads as what it was: a folder's name may hold ` #` or `: `.
    own = f"seed={job.seed}", f"name={json.dumps(f'{job.case}-{job.run}')}", f"output={json.dumps(str(job.folder))}"
    overrides = [*overrides, *own]
    recipe = load_tiny(file, *overrides, base=base)[0] if tiny else load_recipe(file, *overrides, base=base)
    names = case.stages.get(job.run, run.stages)
    # A run that begins with another's model has not seen its rows: within a case every stage draws its own.
    first = 1000 * job.seed + 100 * list(dict.fromkeys(case.recipes.values())).index(file)
    seeds = {stage.name: first + place for place, stage in enumerate(recipe.stages)}
    stages = [_seeded(_stage(recipe, name, run, job), seeds) for name in names]
    evaluate = recipe.evaluate
    if evaluate is None:
        raise RecipeError(f"the study's recipe {file}", "it measures nothing", "evaluate: {data: …}")
    after = [name for name in evaluate.after if name in names]
    # What a run begins with was measured at the end of the run that left it.
    evaluate = evaluate.model_copy(update={"after": after, "first": False})
    return recipe.model_copy(update={"stages": stages, "evaluate": evaluate})


def _worded(override: str, case: Case, job: Job) -> str:
    asked = f"'{override}' in the study's run '{job.run}'"
    try:
        return Template(override).substitute(case.words)
    except KeyError as error:
        why = f"the case '{job.case}' has no word {error}; it has {', '.join(case.words) or 'none'}"
        raise RecipeError(asked, why, "words: {perception: perception_cells} in the case, and $perception in the run") from None
    except ValueError:
        raise RecipeError(asked, "a $ begins one of the case's words, and here none follows", "$$ for the sign itself") from None


def _stage(recipe: Recipe, name: str, run: Run, job: Job) -> Stage:
    stages = {stage.name: stage for stage in recipe.stages}
    if name not in stages:
        asked = f"the stage '{name}' of the study's run '{job.run}'"
        raise RecipeError(asked, f"the recipe '{run.recipe}' of '{job.case}' has none of that name", did_you_mean(name, stages))
    return stages[name]


def _seeded(stage: Stage, seeds: Mapping[str, int]) -> Stage:
    """A stage whose rows are drawn with a seed of these, where its recipe gives none."""
    if stage.data.seed is not None:
        return stage
    return stage.model_copy(update={"data": stage.data.model_copy(update={"seed": seeds[stage.name]})})


def _has_rewards(study: Study, job: Job, recipe: Recipe) -> None:
    """Refuse a run that claims ask for rewards it does not have."""
    for claim in study.claims:
        match claim:
            case Choice() if claim.asked == job.run:
                uses = [use.use for stage in recipe.stages for use in stage.rewards]
                there = {reward_name(use) for use in uses}
                for reward in claim.of:
                    if reward not in there:
                        raise RecipeError(
                            f"a claim's choice of '{reward}'", "the run has no such reward", did_you_mean(reward, there)
                        )
                _has_roles("a claim's choice", uses, "perception")
            case Coupled() if claim.run == job.run:
                stages = {stage.name: stage for stage in recipe.stages}
                if claim.stage not in stages:
                    asked = f"a claim's coupling in the stage '{claim.stage}'"
                    raise RecipeError(asked, "the run does not make it here", did_you_mean(claim.stage, stages))
                _has_roles(
                    "a claim's coupling", [use.use for use in stages[claim.stage].rewards], "perception", "outcome", "reasoning"
                )


def _has_roles(asked: str, uses: Sequence[str], *wanted: str) -> None:
    roles = roles_of([find_reward(use) for use in uses])
    for role in wanted:
        if getattr(roles, role) is None:
            raise RecipeError(asked, f"none of the run's rewards says {role}", f"such as {EXAMPLES[role]}, with `weight: 0`")


@contextmanager
def _told_where(job: Job) -> Iterator[None]:
    """What is wrong with a recipe is said with the case and the run."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{job.case}, {job.run}: {error.asked}", error.why, error.instead) from None


def _digest(recipe: str) -> str:
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def _begins_with(recipe: Recipe, earlier: Job | None) -> Recipe:
    """The recipe with an earlier job's model in the place of its own."""
    if earlier is None:
        return recipe
    source = {"name": str(earlier.folder / "model"), "tiny": None, "revision": None}
    stages = [stage.model_copy(update={"model": stage.model.model_copy(update=source)}) for stage in recipe.stages]
    return recipe.model_copy(update={"stages": stages})


def _compare(job: Job, planned: str) -> None:
    """Refuse a folder with another run than the planned one, or one that began with a model that will be trained anew."""
    if not job.folder.exists():
        return
    if not job.file.exists() or job.file.read_text(encoding="utf-8") != planned:
        why = f"holds a run of another recipe than the study's {job} is now"
    elif job.needs is not None and job.needs.summary() is None:  # on GPUs, which add up in any order, it will be another
        why = f"began with the model of {job.needs}, which is not there any more"
    else:
        return
    raise RecipeError(
        f"the study's folder {job.folder.parent.parent}",
        f"{job.folder} {why}",
        f"--out another/folder, or remove {job.folder} and what began with it",
    )
