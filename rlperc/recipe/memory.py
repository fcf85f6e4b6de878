"""How much memory a stage takes, by arithmetic: weights, gradients, optimizer, activations, keys and values, vLLM.

Weights, gradients and optimizer: ZeRO (arXiv 1910.02054, section 3.1 and figure 1). Activations: arXiv 2205.05198,
equation 2 without its attention term, which flash and memory-efficient attention do not keep.
"""

from __future__ import annotations

from typing import Any

from rlperc.recipe.batches import launched, responses_per_process
from rlperc.recipe.machine import gib
from rlperc.recipe.schema import RL_KINDS, Stage
from rlperc.recipe.weights import Sizes

PROMPT = 1024
"""Tokens that a prompt with an image is taken to have, where nothing says more."""
_FP32 = 4
_LAYER = 34
"""Bytes of activations in a layer for each token and unit of width, in half precision."""


class Estimate(dict[str, float]):
    """Bytes by what they are for. Responses are drawn and learned from in turn, so that only the larger of the two counts."""

    @property
    def total(self) -> float:
        """Bytes at the peak."""
        return sum(self.values()) - min(self.get("activations", 0), self.get("keys and values", 0))

    def __str__(self) -> str:
        return ", ".join(f"{name} {gib(size)}" for name, size in self.items() if size >= 1e8)


def estimate(stage: Stage, sizes: Sizes, zero: dict[str, Any] | None, gpu: int | None, half: bool) -> Estimate:
    """Of one process.

    Args:
        stage: of any kind.
        sizes: of its model.
        zero: the section `zero_optimization` of DeepSpeed's configuration; None under DDP.
        gpu: bytes of memory of a GPU, of which vLLM in `colocate` takes a share.
        half: it computes in half precision.
    """
    found = Estimate(_states(stage, sizes, zero or {}, half))
    tokens, responses = _tokens(stage)
    width = 2 if half else _FP32
    batch = int(stage.train.get("per_device_train_batch_size", 8))
    layers = sizes.layers * width if stage.train.get("gradient_checkpointing", True) else sizes.layers * _LAYER * width / 2
    found["activations"] = batch * tokens * sizes.hidden * (layers + _LAYER * width / 2)
    # The logits, their logarithm in float32, and the gradient of it.
    found["activations"] += batch * min(tokens, responses) * sizes.vocabulary * (width + 2 * _FP32)
    if stage.kind in RL_KINDS and stage.rollout.engine == "transformers":
        drawn = responses_per_process(stage) * tokens
        found["keys and values"] = 2 * sizes.layers * sizes.kv_width * drawn * width
    if gpu and stage.rollout.engine == "vllm" and stage.rollout.mode == "colocate":
        found["vLLM"] = gpu * float(stage.rollout.vllm.get("gpu_memory_utilization", 0.3))  # TRL's default
    return found


def _states(stage: Stage, sizes: Sizes, zero: dict[str, Any], half: bool) -> dict[str, float]:
    """Weights, gradients and optimizer states, of the policy and of what else the stage trains or keeps."""
    level, processes = int(zero.get("stage", 0)), launched()
    # DeepSpeed keeps half-precision weights beside a float32 copy of its share.
    width = 2 if zero and half else stored_width(stage, sizes)
    beta = stage.train.get("beta", 0.05 if stage.kind == "rloo" else 0.0)  # TRL's defaults
    reference = bool(beta) and stage.model.lora is None
    trunk = stage.ppo is not None and stage.ppo.trunk == "own"
    trained = sizes.trained(stage.model) + (sizes.total if trunk else 0)
    master = _FP32 if zero else 0
    states = trained * (2 * (_FP32 if zero else width) + master) / (processes if level >= 1 else 1)
    # DDP's buckets are a second copy of the gradients.
    gradients = trained * width * (2 if not zero and processes > 1 else 1) / (processes if level >= 2 else 1)
    weights = (1 + reference + trunk) * sizes.total * width / (processes if level == 3 else 1)
    return {
        "weights": 0 if zero.get("offload_param") else weights,
        "gradients": gradients,
        "optimizer": 0 if zero.get("offload_optimizer") else states,
    }


def stored_width(stage: Stage, sizes: Sizes) -> float:
    """Bytes of a weight, in memory and on the disk."""
    return {"float32": 4.0, "auto": sizes.stored}.get(stage.model.dtype, 2.0)


def _tokens(stage: Stage) -> tuple[int, int]:
    """Of the longest sequence, and those of it that logits are computed for."""
    if stage.kind not in RL_KINDS:
        return 2 * PROMPT, 2 * PROMPT
    responses = int(stage.train.get("max_completion_length", 512))
    room = stage.rollout.vllm.get("max_model_len")
    return (int(room) if room else PROMPT + responses), responses


def checkpoint_size(stage: Stage, sizes: Sizes) -> float:
    """Bytes of a checkpoint on the disk: weights (or adapters), and unless left out the optimizer's two states."""
    trained, width = sizes.trained(stage.model), stored_width(stage, sizes)
    kept = trained if stage.model.lora is not None else sizes.total
    return kept * width + (0 if stage.train.get("save_only_model") else 2 * trained * width)
