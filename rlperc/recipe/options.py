"""The options of the host trainers, read from their source: importing TRL would load torch for a spelling check."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from rlperc.errors import RecipeError, did_you_mean
from rlperc.recipe.credit import Ppo
from rlperc.recipe.schema import Kind, Stage

CONFIGS: dict[Kind, str] = {
    "contrast": "TrainingArguments",
    "sft": "SFTConfig",
    "grpo": "GRPOConfig",
    "ppo": "GRPOConfig",
    "rloo": "RLOOConfig",
}
_FILES = {
    "TrainingArguments": ("transformers", "training_args.py"),
    "_BaseConfig": ("trl", "trainer/base_config.py"),
    "SFTConfig": ("trl", "trainer/sft_config.py"),
    "GRPOConfig": ("trl", "trainer/grpo_config.py"),
    "RLOOConfig": ("trl", "trainer/rloo_config.py"),
    "EngineArgs": ("vllm", "engine/arg_utils.py"),
}
# What a recipe says elsewhere, so that it is said once.
OWNED = {
    "output_dir": "output: …, at the top of the recipe",
    "seed": "seed: …, at the top of the recipe",
    "report_to": "report_to: …, at the top of the recipe",
    "reward_weights": "rewards: [{use: …, weight: …}]",
    "multi_objective_aggregation": "blend: {mode: sum} or {mode: normalize_then_sum}",
    "model_init_kwargs": "model: {dtype: …, attn_implementation: …}",
    "remove_unused_columns": "leave it out: the rewards need the columns",
    "eval_strategy": "evaluate: {data: …, curve: {every: …}}",
    "enable_jit_checkpoint": "leave it out: SIGTERM saves and ends a run, which goes on with --resume",
    "ignore_data_skip": "leave it out: a run that goes on with --resume goes on at its row",
    "deepspeed": "distributed: zero2, or ./my.json, at the top of the recipe",
    "use_vllm": "rollout: {engine: vllm}",
    "vllm_mode": "rollout: {engine: vllm, mode: …}",
    "vllm_server_base_url": "rollout: {engine: vllm, mode: server, url: …}",
    "vllm_server_host": "rollout: {engine: vllm, mode: server, url: …}",
    "vllm_server_port": "rollout: {engine: vllm, mode: server, url: …}",
    "vllm_server_timeout": "rollout: {engine: vllm, mode: server, wait_s: …}",
    "vllm_max_model_length": "rollout: {engine: vllm, vllm: {max_model_len: …}}",
    "vllm_gpu_memory_utilization": "rollout: {engine: vllm, vllm: {gpu_memory_utilization: …}}",
    "vllm_tensor_parallel_size": "rollout: {engine: vllm, vllm: {tensor_parallel_size: …}}",
    "vllm_enable_sleep_mode": "rollout: {engine: vllm, vllm: {enable_sleep_mode: …}}",
    "vllm_model_impl": "rollout: {engine: vllm, vllm: {model_impl: …}}",
}


# What TRL's loss looks its options up under, once a model has loaded; a test holds them against its source.
CHOICES: dict[str, tuple[str | bool, ...]] = {
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none", True, False),
}

_SCALARS: dict[str, tuple[type, ...]] = {
    "None": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "dict": (dict,),
    "list": (list,),
}


@functools.cache
def option_types(config: str) -> dict[str, str] | None:
    """A config class's fields, with those it inherits, and their annotations; None where its package is not installed."""
    package, file = _FILES[config]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    source = (Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8")
    body = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == config)
    types: dict[str, str] = {}
    for base in body.bases:
        if isinstance(base, ast.Name) and base.id in _FILES:
            types |= option_types(base.id) or {}
    for statement in body.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            types[statement.target.id] = ast.unparse(statement.annotation)
    return {name: annotation for name, annotation in types.items() if not name.startswith("_")}


def fits(value: object, annotation: str) -> bool:
    """Whether a value from YAML can be of an annotated type; True where the annotation is not a plain one."""
    words = [word.strip().partition("[")[0] for word in annotation.split("|")]
    if not all(word in _SCALARS for word in words):
        return not isinstance(value, bool) or "bool" in words  # `no`, unquoted, is YAML's word for false
    allowed = tuple(kind for word in words for kind in _SCALARS[word])
    return isinstance(value, allowed) and (not isinstance(value, bool) or bool in allowed)


def _place(option: str, known: Iterable[str]) -> str:
    """Where an option of ours belongs, or the nearest one of the host's."""
    if option in Ppo.model_fields:
        return f"ppo: {{{option}: …}}, beside `train:`, in a stage of kind: ppo"
    if option in Stage.model_fields:
        return f"{option}: …, beside `train:`"
    return did_you_mean(option, known)


def check_options(stage: Stage) -> list[str]:
    """Refuse options that the host does not have or that the recipe says elsewhere.

    Returns:
        Notes: what could not be checked here.

    Raises:
        RecipeError: an option is unknown, or has its place elsewhere.
    """
    config = CONFIGS[stage.kind]
    known = option_types(config)
    where = f"stages.{stage.name}.train"
    for option, value in stage.train.items():
        if option in OWNED:
            raise RecipeError(f"'{where}.{option}'", "a recipe says this in one place only", OWNED[option])
        if option == "resume_from_checkpoint" and value:
            raise RecipeError(
                f"'{where}.resume_from_checkpoint'",
                "transformers' trainer takes no notice of this option",
                f"rlperc train … --resume, to go on with a run; model: {{name: {value}}}, to begin from those weights",
            )
        if option in ("fsdp", "fsdp_config") and value:
            raise RecipeError(
                f"'{where}.{option}'",
                "rlperc does not gather what FSDP shards, and would save a part of the model as the whole; accelerate takes "
                "FSDP on GPUs only, where it was not tried",
                "distributed: zero3, at the top of the recipe",
            )
        if known is not None and option not in known:
            raise RecipeError(f"the option '{option}' in '{where}'", f"{config} has none of that name", _place(option, known))
        if config == "GRPOConfig" and option in CHOICES and value not in CHOICES[option]:
            words = [word for word in CHOICES[option] if isinstance(word, str)]
            raise RecipeError(f"'{where}.{option}: {value}'", "TRL knows no such word", did_you_mean(str(value), words))
        if known is not None and not fits(value, known[option]):
            raise RecipeError(
                f"'{where}.{option}: {value}'", f"{config} takes {known[option]} there", "such a value, text in quotes"
            )
    return [] if known is not None else [f"{where}: not checked, because {_FILES[config][0]} is not installed here"]
