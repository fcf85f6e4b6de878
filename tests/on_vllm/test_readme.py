"""The README's commands on vLLM, cut down to seconds and moved to a free port."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from launch import ROOT, SHORT

SECTION = (ROOT / "README.md").read_text().partition("## Rollouts on vLLM")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^\$ rlperc (.*)$", SECTION, re.MULTILINE)


def started(words: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlperc", *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_commands(tmp_path: Path) -> None:
    serve, train, parity = (shlex.split(command) for command in COMMANDS)
    assert [serve[0], train[0], parity[0]] == ["serve", "train", "parity"]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        place = f"rollout.url=http://127.0.0.1:{one.getsockname()[1]}"
    server = started([*serve, *SHORT, place], tmp_path)
    try:
        assert server.stdout is not None
        assert any(line.startswith("serving") for line in server.stdout)
        done = started([*train, *SHORT, place], tmp_path)
        said, _ = done.communicate(timeout=600)
        assert done.returncode == 0, said[-3000:]
        assert json.loads((tmp_path / "runs" / "served" / "summary.json").read_text())["parity"]["reason"]["max"] < 1e-4
    finally:
        server.terminate()
        server.wait(60)
    alone = started([*parity, *SHORT], tmp_path)
    said, _ = alone.communicate(timeout=600)
    assert alone.returncode == 0, said[-3000:]
    assert "the same ids; log-probabilities" in said
