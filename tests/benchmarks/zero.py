"""Memory of each process and time of a step, as `distributed:` spreads a model over two of them; and from one process to two.

    .venv/bin/python tests/benchmarks/zero.py

Memory: supervised steps of a model with some 80 million random weights in float32, small batches, on CPU with gloo; resident
MiB of the largest process. At the peak: also while models load, are gathered and saved. While it trains: from the third step on;
less that of the same run with the quickstart's tiny model, it is what weights, gradients, optimizer and communication take, and
`rlperc check`'s arithmetic for the first three stands beside it. Time: from the third step's line in the metrics to the last's.

Scaling: GRPO steps of the quickstart's tiny model, as many responses for each process, one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import QUICKSTART, SHORT, TORCHRUN, Begun

from rlperc.recipe.distributed import WAYS, deepspeed_config
from rlperc.recipe.load import load_recipe
from rlperc.recipe.memory import estimate
from rlperc.recipe.weights import model_sizes

LARGE = "model={tiny: {hidden_size: 768, heads: 12, text_layers: 12, init_std: 0.02}}"
SUPERVISED = (
    "evaluate=null",
    "stages.see.train.max_steps=1",
    "stages.reason.train.max_steps=1",
    "stages.reason.train.max_completion_length=4",
    "stages.see.train.per_device_train_batch_size=4",
    "stages.reason.train.per_device_train_batch_size=8",
    "stages.warm.train.per_device_train_batch_size=2",
)
STEPS, WARM = 10, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ways", nargs="+", default=[way for way in WAYS if "offload" not in way])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        memory(Path(folder), options.ways, options.repeats)
        scaling(Path(folder), options.repeats)


def memory(folder: Path, ways: list[str], repeats: int) -> None:
    print("| `distributed` | at the peak | while it trains | above a tiny model | by arithmetic | a step, s |")
    print("|---|---|---|---|---|---|")
    for way in ways:
        supervised = [*SHORT, *SUPERVISED, f"stages.warm.train.max_steps={STEPS}", f"distributed={way}"]
        found, above = [], []
        for repeat in range(repeats):
            run = folder / f"{way}-{repeat}"
            tiny = watched(Begun(folder / f"{way}-{repeat}-tiny", *supervised, launcher=TORCHRUN), "warm")
            found.append(watched(Begun(run, *supervised, LARGE, launcher=TORCHRUN), "warm"))
            above.append(found[-1].training - tiny.training)
        columns = [shown([one.peak for one in found]), shown([one.training for one in found]), shown(above)]
        columns += [f"{arithmetic(run, way):.0f}", shown([one.seconds for one in found], 2)]
        print(f"| {way} | {' | '.join(columns)} |", flush=True)


def arithmetic(run: Path, way: str) -> float:
    """MiB of weights, gradients and optimizer in each of two processes."""
    os.environ["WORLD_SIZE"] = "2"
    recipe = load_recipe(QUICKSTART, f"model={{name: '{run / 'model'}'}}", f"distributed={way}")
    config, stage = deepspeed_config(recipe), recipe.stages[1]
    sizes = model_sizes(stage.model)
    assert sizes is not None
    found = estimate(stage, sizes, config and config["zero_optimization"], None, half=False)
    del os.environ["WORLD_SIZE"]
    return sum(found[name] for name in ("weights", "gradients", "optimizer")) / 2**20


def scaling(folder: Path, repeats: int) -> None:
    options = (
        "evaluate=null",
        "stages.see.train.max_steps=1",
        "stages.warm.train.max_steps=1",
        f"stages.reason.train.max_steps={STEPS}",
    )
    print("\n| processes | a GRPO step, s | responses a second |\n|---|---|---|")
    for processes, launcher in ((1, ()), (2, TORCHRUN)):
        runs = (Begun(folder / f"scale-{processes}-{repeat}", *options, launcher=launcher) for repeat in range(repeats))
        times = [watched(run, "reason").seconds for run in runs]
        batch = load_recipe(QUICKSTART).stages[-1].train["per_device_train_batch_size"]
        print(f"| {processes} | {shown(times, 2)} | {shown([processes * batch / one for one in times])} |", flush=True)


class Watched(NamedTuple):
    """Of a run's largest process in MiB, at its peak and while a stage trains; and seconds of a step."""

    peak: float
    training: float
    seconds: float


def watched(run: Begun, stage: str) -> Watched:
    peak = training = 0.0
    seen: dict[int, float] = {}
    metrics = run.folder / "metrics.jsonl"
    while run.process.poll() is None:
        processes = children(run.process.pid)
        peak = max([peak, *(resident(process, "VmHWM") for process in processes)])
        if WARM < len(seen) < STEPS:
            training = max([training, *(resident(process, "VmRSS") for process in processes)])
        lines = metrics.read_text().split("\n")[:-1] if metrics.exists() else []
        for entry in map(json.loads, lines):
            if entry.get("stage") == stage and "loss" in entry:
                seen.setdefault(entry["step"], time.monotonic())
        time.sleep(0.02)
    code, said = run.end()
    if code:
        sys.exit(said[-3000:])
    return Watched(peak, training, (seen[STEPS] - seen[WARM + 1]) / (STEPS - WARM - 1))


def children(process: int) -> list[int]:
    file = Path(f"/proc/{process}/task/{process}/children")
    try:
        return list(map(int, file.read_text().split()))
    except OSError:
        return []


def resident(process: int, name: str) -> float:
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def shown(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
