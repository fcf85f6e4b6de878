"""Everything about a recipe that can be known before a model loads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rlperc.errors import DataError, RecipeError
from rlperc.recipe.architectures import architecture_of, lacks_torchvision
from rlperc.recipe.batches import check_batches
from rlperc.recipe.check_credit import check_credit
from rlperc.recipe.check_rollout import check_rollout
from rlperc.recipe.credit import RewardUse
from rlperc.recipe.distributed import deepspeed_config
from rlperc.recipe.options import check_options
from rlperc.recipe.peek import first_row, with_pictures
from rlperc.recipe.rewards import LoadedReward, answer_use, load_rewards, perception_use, trl_functions
from rlperc.recipe.rows import Row, check_prompt, text_columns, with_image_size
from rlperc.recipe.schema import RL_KINDS, Data, Evaluate, Model, Recipe, Stage
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import check_columns, check_settings

MODEL_FILES = {
    "configuration": ("config.json",),
    "model": ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    "processor": ("processor_config.json", "preprocessor_config.json"),
    "tokenizer": ("tokenizer.json", "tokenizer_config.json"),
}
"""What a model's folder holds, one file of each at least."""


def check_recipe(recipe: Recipe) -> list[str]:
    """Check a recipe: options, batches, rewards, data.

    Returns:
        Notes: what cannot be known here and is no fault of the recipe.

    Raises:
        UserError: the recipe cannot run as it is.
    """
    notes: list[str] = []
    deepspeed_config(recipe)
    notes += _check_model(recipe.stages[0].model)
    for stage in recipe.stages:
        notes += check_options(stage)
        row, note = _row(stage.data)
        notes += [note] if note else []
        if stage.kind in RL_KINDS:
            check_batches(stage, stage.data.rows if stage.data.world else None)
            loaded = load_rewards(stage)
            check_credit(stage, loaded)
            notes += check_rollout(stage)
            notes += _check_rewards(loaded, row, recipe, stage)
        elif row is not None:
            _check_supervised(stage, row)
    if any(stage.rollout.engine == "vllm" for stage in recipe.stages) and "vllm" not in recipe.extras:
        notes.append("rollout: no stage of this recipe draws responses, so that vLLM is not used")
    if recipe.evaluate is not None:
        notes += _check_evaluate(recipe, recipe.evaluate)
    return list(dict.fromkeys(notes))


def _check_model(model: Model) -> list[str]:
    """Only a folder can be looked at here; a hub name is looked up when training starts."""
    name = str(model.name or "")
    if name.startswith("/"):
        for part, files in MODEL_FILES.items():
            if not any((Path(name) / file).is_file() for file in files):
                raise RecipeError(
                    f"the model '{name}'",
                    f"there is no {part} in such a folder: {' or '.join(files)}",
                    "model: {name: a hub name, or a folder that a model's and its processor's save_pretrained wrote}",
                )
    architecture = architecture_of(model)
    if lacks_torchvision(architecture):
        return [f"model: the processor of {architecture} needs torchvision, which is not installed here"]
    return []


def _row(data: Data) -> tuple[Row | None, str]:
    row, note = first_row(data)
    if row is None:
        return None, note
    check_prompt(data, row)
    return {**row, **text_columns(data, row)}, ""


def _check_rewards(loaded: list[LoadedReward], row: Row | None, recipe: Recipe, stage: Stage) -> list[str]:
    if row is None:
        return []
    for one in loaded:
        check_columns(one.reward, list(row), stage.data.source)
    tried = [one for one in loaded if not one.reward.needs_scorer and not one.use.with_.get("server")]
    _try(tried, row, recipe, stage)
    return [
        f"stages.{stage.name}: the reward '{one.reward.name}' is not tried here, because it asks "
        + ("the training model" if one.reward.needs_scorer else f"the server {one.use.with_['server']}")
        for one in loaded
        if one not in tried
    ]


def _try(loaded: list[LoadedReward], row: Row, recipe: Recipe, stage: Stage) -> None:
    """Score an empty response and the gold one: a reward that raises says so now, not after the model has loaded."""
    functions = trl_functions(loaded, recipe, stage, on_error="stop")
    size = functions[0].group_size if functions else 1
    texts = ["", *[str(row.get("response") or "")] * max(1, size - 1)]
    ids = [[0] * max(1, len(text) // 4) for text in texts]  # as if every four letters were a token
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    row = with_image_size(with_pictures(row, stage.data))
    # Only the processor knows how it will resize; for a try, not at all will do.
    row = {"resized_size": row.get("image_size"), **row}
    columns: dict[str, Any] = {name: [value] * len(texts) for name, value in row.items()}
    prompts = columns.pop("prompt")
    state = SimpleNamespace(global_step=0, max_steps=1, epoch=0.0)
    extra = {"trainer_state": state, "log_extra": lambda *_: None, "log_metric": lambda *_: None}
    for function in functions:
        try:
            function(prompts, completions, ids, **columns, **extra)
        finally:
            function.runner.close()


def _check_supervised(stage: Stage, row: Row) -> None:
    column = {"contrast": "cells" if "cells" in row else "perception", "sft": "response"}[stage.kind]
    if column not in row:
        raise DataError(
            f"the stage '{stage.name}' ({stage.kind}) on {stage.data.source}",
            f"it needs the column '{column}'; the data has {', '.join(sorted(row))}",
            f"columns: {{{column}: the column's name in the data}}",
        )
    if stage.kind == "sft" and stage.train.get("packing"):
        asked = f"the stage '{stage.name}' with packing: true"
        if row.get("image") is not None or row.get("images"):
            raise RecipeError(
                asked, "TRL packs text alone, and the rows have images", "leave packing out, or rows without images"
            )
        if stage.train.get("max_length") is None:
            why = "responses are packed up to max_length, of which rlperc's default is none, since it could cut images off"
            raise RecipeError(asked, why, "train: {packing: true, max_length: 1024}")


def _check_evaluate(recipe: Recipe, evaluate: Evaluate) -> list[str]:
    use = answer_use(recipe)
    check_measures(use, perception_use(recipe, evaluate))
    answer = find_reward(use.use)
    notes = _seen_in_training(recipe, evaluate)
    for data in [evaluate.data, *([evaluate.curve.data] if evaluate.curve else [])]:
        row, note = _row(data)
        notes += [note] if note else []
        if row is not None:
            check_columns(answer, list(row), data.source)
    return notes


def check_measures(answer: RewardUse, perception: RewardUse) -> None:
    """Refuse rewards that cannot measure a model. Raises RecipeError."""
    for use, what in ((answer, "answer"), (perception, "perception")):
        reward = find_reward(use.use)
        check_settings(reward, use.with_)
        if reward.scope == "group" or reward.needs_scorer:
            raise RecipeError(
                f"evaluate with the reward '{reward.name}'",
                "it " + ("asks the training model" if reward.needs_scorer else "compares several completions of a prompt"),
                "a reward of one completion, such as perception_exact",
            )
        if reward.style != "rlperc":
            raise RecipeError(
                f"evaluate with the reward '{reward.name}'",
                "a plain TRL function needs a trainer around it",
                "one marked with @reward",
            )
        if reward.range != (0.0, 1.0):
            low, high = reward.range
            raise RecipeError(
                f"evaluate with the reward '{reward.name}'",
                f"its range is {low:g} to {high:g}, and a, a_p and a_r are fractions",
                "evaluate: {answer: a reward with the range 0 to 1}",
            )
        # What is asked for may be all there is to see, and verified by a reward that credits seeing.
        credited = ("perception",) if what == "perception" else ("outcome", *["perception"] * ("answer" in reward.columns))
        if reward.credits not in credited:
            raise RecipeError(
                f"evaluate: {{{what}: {reward.name}}}",
                f"it credits {reward.credits}, and does not say whether the {what} is right",
                "answer_number or the like" if what == "answer" else "perception_exact or the like",
            )


def _seen_in_training(recipe: Recipe, evaluate: Evaluate) -> list[str]:
    """A note where the rows to measure on come from where the training rows come from."""

    def place(data: Data) -> tuple[Any, ...]:
        return data.world, data.file, data.folder, data.hub, data.subset, data.split

    shared = [stage.name for stage in recipe.stages if place(stage.data) == place(evaluate.data)]
    if not shared:
        return []
    return [
        f"evaluate: measures on {evaluate.data.source}, which '{shared[0]}' trains on; name other rows to see what generalises"
    ]
