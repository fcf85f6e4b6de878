"""vLLM's own server for a recipe: the command that starts it so that training can roll out on it.

What is heavy is imported where it is used: the process that watches the server for days stays small.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rlperc.errors import RecipeError
from rlperc.recipe.schema import RL_KINDS, Recipe, Stage

_USUAL = {
    # Else the chat endpoint takes from generation_config.json what a request leaves out, a limit to its length too.
    "generation_config": "vllm",
    # A line for each request would bury what a server says when it dies.
    "disable_uvicorn_access_log": True,
    # Else any page that is open in a browser on this machine may ask it.
    "allowed_origins": "[]",
}


class Start(NamedTuple):
    """What starts a server."""

    model: str
    command: list[str]
    environment: dict[str, str]
    """Beside what the process has already."""


def server_stage(recipe: Recipe) -> Stage:
    """The first stage whose responses a server draws. Raises RecipeError where there is none."""
    for stage in recipe.stages:
        if stage.kind in RL_KINDS and stage.rollout.on_server:
            return stage
    raise RecipeError(
        f"a server for '{recipe.name}'", "no RL stage of this recipe draws on one", "rollout: {engine: vllm, mode: server}"
    )


def prepare(recipe: Recipe, folder: Path) -> Start:
    """Make the model where it is a tiny one, and tell how to start its server.

    Args:
        recipe: a resolved recipe.
        folder: where a tiny model goes; the server reads it as long as it runs.

    Raises:
        UserError: no stage asks for a server, or the model cannot be found.
    """
    import torch

    from rlperc.train.start import computes_in, make_start, start_source
    from rlperc.train.vllm_setup import Setup

    stage = server_stage(recipe)
    make_start(recipe, folder)
    source = start_source(recipe, folder)
    setup = Setup(
        rollout=stage.rollout,
        dtype=computes_in(stage, source),
        revision=stage.model.revision if stage.model.tiny is None else None,
        trust_remote_code=stage.model.trust_remote_code,
        processor=stage.model.processor,
    )
    cuda = torch.cuda.is_available()
    options = {**_USUAL, **setup.engine_args(), "seed": recipe.seed, **_needed(setup.by_file)}
    place = urlsplit(stage.rollout.url)
    serve = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(source)]
    environment = {"VLLM_SERVER_DEV_MODE": "1", "PYTHONUNBUFFERED": "1"}
    return Start(
        str(source if stage.model.tiny is None else "the recipe's tiny model"),
        [*serve, f"--host={place.hostname}", f"--port={place.port}", *flags(options)],
        environment if cuda else {**environment, **_on_cpu()},
    )


def _fetch(stage: Stage) -> None:
    """Have a hub model here before its server starts, which is waited for."""
    from huggingface_hub import snapshot_download

    name = stage.model.name
    if name is None or Path(name).exists():
        return
    try:
        snapshot_download(name, revision=stage.model.revision)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:600]
        raise RecipeError(f"the model '{name}'", why, "a hub name, or a model's folder") from error


def prepare_apart(recipe: Recipe, folder: Path) -> Start:
    """`prepare` in a process of its own, which gives back what it loads: torch, TRL and what CUDA holds on a GPU."""
    from multiprocessing import get_context

    from pebble import ProcessPool

    pool = ProcessPool(1, context=get_context("spawn"))
    try:
        start: Start = pool.schedule(_prepare_quietly, args=(recipe, folder)).result()
        return start
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _prepare_quietly(recipe: Recipe, folder: Path) -> Start:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    _fetch(server_stage(recipe))
    return prepare(recipe, folder)


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options as vLLM's command line takes them: `None` is left out, a list becomes words, a mapping JSON."""
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *map(_word, value)]
        elif value is not None:
            words.append(f"--{flag}={_word(value)}")
    return words


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _needed(by_file: bool) -> dict[str, Any]:
    """What training needs of a server, whatever the recipe says."""
    from rlperc.train.vllm_transfer import NAME

    return {
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": -1,
        "weight_transfer_config": {"backend": NAME if by_file else "nccl"},
        "trust_request_chat_template": True,
    }


def _on_cpu() -> dict[str, str]:
    return {"VLLM_CPU_OMP_THREADS_BIND": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind")}
