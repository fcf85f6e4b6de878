"""What can be said of a stage's `rollout` before vLLM starts."""

from __future__ import annotations

from rlperc.errors import RecipeError, did_you_mean
from rlperc.recipe.batches import launched
from rlperc.recipe.options import fits, option_types
from rlperc.recipe.schema import Stage

# What a recipe says elsewhere, or the training needs as it is.
OWNED = {
    "model": "model: {name: …}",
    "tokenizer": "model: {name: …}, whose folder holds the tokenizer",
    "revision": "model: {revision: …}",
    "tokenizer_revision": "model: {revision: …}",
    "trust_remote_code": "model: {trust_remote_code: …}",
    "mm_processor_kwargs": "model: {processor: {…}}, which the trainer's own processor is told too",
    "seed": "seed: …, at the top of the recipe",
    "logprobs_mode": "leave it out: the log-probabilities have to be those that were sampled from",
    "distributed_executor_backend": "leave it out: the launcher starts the processes",
    "weight_transfer_config": "rollout: {sync: …}",
    "host": "rollout: {url: …}",
    "port": "rollout: {url: …}",
}


def check_rollout(stage: Stage) -> list[str]:
    """Check the options of vLLM.

    Returns:
        Notes: what could not be checked here.

    Raises:
        RecipeError: an option is unknown, has its place elsewhere, or does not go with the mode.
    """
    rollout, where = stage.rollout, f"stages.{stage.name}.rollout.vllm"
    if rollout.engine != "vllm":
        return []
    known = option_types("EngineArgs")
    for option, value in rollout.vllm.items():
        if option in OWNED:
            raise RecipeError(f"'{where}.{option}'", "a recipe says this in one place only", OWNED[option])
        if known is not None and option not in known:
            raise RecipeError(
                f"the option '{option}' in '{where}'", "vLLM's EngineArgs have none of that name", _near(option, known)
            )
        if known is not None and not fits(value, known[option]):
            raise RecipeError(f"'{where}.{option}: {value}'", f"vLLM takes {known[option]} there", "such a value, text in quotes")
    _check_parallel(stage, where)
    _check_room(stage, where)
    if rollout.on_server and rollout.vllm.get("enable_sleep_mode"):
        raise RecipeError(
            f"'{where}.enable_sleep_mode'",
            "a server has its GPUs to itself, and nobody would wake it",
            "mode: colocate, or leave it out",
        )
    notes = [] if known is not None else [f"{where}: not checked, because vllm is not installed here"]
    if stage.kind != "rloo" and stage.train.get("vllm_importance_sampling_correction") is False:
        notes.append(f"stages.{stage.name}: without vllm_importance_sampling_correction nothing watches vLLM's log-probabilities")
    return notes


def _check_room(stage: Stage, where: str) -> None:
    """Refuse a context that responses alone would fill; how long prompts are is known once the model has loaded."""
    room, wanted = stage.rollout.vllm.get("max_model_len"), stage.train.get("max_completion_length")
    if isinstance(room, int) and isinstance(wanted, int) and 0 < room <= wanted:
        raise RecipeError(
            f"'{where}.max_model_len: {room}'",
            f"it holds a prompt and its response, and max_completion_length is {wanted}",
            f"max_model_len: {wanted} and the tokens of the longest prompt, or more",
        )


def _near(option: str, known: dict[str, str]) -> str:
    """The nearest option: some 200 are too many to list."""
    near = did_you_mean(option, known)
    return near if near.startswith("did you mean") else "a field of vLLM's EngineArgs, as in gpu_memory_utilization"


def _check_parallel(stage: Stage, where: str) -> None:
    processes = launched()
    size = stage.rollout.vllm.get("tensor_parallel_size", 1)
    if stage.rollout.mode == "colocate" and (not isinstance(size, int) or size < 1 or processes % size):
        raise RecipeError(
            f"'{where}.tensor_parallel_size: {size}'",
            f"{processes} training process{'es' if processes > 1 else ''} cannot be divided into engines of {size}",
            f"a divisor of {processes}, or more processes from torchrun",
        )
