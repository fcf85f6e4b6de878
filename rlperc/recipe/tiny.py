"""`--tiny`: the recipe as it is, on a random tiny model of its architecture, in two short steps for each stage.

What the recipe says of rewards, blend, LoRA, freezing, sharding and rollouts stays, so that these are tried before hours of
GPUs are paid for. An override wins over what is changed here.
"""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable
from typing import Any, get_args

from rlperc.errors import RecipeError
from rlperc.recipe.architectures import HUB_NAMES, architecture_of
from rlperc.recipe.batches import TRL_DEFAULTS, launched
from rlperc.recipe.schema import RL_KINDS, Architecture, Model

STEPS, TOKENS, GROUP, ROWS, MICRO = 2, 16, 4, 16, 2
SIDE = 64  # pixels of the tiny model's image
CONTEXT = 2048  # tokens that every tiny model takes

Given = Callable[..., bool]
"""Whether an override says what stands under a path of keys."""


def make_tiny(recipe: dict[str, Any], given: Given) -> str:
    """Change a resolved recipe's data, which no schema has seen yet, in place.

    Args:
        recipe: what `load_recipe` would validate.
        given: told a path, such as `("stages", "reason", "train", "max_steps")`.

    Returns:
        What was changed, in a line.

    Raises:
        RecipeError: the architecture is unknown, or rlperc builds no tiny model of it.
    """
    said = []
    # What the stages have in common may be one object.
    recipe["stages"] = [copy.deepcopy(stage) for stage in recipe.get("stages") or []]
    for stage in (stage for stage in recipe["stages"] if isinstance(stage, dict)):
        said += [_shrink_model(stage, _under(given, stage, "model")), _shrink_rollout(stage, _under(given, stage, "rollout"))]
        if isinstance(stage.setdefault("train", {}), dict):
            _shrink_train(stage, stage["train"], _under(given, stage, "train"))
            _shrink_rows(stage, stage["train"], _under(given, stage, "data"))
    _shrink_evaluate(recipe, given)
    if not given("output"):
        recipe["output"] = f"{recipe['output']}-tiny"
    said += [f"{STEPS} steps and few rows for each stage, responses of {TOKENS} tokens, where no override says more"]
    return "; ".join(dict.fromkeys(one for one in [*said, f"output={recipe['output']}"] if one))


def _under(given: Given, stage: dict[str, Any], part: str) -> Given:
    return lambda *path: given("stages", stage.get("name"), part, *path)


def _shrink_model(stage: dict[str, Any], given: Given) -> str:
    model = stage.get("model")
    if not isinstance(model, dict) or model.get("name") is None:
        return ""  # it is tiny already, or the schema says what is wrong
    name, tiny = str(model.pop("name")), model.get("tiny") or {}
    architecture = tiny.get("architecture") or _known(name, model.get("revision"))
    model["tiny"] = {"image_size": SIDE, **tiny, "architecture": architecture}
    for option in ("revision", "trust_remote_code", "attn_implementation", "dtype"):
        if not given(option):
            model.pop(option, None)
    return f"a random {architecture} in float32 for {name}"


def _known(name: str, revision: str | None) -> Architecture:
    architecture = architecture_of(Model(name=name, revision=revision))
    for known in get_args(Architecture):
        if known == architecture:
            return known  # type: ignore[no-any-return]
    asked, can = f"--tiny with the model '{name}'", ", ".join(HUB_NAMES)
    if architecture is None:
        why = "neither is it on this machine, where its config.json would name its architecture, nor a name that rlperc knows"
        raise RecipeError(asked, why, f"model.tiny.architecture= one of {can}, or model.name= a folder that holds the model")
    why = f"it is a {architecture}, of which rlperc builds no tiny one"
    raise RecipeError(asked, why, f"model.tiny.architecture= one of {can}, to try the rest of the recipe")


def _shrink_rollout(stage: dict[str, Any], given: Given) -> str:
    rollout = stage.get("rollout")
    if not isinstance(rollout, dict) or rollout.get("engine") != "vllm":
        return ""
    if importlib.util.find_spec("vllm") is None and not given("engine"):
        stage["rollout"] = {"engine": "transformers"}
        return "transformers draws, because vllm is not installed here"
    options = rollout.get("vllm")
    if isinstance(options, dict):
        for option in ("tensor_parallel_size", "dtype"):
            if not given("vllm", option):
                options.pop(option, None)
        if isinstance(options.get("max_model_len"), int) and not given("vllm", "max_model_len"):
            options["max_model_len"] = min(options["max_model_len"], CONTEXT)
    return ""


def _shrink_train(stage: dict[str, Any], train: dict[str, Any], given: Given) -> None:
    """Each process draws whole groups, so that they fit together in any number of processes."""

    def put(option: str, value: Any) -> None:
        if not given(option):
            train[option] = value

    put("max_steps", STEPS)
    for option in ("bf16", "fp16", "generation_batch_size"):
        if not given(option):
            train.pop(option, None)
    for option in ("gradient_accumulation_steps", "steps_per_generation"):
        if isinstance(train.get(option), int):
            put(option, min(train[option], MICRO))
    if stage.get("kind") not in RL_KINDS:
        put("per_device_train_batch_size", GROUP)
        return
    put("max_completion_length", TOKENS)
    group = train.get("num_generations", TRL_DEFAULTS[stage["kind"]]["num_generations"])
    steps = train.get("steps_per_generation") or train.get("gradient_accumulation_steps") or 1
    if isinstance(group, int) and isinstance(steps, int) and group > 0:
        put("num_generations", min(group, GROUP))
        whole = train["num_generations"] // math.gcd(train["num_generations"], steps)
        put("per_device_train_batch_size", whole if whole > 1 else 2)


def _shrink_rows(stage: dict[str, Any], train: dict[str, Any], given: Given) -> None:
    data = stage.get("data")
    if not isinstance(data, dict) or given("rows"):
        return
    sizes = [train.get(name) or 1 for name in ("per_device_train_batch_size", "gradient_accumulation_steps")]
    each = math.prod(size for size in sizes if isinstance(size, int))
    _few(data, max(ROWS, STEPS * each * launched()))


def _shrink_evaluate(recipe: dict[str, Any], given: Given) -> None:
    evaluate = recipe["evaluate"] = copy.deepcopy(recipe.get("evaluate"))
    if not isinstance(evaluate, dict):
        return
    for option, value in (("max_new_tokens", TOKENS), ("batch_size", ROWS)):
        if not given("evaluate", option):
            evaluate[option] = value
    curve = evaluate.get("curve")
    if isinstance(curve, dict) and not given("evaluate", "curve", "every"):
        curve["every"] = 1
    for part, path in ((evaluate, ("evaluate",)), (curve, ("evaluate", "curve"))):
        if isinstance(part, dict) and isinstance(part.get("data"), dict) and not given(*path, "data", "rows"):
            _few(part["data"], ROWS)


def _few(data: dict[str, Any], rows: int) -> None:
    named = data.get("rows")
    data["rows"] = min(named, rows) if isinstance(named, int) else rows
