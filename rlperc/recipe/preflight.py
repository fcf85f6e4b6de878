"""What a recipe needs against what this machine has, before anything that costs time."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rlperc.errors import MachineError, MissingPackageError, UserError
from rlperc.recipe.batches import launched
from rlperc.recipe.distributed import deepspeed_config
from rlperc.recipe.environment import check_versions
from rlperc.recipe.machine import GIB, free_disk, gib, gpu_memory, left_locks, processes_here, shared_memory
from rlperc.recipe.memory import checkpoint_size, estimate, stored_width
from rlperc.recipe.schema import Recipe, Stage
from rlperc.recipe.weights import Sizes, model_sizes

SHARED, PLACE = GIB, "/dev/shm"  # noqa: S108 - looked at, not written to
"""Bytes of shared memory below which NCCL and data loaders of several processes run out of it. Docker gives 64 MiB."""


class Lack(NamedTuple):
    """Something that the machine lacks. What is `sure` stops a training; what is estimated is said."""

    error: UserError
    sure: bool = False

    def __str__(self) -> str:
        return f"{self.error.asked}: {self.error.why}; {self.error.instead}"


def preflight(recipe: Recipe) -> list[Lack]:
    """What this machine lacks, as far as it can be told before a model loads."""
    gpus, sizes = gpu_memory(), model_sizes(recipe.stages[0].model)
    found = [*_versions(recipe), *_folder(recipe.output), *_gpus(gpus), *_shared(recipe, gpus), *_builds(recipe)]
    if sizes is not None:
        found += _disk(recipe, sizes)
        config = deepspeed_config(recipe)
        zero = config and config["zero_optimization"]
        found += [lack for stage in recipe.stages for lack in _memory(stage, sizes, zero, gpus)]
    return found


def check_machine(recipe: Recipe) -> list[str]:
    """What of it is estimated, as warnings.

    Raises:
        MachineError, MissingPackageError: what is sure.
    """
    found = preflight(recipe)
    for lack in found:
        if lack.sure:
            raise lack.error
    return [str(lack) for lack in found]


def _versions(recipe: Recipe) -> list[Lack]:
    try:
        check_versions(*recipe.extras)
    except MissingPackageError as error:
        return [Lack(error, sure=True)]
    return []


def _folder(output: Path) -> list[Lack]:
    """Try it: rights, quotas and odd file systems are told apart by nothing else."""
    there = next(place for place in (output.absolute(), *output.absolute().parents) if place.exists())
    if not there.is_dir():
        return [Lack(MachineError(f"the output folder {output}", f"{there} is a file", "output=another/folder"), sure=True)]
    try:
        with TemporaryDirectory(prefix=".rlperc-", dir=there):
            return []
    except OSError as error:
        why = f"nothing can be made in {there}: {error.strerror}"
        return [Lack(MachineError(f"the output folder {output}", why, "output=another/folder"), sure=True)]


def _gpus(gpus: list[int]) -> list[Lack]:
    here = processes_here()
    if not gpus or here <= len(gpus):
        return []
    asked, why = f"{here} processes on this machine", f"it shows {len(gpus)} GPUs, and each process takes one"
    instead = f"torchrun --nproc_per_node {len(gpus)}, or more GPUs in CUDA_VISIBLE_DEVICES"
    return [Lack(MachineError(asked, why, instead), sure=True)]


def _shared(recipe: Recipe, gpus: list[int]) -> list[Lack]:
    size = shared_memory(PLACE)
    loaders = any(stage.train.get("dataloader_num_workers") for stage in recipe.stages)
    if size is None or size >= SHARED or not ((gpus and processes_here() > 1) or loaders):
        return []
    why = f"{PLACE} has {gib(size)}, through which NCCL and data loaders talk, and they fail when it is full"
    instead = f"docker run --shm-size 16g; compose: shm_size; Kubernetes: an emptyDir of medium Memory on {PLACE}"
    return [Lack(MachineError("processes that share memory", why, instead))]


def _builds(recipe: Recipe) -> list[Lack]:
    """DeepSpeed compiles its optimizer for offloaded states when it is first used."""
    config = deepspeed_config(recipe)
    if config is None or "offload_optimizer" not in config["zero_optimization"]:
        return []
    why = "no process here holds it: a build that was killed seems to have left it, and the next one waits for it for ever"
    return [Lack(MachineError(f"the lock {lock}", why, f"rm {lock}, where none is being made")) for lock in left_locks()]


def _disk(recipe: Recipe, sizes: Sizes) -> list[Lack]:
    """Room for one checkpoint and for the models that stages leave, also of a run that goes on; and for all that is kept."""
    free, asked = free_disk(recipe.output), f"writing into {recipe.output}"
    if free is None:
        return []
    saving = [stage for stage in recipe.stages if stage.train.get("save_strategy") != "no"]
    checkpoint = max((checkpoint_size(stage, sizes) for stage in saving), default=0.0)
    models = sum(sizes.total * stored_width(stage, sizes) for stage in recipe.stages)
    kept = max((_kept(stage) for stage in saving), default=0)
    takes = f"a checkpoint takes {gib(checkpoint)}, the models of all stages {gib(models)}, and there is room for {gib(free)}"
    if free < checkpoint + models:
        return [Lack(MachineError(asked, takes, "output=a folder on another disk, or free some room"), sure=True)]
    if free < kept * checkpoint + models:
        return [Lack(MachineError(asked, f"{takes}, for {kept} checkpoints", "train: {save_total_limit: 2} keeps the last two"))]
    return []


def _kept(stage: Stage) -> int:
    """Checkpoints that a stage keeps, and one more while the next is written."""
    steps, every = stage.train.get("max_steps"), stage.train.get("save_steps", 500)
    limit = stage.train.get("save_total_limit")
    counted = isinstance(steps, int) and isinstance(every, int) and steps > 0 and every > 0
    made = int(steps) // int(every) if counted else 2  # type: ignore[arg-type]
    return min(made, int(limit) + 1) if limit else made


def _memory(stage: Stage, sizes: Sizes, zero: dict[str, Any] | None, gpus: list[int]) -> list[Lack]:
    gpu = min(gpus, default=0)
    found = estimate(stage, sizes, zero, gpu, half=_half(stage, bool(gpus)))
    if gpu and found.total < gpu:
        return []
    asked = f"stages.{stage.name}: by estimate {gib(found.total)} of GPU memory in each process, {launched()} in all ({found})"
    why = f"the GPU has {gib(gpu)}" if gpu else "there is no GPU here"
    instead = "less of it with distributed: zero2 or zero3, model: {lora: {r: 16}}, or a smaller per_device_train_batch_size"
    return [Lack(MachineError(asked, why, instead))]


def _half(stage: Stage, gpu: bool) -> bool:
    """TRL computes in bfloat16 on a GPU where nothing else is said."""
    bf16, fp16 = stage.train.get("bf16"), stage.train.get("fp16")
    return bool(bf16 or fp16 or stage.model.dtype in ("bfloat16", "float16") or (gpu and bf16 is None))
