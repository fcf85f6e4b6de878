"""The rewards a recipe names, loaded, and as functions for TRL's trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlperc.errors import RecipeError
from rlperc.recipe.batches import group_size
from rlperc.recipe.credit import RewardUse, Sum
from rlperc.recipe.part import is_never
from rlperc.recipe.schema import RL_KINDS, Evaluate, Recipe, Stage
from rlperc.reward.contract import Reward
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, OnError, RewardRunner, check_imports, check_settings
from rlperc.reward.trl import TrlReward
from rlperc.worlds import load_world


@dataclass(frozen=True)
class LoadedReward:
    """A reward of a recipe, found and loaded."""

    reward: Reward
    use: RewardUse


def trl_rewards(recipe: Recipe, stage: str | None = None) -> tuple[list[TrlReward], list[float]]:
    """A recipe's rewards for anyone's own TRL trainer.

    The trainer's rows must have the columns under the rewards' own names. A completion that `on_error: skip` leaves out
    is None to TRL, which counts as 0 in the sum with other rewards; in `rlperc train` it is left out of its group.

    Args:
        recipe: a resolved recipe.
        stage: whose rewards; default the first RL stage.

    Returns:
        `reward_funcs` for the trainer, and `reward_weights` for its config.

    Raises:
        RecipeError: there is no such stage.
    """
    found = next((s for s in recipe.stages if s.name == stage or (stage is None and s.kind in RL_KINDS)), None)
    if found is None:
        raise RecipeError(f"the rewards of the stage '{stage}'", "the recipe has none of that name", "one of its RL stages")
    loaded = load_rewards(found)
    for one in loaded:
        if one.reward.needs_scorer:
            raise RecipeError(
                f"the reward '{one.reward.name}' outside `rlperc train`",
                "it asks the training model, which only that lends",
                "another reward",
            )
    if found.blend != Sum():
        raise RecipeError(
            f"the rewards of the stage '{found.name}' outside `rlperc train`",
            f"its blend ({found.blend.mode}, with its options) is rlperc's trainer's; TRL's own has the weighted sum",
            "blend: {mode: sum} without options",
        )
    return trl_functions(loaded, recipe, found), [_fixed(one) for one in loaded]


def _fixed(one: LoadedReward) -> float:
    if isinstance(one.use.weight, dict):
        raise RecipeError(
            f"the weight of the reward '{one.reward.name}' outside `rlperc train`",
            "it follows a schedule, and TRL's own trainers have one weight for the whole training",
            "weight: a number",
        )
    return one.use.weight


def load_rewards(stage: Stage) -> list[LoadedReward]:
    """Find and load a stage's rewards. Raises RecipeError or PluginError."""
    loaded = [LoadedReward(find_reward(use.use), use) for use in stage.rewards]
    names = [one.reward.name for one in loaded]
    where = f"stages.{stage.name}"
    if all(is_never(one.use.weight) for one in loaded):
        raise RecipeError(f"{where}: rewards", "none of them has a weight, so there is nothing to learn from", "weight: 1.0")
    for one in loaded:
        if names.count(one.reward.name) > 1:
            origins = ", ".join(other.reward.origin for other in loaded if other.reward.name == one.reward.name)
            raise RecipeError(f"{where}: the reward '{one.reward.name}'", f"it stands there twice: {origins}", "two names")
        check_settings(one.reward, one.use.with_)
        check_imports(one.reward)
    return loaded


def handling(use: RewardUse, on_error: OnError | None = None) -> Handling:
    """How a recipe wants a reward run; `on_error` may be another's, as where a file is scored."""
    return Handling(
        on_error=on_error or use.on_error,
        max_error_share=use.max_error_share,
        timeout_s=use.timeout_s,
        isolate=use.isolate,
        workers=use.workers,
        memory_mib=use.memory_mib,
    )


def trl_functions(
    loaded: Sequence[LoadedReward], recipe: Recipe, stage: Stage, on_error: OnError | None = None
) -> list[TrlReward]:
    """A stage's rewards as functions for TRL's trainers, in the recipe's order."""
    size = group_size(stage)
    return [TrlReward(RewardRunner(one.reward, one.use.with_, handling(one.use, on_error)), recipe.tags, size) for one in loaded]


def answer_use(recipe: Recipe) -> RewardUse:
    """The reward that measures `a`: the one `evaluate` names, else the first that credits the outcome."""
    evaluate = recipe.evaluate
    uses = [use for stage in recipe.stages for use in stage.rewards]
    if evaluate is not None and evaluate.answer is not None:
        return next((use for use in uses if use.use == evaluate.answer), RewardUse(use=evaluate.answer))
    for use in uses:
        reward = find_reward(use.use)
        measures = reward.style == "rlperc" and reward.scope != "group" and reward.range == (0.0, 1.0)
        if reward.credits == "outcome" and measures:
            return use
    if evaluate is not None and evaluate.data.world is not None:
        return RewardUse(use=load_world(evaluate.data.world).ABOUT.answer_reward)
    raise RecipeError(
        "evaluate",
        "none of the recipe's rewards credits the outcome with 0 to 1, completion by completion",
        "evaluate: {answer: answer_number}",
    )


def perception_name(evaluate: Evaluate) -> str:
    """The reward that compares with p*: the one that is named, else the world's own, else `perception_exact`."""
    world = evaluate.data.world
    return evaluate.perception or (load_world(world).ABOUT.perception_reward if world else "perception_exact")


def perception_use(recipe: Recipe, evaluate: Evaluate) -> RewardUse:
    """The reward that measures `a_p`, with the settings that the recipe gives it where it stands among its rewards."""
    name = perception_name(evaluate)
    uses = [use for stage in recipe.stages for use in stage.rewards]
    return next((use for use in uses if use.use == name), RewardUse(use=name))


def recipe_rewards(recipe: Recipe) -> list[tuple[Reward, dict[str, Any]]]:
    """All rewards of all stages with their settings. Raises RecipeError where two stages set one differently."""
    settings: dict[str, dict[str, Any]] = {}
    for use in (use for stage in recipe.stages for use in stage.rewards):
        if settings.setdefault(use.use, use.with_) != use.with_:
            raise RecipeError(f"the reward '{use.use}'", "two stages give it different settings", "--rewards with one of them")
    return [(find_reward(use), given) for use, given in settings.items()]
