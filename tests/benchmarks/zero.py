"""Memory of each process and time of a step, as `distributed:` spreads a model over two of them; and from one process to two.

    .venv/bin/python tests/benchmarks/zero.py

Memory: supervised steps of a model with some 80 million random weights in float32, small batches, on CPU with gloo. The peak of a
process's resident memory, less that of the same run with the quickstart's tiny model, is what weights, gradients, optimizer and
communication take; `rlperc check`'s arithmetic for weights, gradients and optimizer stands beside it. Peaks while models load and
are saved count too. Time: from the third step's line in the metrics to the last one's.

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
    print("| `distributed` | peak of a process, MiB | above a tiny model's | by arithmetic | a step, s |\n|---|---|---|---|---|")
    for way in ways:
        peaks, times = [], []
        for repeat in range(repeats):
            run = folder / f"{way}-{repeat}"
            supervised = [*SHORT, *SUPERVISED, f"stages.warm.train.max_steps={STEPS}", f"distributed={way}"]
            tiny = watched(Begun(folder / f"{way}-{repeat}-tiny", *supervised, launcher=TORCHRUN), "warm")[0]
            peak, seconds = watched(Begun(run, *supervised, LARGE, launcher=TORCHRUN), "warm")
            peaks.append((max(peak), max(peak) - max(tiny)))
            times.append(seconds)
        expected = arithmetic(run, way)
        print(
            f"| {way} | {shown([p for p, _ in peaks])} | {shown([d for _, d in peaks])} | {expected:.0f} | {shown(times, 2)} |",
            flush=True,
        )


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
        times = [
            watched(Begun(folder / f"scale-{processes}-{n}", *options, launcher=launcher), "reason")[1] for n in range(repeats)
        ]
        batch = load_recipe(QUICKSTART).stages[-1].train["per_device_train_batch_size"]
        print(f"| {processes} | {shown(times, 2)} | {shown([processes * batch / one for one in times])} |", flush=True)


def watched(run: Begun, stage: str) -> tuple[list[float], float]:
    """Peak resident MiB of each process, and seconds of a step of a stage."""
    peaks: dict[int, float] = {}
    seen: dict[int, float] = {}
    metrics = run.folder / "metrics.jsonl"
    while run.process.poll() is None:
        for process in (run.process.pid, *children(run.process.pid)):
            peaks[process] = max(peaks.get(process, 0.0), peak_of(process))
        lines = metrics.read_text().split("\n")[:-1] if metrics.exists() else []
        for line in lines:
            found = json.loads(line)
            if found.get("stage") == stage and "loss" in found:
                seen.setdefault(found["step"], time.monotonic())
        time.sleep(0.02)
    code, said = run.end()
    if code:
        sys.exit(said[-3000:])
    launched = {process: peak for process, peak in peaks.items() if process != run.process.pid} or peaks
    return sorted(launched.values())[-2:], (seen[STEPS] - seen[WARM + 1]) / (STEPS - WARM - 1)


def children(process: int) -> list[int]:
    file = Path(f"/proc/{process}/task/{process}/children")
    try:
        return list(map(int, file.read_text().split()))
    except OSError:
        return []


def peak_of(process: int) -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def shown(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
