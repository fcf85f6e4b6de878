"""`rlperc serve`: a vLLM server for a recipe, kept up beside its training."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

DIED = 1


def add_serve(commands: Any) -> None:
    """Add the command to those of a parser.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    serve = commands.add_parser("serve", help="keep up the vLLM server that a recipe's rollouts come from")
    serve.add_argument("recipe", help="the recipe that is trained, with `rollout: {engine: vllm, mode: server}`")
    serve.add_argument("overrides", nargs="*", metavar="a.b=c", help="the same as for `rlperc train`")
    serve.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """Serve until stopped (exit code 143 after SIGTERM) or until vLLM dies for good (1). Raises UserError."""
    from tempfile import TemporaryDirectory

    from rlperc.recipe.check_rollout import check_rollout
    from rlperc.recipe.environment import check_versions
    from rlperc.recipe.load import load_recipe
    from rlperc.train.serve import prepare_apart, server_stage
    from rlperc.train.supervise import Server, ServerDied, check_port, supervise

    recipe = load_recipe(options.recipe, *options.overrides)
    stage = server_stage(recipe)
    for extra in recipe.extras:
        check_versions(extra)
    check_rollout(stage)
    rollout = stage.rollout
    check_port(rollout.url)
    _warn_if_open(rollout.url)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    with TemporaryDirectory(prefix="rlperc-serve-") as folder:
        start = prepare_apart(recipe, Path(folder))
        log = Path(f"{recipe.output}-serve.log").absolute()
        _say(f"starting vLLM with {start.model}; its log: {log}")
        train = shlex.join(["rlperc", "train", options.recipe, *options.overrides])
        try:
            supervise(
                Server(start.command, rollout.url, log, rollout.wait_s, start.environment),
                f"serving {start.model} at {rollout.url}; now: {train}",
                _say,
            )
        except ServerDied as error:
            print(f"rlperc: {error}", file=sys.stderr)
    return DIED


def _warn_if_open(url: str) -> None:
    from rlperc.train.supervise import is_loopback

    if not is_loopback(url):
        _say(f"warning: whoever reaches {url} can use the server and change its weights; it asks for no password")


def _say(text: str) -> None:
    print(text, flush=True)
