"""Training on responses from a server that `rlperc serve` keeps up: synced each step, shared by processes, killed."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch import QUICKSTART, ROOT, SHORT, in_two_processes, rlperc
from rollouts import build, differences, every_kind, rolling
from trainers import pay

from rlperc.errors import RolloutError
from rlperc.train.vllm_client import FileClient

EXACT = 2e-5
pytest.importorskip("vllm.engine")


class Served:
    """A server, the model that it started with, and what a trainer has to know of it."""

    def __init__(self, architecture: str, folder: Path) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{one.getsockname()[1]}"
        self.start = build(architecture, folder / "start")
        self.log = folder / "run-serve.log"
        rollout = f"rollout={{engine: vllm, mode: server, url: '{self.url}', vllm: {{max_model_len: 512}}}}"
        command = ["serve", str(QUICKSTART), f"model={{name: {self.start}}}", f"output={folder / 'run'}", rollout]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlperc", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.overrides = ("rollout.mode=server", f"rollout.url={self.url}")

    def wait(self) -> None:
        """Until it answers."""
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if line.startswith("serving"):
                return
        raise AssertionError(said)

    def kill(self) -> None:
        """End the server itself, not its supervisor."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            port = f"--port={self.url.rpartition(':')[2]}".encode()
            leash = any(word.endswith(b"leash.py") for word in words)
            if b"vllm.entrypoints.cli.main" in words and port in words and not leash:
                os.kill(int(folder.name), signal.SIGKILL)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module", params=["idefics3_tiles", "qwen2_5_vl"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(request.param, tmp_path_factory.mktemp(request.param))
    server.wait()
    yield server
    server.stop()


def make(served: Served, folder: Path, *overrides: str) -> Any:
    trainer = rolling(served.start, folder, every_kind(), *served.overrides, *overrides)
    pay(trainer, lambda _, text: float(len(set(text))))
    return trainer


@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_two_steps(served: Served, kind: str, tmp_path: Path) -> None:
    trainer = make(served, tmp_path, f"stages.reason.kind={kind}")
    assert differences(trainer)[1] < EXACT
    before = [value.detach().clone() for value in trainer.model.parameters()]
    trainer.train()
    assert any((now != then).any() for now, then in zip(trainer.model.parameters(), before, strict=True))
    assert differences(trainer)[1] < EXACT
    assert not (tmp_path / "weights").exists()


def test_adapters_are_merged_on_their_way(served: Served, tmp_path: Path) -> None:
    trainer = make(served, tmp_path, "stages.reason.model.lora={r: 4}", "stages.reason.train.learning_rate=0.05")
    trainer.train()
    assert differences(trainer)[1] < EXACT
    with trainer.model.disable_adapter():
        assert differences(trainer)[1] > 1e-3


def test_an_update_that_was_left_open_is_closed(served: Served, tmp_path: Path) -> None:
    """By a training that was ended in the middle of it: the server would take no other."""
    trainer = make(served, tmp_path)
    for _ in range(5):  # right after each other: what follows an error must not run into its closing connection
        trainer.vllm_generation.vllm_client._post(f"{served.url}/start_weight_update", json={})
        trainer.vllm_generation.sync_weights()
    trainer.train()
    assert differences(trainer)[1] < EXACT


def test_two_processes_share_it(served: Served, tmp_path: Path) -> None:
    in_two_processes(ROOT / "tests" / "on_vllm" / "ranks.py", served.start, tmp_path, *served.overrides)


@pytest.mark.parametrize("when", ["drawing", "syncing"])
def test_a_server_that_dies_is_found_again_and_gets_the_weights(
    served: Served, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (when == "syncing") != (served.start.parent.name.startswith("qwen")):
        pytest.skip("once for each of the two")
    trainer = make(served, tmp_path)
    client, inner = trainer.vllm_generation.vllm_client, trainer.vllm_generation.vllm_client._send
    address, deaths = {"drawing": "/v1/chat/completions", "syncing": "/update_weights"}[when], []

    def send(url: str, **kwargs: Any) -> Any:
        if url.endswith(address) and trainer.state.global_step == 1 and not deaths:
            deaths.append(trainer.state.global_step)
            served.kill()
        return inner(url, **kwargs)

    monkeypatch.setattr(client, "_send", send)
    trainer.train()
    assert deaths == [1]
    assert trainer.state.global_step == 2
    assert differences(trainer)[1] < EXACT


def test_without_a_server_there_is_a_message(tmp_path: Path) -> None:
    rollout = "rollout={engine: vllm, mode: server, url: 'http://127.0.0.1:9', wait_s: 1}"
    done = rlperc("train", str(QUICKSTART), f"output={tmp_path / 'run'}", *SHORT, rollout)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "rlperc serve RECIPE" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_vllm_server_is_not_waited_for(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:  # 501 to everything
        threading.Thread(target=other.serve_forever, daemon=True).start()
        handler = type("Found", (http.server.BaseHTTPRequestHandler,), {"do_GET": lambda self: self.send_error(404)})
        other.RequestHandlerClass = handler
        with pytest.raises(RolloutError, match="no vLLM server: it answers 404"):
            FileClient(str(tmp_path), base_url=f"http://127.0.0.1:{other.server_port}", connection_timeout=60)
        other.shutdown()


def test_a_server_of_another_model_is_said(served: Served, tmp_path: Path) -> None:
    trainer = make(served, tmp_path)
    client = trainer.vllm_generation.vllm_client
    matrices = [(name, value) for name, value in trainer.model.state_dict().items() if value.dim() == 2]
    weights = [(name, value[:, : value.shape[1] // 2]) for name, value in matrices]
    with pytest.raises(RolloutError, match="as one that serves another model"):
        client.update_named_params(None, iter(weights))
    trainer.vllm_generation.sync_weights()
    assert differences(trainer)[1] < EXACT


def test_one_that_stays_away_ends_the_run(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(served, tmp_path)
    monkeypatch.setattr(trainer.vllm_generation, "server_timeout", 1)
    monkeypatch.setattr(trainer.vllm_generation.vllm_client, "base_url", "http://127.0.0.1:9")
    with pytest.raises(RolloutError, match=r"does not answer[\s\S]*rlperc serve RECIPE"):
        trainer.train()
