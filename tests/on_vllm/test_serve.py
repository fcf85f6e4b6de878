"""`rlperc serve` with vLLM's own server: it answers as the training asks, comes back when killed, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch import QUICKSTART

pytest.importorskip("vllm.engine")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    rollout = f"{{engine: vllm, mode: server, url: '{url}', vllm: {{max_model_len: 512}}}}"
    command = ["serve", str(QUICKSTART), f"output={tmp_path / 'run'}", f"stages.reason.rollout={rollout}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlperc", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    yield process, url
    process.kill()
    process.wait()
    for group in _groups(url):
        os.killpg(group, signal.SIGKILL)


def test_a_server_from_its_start_to_its_end(server: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    process, url = server
    _until(process, "serving the recipe's tiny model")
    answer = _ask(url)
    assert len(answer["choices"][0]["token_ids"]) == 5
    assert answer["choices"][0]["logprobs"]["content"][0]["logprob"] < 0
    assert answer["prompt_token_ids"]
    assert _get(f"{url}/get_world_size") == {"world_size": 1}
    engine = _get(f"{url}/server_info?config_format=json")["vllm_config"]
    assert engine["weight_transfer_config"]["backend"] == "rlperc_file"
    assert engine["model_config"]["dtype"] == "torch.float32"
    assert "Application startup complete" in (tmp_path / "run-serve.log").read_text()

    (group,) = _groups(url)
    before = _members(group)
    os.kill(_api_server(url), signal.SIGKILL)
    assert "it was killed (SIGKILL)" in _until(process, "the server died")
    _until(process, "serving the recipe's tiny model")
    assert _members(group) == []
    assert len(before) >= 3  # the leash, the server and its engine
    assert _ask(url)["choices"][0]["token_ids"] == answer["choices"][0]["token_ids"]

    (group,) = _groups(url)
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 143
    assert _members(group) == []
    assert not list(tmp_path.glob("rlperc-serve-*"))


def _until(process: subprocess.Popen[str], words: str) -> str:
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"rlperc serve ended with {process.wait()} before it said '{words}'")


def _ask(url: str) -> dict[str, Any]:
    model = _get(f"{url}/v1/models")["data"][0]["id"]
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    question = {
        "model": model,
        "messages": [{"role": "user", "content": "How many digits are above 3?"}],
        "max_tokens": 5,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 0,
        "return_token_ids": True,
        "chat_template": template,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def _processes() -> list[tuple[int, int, list[str]]]:
    """Every process that still runs: its id, its group and its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found += [(int(entry.name), int(group), words)] if state != "Z" else []
        except OSError:
            continue
    return found


def _groups(url: str) -> set[int]:
    """The groups of the servers at a URL; `rlperc serve` itself does not name its port so."""
    return {group for _, group, words in _processes() if f"--port={url.rpartition(':')[2]}" in words}


def _members(group: int) -> list[int]:
    return [process for process, own, _ in _processes() if own == group]


def _api_server(url: str) -> int:
    port = f"--port={url.rpartition(':')[2]}"
    return next(process for process, group, words in _processes() if port in words and process != group)
