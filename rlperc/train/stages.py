"""One stage: its host's config, what its rows must hold, and its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import GRPOConfig, RLOOConfig, SFTConfig

from rlperc.errors import DataError
from rlperc.recipe.batches import check_batches
from rlperc.recipe.rewards import load_rewards, trl_functions
from rlperc.recipe.schema import RL_KINDS, Model, Recipe, Stage
from rlperc.reward.runner import check_columns
from rlperc.train.checkpoints import Checkpoints
from rlperc.train.contrast import train_contrast
from rlperc.train.credit import bind
from rlperc.train.grpo import PPOConfig, rl_trainer, train_rl
from rlperc.train.images import has_images
from rlperc.train.models import frozen_names, load_model
from rlperc.train.options import build_config
from rlperc.train.sft import train_sft
from rlperc.train.sharding import as_configured, whole_models
from rlperc.train.trained import Trained
from rlperc.train.vllm_setup import Setup
from rlperc.words.response import Tags, read_response


def stage_config(recipe: Recipe, stage: Stage, folder: Path) -> Any:
    """The host trainer's config for a stage. Raises RecipeError where the host refuses it."""
    match stage.kind:
        case "contrast":
            # The language model has no part in the contrast, and DDP would wait for its gradients.
            fixed = {"remove_unused_columns": False, "ddp_find_unused_parameters": True}
            return build_config(TrainingArguments, recipe, stage, folder, forced=fixed)
        case "sft":
            # TRL's limit of 1,024 tokens could cut image tokens off.
            return build_config(SFTConfig, recipe, stage, folder, {"max_length": None})
        case "grpo" | "ppo" | "rloo":
            forced: dict[str, Any] = {}
            if stage.model.revision is not None or stage.model.trust_remote_code:
                # With beta above 0 TRL loads the reference by the model's name, and must load the same one.
                shared = {"revision": stage.model.revision, "trust_remote_code": stage.model.trust_remote_code}
                forced["model_init_kwargs"] = {key: value for key, value in shared.items() if value}
            forced |= _vllm_options(stage)
            config: type[Any] = {"grpo": GRPOConfig, "ppo": PPOConfig, "rloo": RLOOConfig}[stage.kind]
            return build_config(config, recipe, stage, folder, {"log_completions": True, "num_completions_to_print": 0}, forced)


def check_rows(stage: Stage, rows: Dataset, tags: Tags) -> None:
    """Hold a stage's loaded rows to what could not be known before. Raises UserError."""
    responses = rows["response"] if stage.reweight is not None and "response" in rows.column_names else []
    if responses and not any(read_response(text or "", tags).perception is not None for text in responses):
        raise DataError(
            f"`reweight` in the stage '{stage.name}' on {stage.data.source}",
            f"none of the {len(rows)} responses has a readable <{tags.perception}>, whose tokens it would weigh",
            "tags: {perception: what it is called there}, or leave `reweight` out",
        )
    if stage.kind not in RL_KINDS:
        return
    check_batches(stage, len(rows))
    for one in load_rewards(stage):
        check_columns(one.reward, rows.column_names, stage.data.source)


def check_images(stage: Stage, rows: Dataset, args: Any) -> None:
    """Refuse rows on which processes that hold parts of the vision tower would wait for one another. Raises DataError."""
    with as_configured(args):
        parts = is_deepspeed_zero3_enabled() and PartialState().num_processes > 1
    without = has_images(rows).count(False) if parts else 0
    if 0 < without < len(rows):
        raise DataError(
            f"the stage '{stage.name}' ({stage.kind}) on {stage.data.source}",
            f"{without} of {len(rows)} rows have no image: where weights are split over processes (ZeRO-3), all of them "
            "need an image at the same moment, or wait for ever",
            "distributed: zero2 or ddp, or data in which every row has an image or none has",
        )


def train_stage(
    recipe: Recipe,
    stage: Stage,
    args: Any,
    model: Any,
    processor: Any,
    rows: Dataset,
    callbacks: Sequence[TrainerCallback],
    checkpoints: Checkpoints,
) -> Trained:
    """Train a stage.

    Raises:
        UserError: the data is not what the stage needs, or a reward broke its contract.
    """
    match stage.kind:
        case "contrast":
            return train_contrast(model, processor, rows, args, callbacks, stage.data.source, checkpoints)
        case "sft":
            lora = _lora(stage.model, model)
            source = stage.data.source
            return train_sft(model, processor, rows, args, callbacks, source, checkpoints, lora, stage.reweight, recipe.tags)
        case "grpo" | "ppo" | "rloo":
            return train_rl(make_trainer(recipe, stage, args, model, processor, rows, callbacks), checkpoints)


def make_trainer(
    recipe: Recipe, stage: Stage, args: Any, model: Any, processor: Any, rows: Dataset, callbacks: Sequence[TrainerCallback]
) -> Any:
    """The trainer of an RL stage. Raises UserError: a reward cannot be loaded, or the host refuses what it is given."""
    with whole_models(args):
        loaded = load_rewards(stage)
    trunk = None
    if stage.ppo is not None and stage.ppo.trunk == "own":
        whole = stage.model.model_copy(update={"freeze": []})
        trunk = load_model(model.name_or_path, whole)[0].base_model
    return rl_trainer(
        model,
        processor,
        rows,
        args,
        callbacks,
        rewards=trl_functions(loaded, recipe, stage),
        credit=bind(stage.blend, loaded),
        tags=recipe.tags,
        peft_config=_lora(stage.model, model),
        ppo=stage.ppo,
        trunk=trunk,
        setup=_setup(stage, args, model),
    )


def _vllm_options(stage: Stage) -> dict[str, Any]:
    """What TRL itself has to know of vLLM, by its own names."""
    rollout = stage.rollout
    if rollout.engine != "vllm":
        return {}
    names = {"max_model_len": "vllm_max_model_length"}
    for name in ("tensor_parallel_size", "gpu_memory_utilization", "enable_sleep_mode", "model_impl"):
        names[name] = f"vllm_{name}"
    return {
        "use_vllm": True,
        "vllm_mode": rollout.mode,
        "vllm_server_base_url": rollout.url,
        "vllm_server_timeout": rollout.wait_s,
        **{names[name]: value for name, value in rollout.vllm.items() if name in names},
    }


def _setup(stage: Stage, args: Any, model: Any) -> Setup | None:
    if stage.rollout.engine != "vllm":
        return None
    half = "bfloat16" if args.bf16 else "float16" if args.fp16 else None
    return Setup(
        rollout=stage.rollout,
        dtype=half or str(model.dtype).removeprefix("torch."),
        seed=args.seed,
        revision=stage.model.revision if model.name_or_path == stage.model.name else None,
        trust_remote_code=stage.model.trust_remote_code,
        processor=stage.model.processor,
        folder=args.output_dir,
    )


def _lora(settings: Model, model: Any) -> LoraConfig | None:
    lora = settings.lora
    if lora is None:
        return None
    frozen = {name.rpartition(".")[0] for part in settings.freeze for name in frozen_names(model, part)}
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=sorted(frozen) or None,
        task_type="CAUSAL_LM",
    )
