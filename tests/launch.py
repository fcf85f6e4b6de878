"""Starting rlperc the way a user does, and the quickstart cut down to seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
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


# Rewards that differ between the responses of a model with random weights, in the place of those of a stage or a recipe.
PAID = f"rewards=[{{use: '{ROOT}/tests/paid.py:long'}}, {{use: '{ROOT}/tests/paid.py:varied'}}]"
LEARNING = (
    *SHORT,
    PAID,
    "evaluate.answer=answer_number",
    "stages.warm.data.rows=192",
    "stages.warm.reweight={mode: dynamic, rule: ngdiff, every: 2}",
    "stages.see.data.rows=384",  # whole steps: with several processes a step that is not full takes rows again
    "stages.reason.train.max_steps=4",
    "stages.reason.train.learning_rate=1e-3",
    "stages.reason.train.warmup_steps=0",
    "stages.reason.train.per_device_train_batch_size=8",
)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def rlperc(*arguments: str, cwd: Path | None = None, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, as a user does."""
    command = [*(launcher or (sys.executable,)), "-m", "rlperc", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def in_two_processes(script: Path, *arguments: object, seconds: float = 300) -> None:
    """Run a script of ours under torchrun, whose processes assert for themselves; it ends them with `trainers.part`."""
    command = [*TORCHRUN, script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


class Begun:
    """A training that is looked at, and killed, while it goes. What it says goes to a file: a pipe would fill."""

    def __init__(self, folder: Path, *arguments: str, launcher: tuple[str, ...] = ()) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        command = [*(launcher or (sys.executable,)), "-m", "rlperc", "train", str(QUICKSTART), f"output={folder}", *arguments]
        with self.log.open("w") as said:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)

    def until(self, stage: str, step: int) -> None:
        """Wait until a step of a stage stands in the metrics."""
        metrics, limit = self.folder / "metrics.jsonl", time.monotonic() + 240
        while self.process.poll() is None and time.monotonic() < limit:
            lines = metrics.read_text().split("\n")[:-1] if metrics.exists() else []
            if any((one.get("stage"), one.get("step")) == (stage, step) for one in map(json.loads, lines)):
                return
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"it never came to step {step} of {stage}:\n{self.log.read_text()[-3000:]}")

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said."""
        return self.process.wait(timeout=240), self.log.read_text()


def values(folder: Path, stage: str) -> list[float]:
    """Loss and gradient norm of each step of a stage."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [one for one in lines if one["kind"] == "train" and one["stage"] == stage and "loss" in one]
    return [one[name] for one in steps for name in ("loss", "grad_norm")]
