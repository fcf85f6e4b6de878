"""This process: what it runs on, what it takes, and what it shares with the others of its run."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import platform
import resource
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from rlperc.errors import UserError

T = TypeVar("T")


def in_first(state: PartialState, act: Callable[[], T]) -> T:
    """What the first process finds, in every process; a user's error too, so that none waits for the others."""
    shared: list[Any] = [None]
    if state.is_main_process:
        try:
            shared[0] = act()
        except UserError as error:
            shared[0] = error
    found = broadcast_object_list(shared)[0]
    if isinstance(found, UserError):
        raise found
    return found  # type: ignore[no-any-return]


def versions() -> dict[str, str]:
    """What this run ran on."""
    packages = ("rlperc", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "numpy", "Pillow", "scikit-learn")
    found = {name: importlib.metadata.version(name) for name in packages}
    for name in ("vllm", "deepspeed"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {**found, "python": sys.version.split()[0], "platform": platform.platform(), "threads": str(torch.get_num_threads())}


def peak_memory() -> float:
    """Peak resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def release() -> None:
    """Give a model's memory back before the next one is loaded: trainers sit in reference cycles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _AboveBars(logging.Handler):
    """Our warnings on lines of their own: behind a progress bar nobody reads them."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def quiet(tiny: bool) -> None:
    """Leave out what the libraries say about one another; and their bars, where a tiny model loads in no time."""
    transformers.utils.logging.set_verbosity_error()
    if tiny:
        transformers.utils.logging.disable_progress_bar()
    if not logging.getLogger("rlperc").handlers:
        logging.getLogger("rlperc").addHandler(_AboveBars())
    # TRL 1.16 still uses transformers' old name for activation checkpointing, at every generation.
    warnings.filterwarnings("ignore", message=r".*gradient_checkpointing\w*. is deprecated", category=FutureWarning)
    # DeepSpeed 0.19 uses torch's old names for collectives, at every one.
    warnings.filterwarnings("ignore", message=r".torch\.distributed\.\w+. is deprecated", category=FutureWarning)
