"""Keeping a server up: start it, wait until it is well, start it again when it dies, and leave nothing behind."""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from rlperc.errors import RecipeError
from rlperc.recipe.rollout import Rollout

RESTARTS = 3
QUICK_S = 300.0  # a server that was well for longer has not died of how it was started
GRACE_S = 20.0
STRAGGLERS_S = 5.0
SHOWN_LINES = 20
LEASH = Path(__file__).with_name("leash.py")

# What the last lines of vLLM's log give away, and what to do about it.
REASONS = (
    (r"address already in use", "the port is taken: name another in rollout.url"),
    (r"unrecognized arguments|error: argument --", "an option under rollout.vllm that this vLLM does not take"),
    (
        r"\.so: file too short",
        "what a killed server was compiling is broken: delete the folder torchinductor_USER under the temporary folder",
    ),
    (
        r"out of memory|OutOfMemory|MemoryError|[Nn]o available memory|less than desired GPU memory|larger than the available KV",
        "not enough memory: lower rollout.vllm.max_model_len or gpu_memory_utilization, or free the GPU",
    ),
)
# What vLLM's compiled parts say at every end, and vLLM itself whenever it gets weights or forgets what it computed with others.
NOISE = r"nanobind: | - (leaked|\.\.\. skipped) |See https://nanobind|.*Failed to load weights$|.*[Rr]eset.* cache"


# An error by its name, and what vLLM's other processes say once the first one of them has failed.
ERROR = r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception): \S.*)"
AFTERMATH = r"EngineDead|[Ss]tack trace|[Rr]oot cause"


class ServerDied(Exception):
    """The server did not start, or died again and again. Says how, and shows the end of its log."""


@dataclass(frozen=True)
class Server:
    """How to start a server, where it will answer `/health`, and where its output goes."""

    command: Sequence[str]
    url: str
    log: Path
    wait_s: float
    """Seconds from a start to the first answer."""
    environment: Mapping[str, str]
    """Beside what this process has."""


def check_port(url: str) -> None:
    """Raises RecipeError where something listens at a URL's port, or the host is another machine."""
    parts = urlsplit(url)
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((parts.hostname, parts.port))
        except (OSError, OverflowError) as error:
            known = " and answers /health, as vLLM does" if _is_well(url) else ""
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            raise RecipeError(
                f"a server at {url}",
                f"something listens there already{known}" if taken else f"this machine cannot listen there: {error}",
                "another port, in the training's command too: rollout.url=http://127.0.0.1:PORT",
            ) from None


def is_loopback(url: str) -> bool:
    """Whether only this machine reaches a URL."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.")


def supervise(server: Server, ready: str, say: Callable[[str], None], quick_s: float = QUICK_S) -> None:
    """Keep a server up. However this ends, by an exception or by SIGKILL, nothing of the server is left.

    Args:
        server: what to start.
        ready: said each time it answers.
        say: told what happens.
        quick_s: a server that answered for longer starts the count of deaths anew.

    Raises:
        ServerDied: it did not answer after its first start, or died more than `RESTARTS` times in a row.
    """
    server.log.parent.mkdir(parents=True, exist_ok=True)
    server.log.write_bytes(b"")
    with TemporaryDirectory(prefix="rlperc-compiled-") as folder:
        _keep_up(server, ready, say, quick_s, Path(folder))


def _keep_up(server: Server, ready: str, say: Callable[[str], None], quick_s: float, folder: Path) -> None:
    deaths, served = 0, False
    for start in itertools.count():
        # What a server was compiling when it was killed is broken, and the next one would die of it.
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / str(start))} if start else {}
        again = replace(server, environment={**server.environment, **cache})
        what, lived = _serve_once(again, lambda: say(ready))
        served = served or lived is not None
        deaths = deaths + 1 if lived is None or lived < quick_s else 1
        if not served:
            raise ServerDied(f"the server did not start: {what}")
        if deaths > RESTARTS:
            raise ServerDied(f"the server died {deaths} times in a row, the last time so: {what}")
        say(f"the server died: {what}\n  starting it again ({deaths} of at most {RESTARTS} times in a row)")


def unanswered(rollouts: Iterable[Rollout]) -> list[str]:
    """What to say of servers that responses are to come from and that do not answer now."""
    absent = {one.url: one.wait_s for one in rollouts if one.on_server and not _is_well(one.url)}
    return [
        f"warning: no vLLM server answers at {url} yet (`rlperc serve`, with the same overrides); the training will wait "
        f"{wait_s:g} s for it when it needs one"
        for url, wait_s in absent.items()
    ]


def _serve_once(server: Server, ready: Callable[[], None]) -> tuple[str, float | None]:
    """Start it, and wait for its end; what is told of that, and for how many seconds it had been well (None: never)."""
    since = server.log.stat().st_size
    with _running(server) as process:
        fault, lived = _watched(server, process, ready)
        # Read before the rest of its group is ended, which has much to say about that.
        return f"{fault}{_end_of_log(server.log, since)}", lived


def _watched(server: Server, process: subprocess.Popen[bytes], ready: Callable[[], None]) -> tuple[str, float | None]:
    """How it ended, and for how many seconds it had been well."""
    until = time.monotonic() + server.wait_s
    while not _is_well(server.url):
        if process.poll() is not None:
            return _ending(process.returncode), None
        if time.monotonic() > until:
            return f"no answer within {server.wait_s:g} s (rollout.wait_s)", None
        time.sleep(0.2)
    ready()
    began = time.monotonic()
    code = process.wait()
    return _ending(code), time.monotonic() - began


@contextmanager
def _running(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    leashed = [sys.executable, "-I", str(LEASH), str(GRACE_S), *server.command]
    environment = {**os.environ, **server.environment}
    with server.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - the recipe's model and options, and no shell
            leashed, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    """End the server, and then whoever is left of its group: asked first, killed in the end."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    until = time.monotonic() + STRAGGLERS_S
    _signal_group(process.pid, signal.SIGTERM)
    while _signal_group(process.pid, 0) and time.monotonic() < until:
        time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anyone to signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _is_well(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _ending(code: int) -> str:
    number = -code if code < 0 else code - 128
    if number == signal.SIGKILL:
        return "it was killed (SIGKILL), as the kernel does where memory runs out"
    if number > 0:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(number).name}"
    return f"it ended with exit code {code}"


def _end_of_log(log: Path, since: int) -> str:
    """The last lines, after the reason where the last MiB makes it plain, and the first error in it."""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - 2**20))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if not re.match(NOISE, line)]
    advice = next((f"; {advice}" for sign, advice in REASONS if re.search(sign, "\n".join(lines), re.IGNORECASE)), "")
    shown = "".join(f"    {line}\n" for line in lines[-SHOWN_LINES:])
    errors = (found[1] for line in lines if (found := re.search(ERROR, line)) and not re.search(AFTERMATH, line))
    first = next((f"    {error[:500]}\n    …\n" for error in errors), "")
    return f"{advice}\n{first}{shown}  its whole log: {log}"
