"""`rlperc serve`: a vLLM server for a recipe, kept up beside its training; `rlperc parity`: whether vLLM is the policy."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from rlperc.cli_recipe import add_recipe, read_recipe

DIED = 1
_OVERRIDES = "the same as for `rlperc train`"


def add_serve(commands: Any) -> None:
    """Add the commands to those of a parser.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    serve = commands.add_parser("serve", help="keep up the vLLM server that a recipe's rollouts come from")
    add_recipe(serve, "the recipe that is trained, with `rollout: {engine: vllm, mode: server}`", _OVERRIDES)
    serve.set_defaults(run=run_serve)
    parity = commands.add_parser("parity", help="compare vLLM with the trainer, as training does before its first step")
    add_recipe(parity, "a recipe with `rollout: {engine: vllm}`", _OVERRIDES)
    parity.set_defaults(run=run_parity)


def run_serve(options: argparse.Namespace) -> int:
    """Serve until stopped (exit code 143 after SIGTERM) or until vLLM dies for good (1). Raises UserError."""
    from tempfile import TemporaryDirectory

    from rlperc.recipe.check_rollout import check_rollout
    from rlperc.recipe.environment import check_versions
    from rlperc.train.serve import prepare_apart, server_stage
    from rlperc.train.supervise import Server, ServerDied, check_port, supervise

    recipe = read_recipe(options)
    stage = server_stage(recipe)
    check_versions(*recipe.extras)
    check_rollout(stage)
    rollout = stage.rollout
    check_port(rollout.url)
    _warn_if_open(rollout.url)
    # Under nohup the hangup is ignored, and stays so.
    for number in (number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    with TemporaryDirectory(prefix="rlperc-serve-") as folder:
        start = prepare_apart(recipe, Path(folder))
        log = Path(f"{recipe.output}-serve.log").absolute()
        _say(f"starting vLLM with {start.model}; its log: {log}")
        train = shlex.join(["rlperc", "train", options.recipe, *(["--tiny"] if options.tiny else []), *options.overrides])
        try:
            supervise(
                Server(start.command, rollout.url, log, rollout.wait_s, start.environment),
                f"serving {start.model} at {rollout.url}; now: {train}",
                _say,
            )
        except ServerDied as error:
            print(f"rlperc: {error}", file=sys.stderr)
    return DIED


def run_parity(options: argparse.Namespace) -> int:
    """Print what was compared. Raises UserError, with the differences where there are too many."""
    from tempfile import TemporaryDirectory

    from rlperc.recipe.check import check_recipe
    from rlperc.recipe.environment import check_versions

    recipe = read_recipe(options)
    check_versions(*recipe.extras)
    check_recipe(recipe)
    quiet_vllm()
    from rlperc.process import quiet
    from rlperc.train.parity_alone import parity_alone

    quiet(tiny=recipe.stages[0].model.tiny is not None)
    with TemporaryDirectory(prefix="rlperc-parity-") as folder:
        print(parity_alone(recipe, Path(folder)))
    return 0


def quiet_vllm() -> None:
    """Before TRL imports vLLM: its notes on every start are left out, and on a CPU what it warns of in every step."""
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING" if torch.cuda.is_available() else "ERROR")


def _warn_if_open(url: str) -> None:
    from rlperc.train.supervise import is_loopback

    if not is_loopback(url):
        _say(f"warning: whoever reaches {url} can use the server and change its weights; it asks for no password")


def _say(text: str) -> None:
    print(text, flush=True)
