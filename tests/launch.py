"""Starting rlperc the way a user does, and the quickstart cut down to seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "recipes" / "quickstart.yaml"
# The quickstart in seconds: every part of it is real, nothing is learned.
SHORT = (
    "stages.see.train.max_steps=3",
    "stages.see.data.rows=192",
    "stages.warm.train.max_steps=3",
    "stages.warm.data.rows=96",
    "stages.reason.train.max_steps=2",
    "stages.reason.train.per_device_train_batch_size=16",
    "stages.reason.train.max_completion_length=16",
    "stages.reason.data.rows=8",
    "evaluate.data.rows=16",
    "evaluate.max_new_tokens=16",
    "evaluate.curve.every=1",
    "evaluate.curve.data.rows=8",
)


def rlperc(*arguments: str, cwd: Path | None = None, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, as a user does."""
    command = [*(launcher or (sys.executable,)), "-m", "rlperc", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
