"""Weights, gradients and optimizer states that DeepSpeed's ZeRO spreads over processes.

transformers and accelerate hold one configuration for a whole process. Here each stage has its own, and models that are
measured between the stages are whole ones.
"""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.state import AcceleratorState
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config
from trl.models.utils import unwrap_model_for_generation


def before_configs() -> None:
    """Give DeepSpeed what it wants of a launcher, where there is none: one process is a launch of one."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        _compile_nothing()
    if "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
        os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in alone.items()}})


def _compile_nothing() -> None:
    # Without GPUs DeepSpeed compiles an operator for inference that no training calls: minutes, and where such a build was
    # killed, its lock stays, at which every later run waits for ever.
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False


def after_configs() -> None:
    """Let DeepSpeed know the process group: under ZeRO-3 models load through it, before any trainer has made itself known."""
    import deepspeed

    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo")
    unset_hf_deepspeed_config()


@contextmanager
def as_configured(args: Any) -> Iterator[None]:
    """Inside, a model loads and trains as its stage's config spreads it; outside, each process has a whole one."""
    AcceleratorState._reset_state()  # accelerate makes no second one with another configuration
    config = getattr(args, "hf_deepspeed_config", None)
    if config is not None:
        set_hf_deepspeed_config(config)
    try:
        yield
    finally:
        unset_hf_deepspeed_config()


@contextmanager
def whole_models(args: Any) -> Iterator[None]:
    """Inside a stage, models that load are whole ones all the same: a reward's own."""
    config = getattr(args, "hf_deepspeed_config", None)
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config is not None:
            set_hf_deepspeed_config(config)


def has_parts(trainer: Any) -> bool:
    """Whether each process holds a part of the weights."""
    return bool(trainer.is_deepspeed_enabled and trainer.accelerator.state.deepspeed_plugin.zero_stage == 3)


def gathered(trainer: Any) -> dict[str, torch.Tensor] | None:
    """All weights, in the first process; None where every process has them. All processes take part in it."""
    if not has_parts(trainer):
        return None
    weights: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return weights


def let_go(engine: Any) -> None:
    """End an engine of DeepSpeed, so that its memory can be freed."""
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    engine.destroy()
    # DeepSpeed 0.19 keeps the model in a list, and the engine in the cache of a method, for as long as the program runs.
    parameter_offload.FWD_MODULE_STACK.clear()
    method = PartitionedParameterCoordinator._PartitionedParameterCoordinator__params_to_release
    inspect.getclosurevars(method).nonlocals["func"].cache_clear()  # behind the decorator that names it for profilers


@contextmanager
def whole(trainer: Any) -> Iterator[Any]:
    """The model with all its weights in every process, to be used at each one's own pace."""
    if not has_parts(trainer):
        yield trainer.model
        return
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
        yield model
