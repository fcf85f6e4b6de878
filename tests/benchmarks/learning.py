"""GRPO with the perception reward, against the warm start and against the outcome reward alone, over seeds.

    python tests/benchmarks/learning.py --seeds 0 1 2 3 4
    python tests/benchmarks/learning.py --seeds 0 1 2 3 4 stages.warm.data.with.misread_probability=0

Each run is `rlperc train recipes/quickstart.yaml seed=S`, with `rewards.perception_cells.weight=0` in the other arm;
both arms of a seed start from the same warm start. Runs that are already there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ARMS = {"perception": [], "outcome": ["rewards.perception_cells.weight=0"]}
MEASURES = ("a", "a_p", "a_r")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    options = parser.parse_args()
    found = {
        (arm, seed): run(options.out / f"{arm}-{seed}", [f"seed={seed}", *extra, *options.overrides])
        for seed in options.seeds
        for arm, extra in ARMS.items()
    }
    show(found, options.seeds)


def run(folder: Path, overrides: list[str]) -> dict:
    summary = folder / "summary.json"
    if not summary.exists() or json.loads(summary.read_text())["status"] != "done":
        command = ["train", "recipes/quickstart.yaml", "--move-aside", f"output={folder}", *overrides]
        subprocess.run([sys.executable, "-m", "rlperc", *command], check=True, stdout=subprocess.DEVNULL)
    return json.loads(summary.read_text())


def show(found: dict, seeds: list[int]) -> None:
    def points(arm: str, model: str, measure: str) -> list[float]:
        return [100 * found[arm, seed]["eval"][model][measure] for seed in seeds]

    print(f"| percent, mean (sd) over {len(seeds)} seeds | {' | '.join(MEASURES)} |\n|---|---|---|---|")
    lines = [
        ("enters RL", "perception", "before"),
        ("outcome alone", "outcome", "after"),
        ("with perception", "perception", "after"),
    ]
    for name, arm, model in lines:
        print(f"| {name} | " + " | ".join(spread(points(arm, model, m)) for m in MEASURES) + " |")
    for name, other in (
        ("gain over what enters RL", ("perception", "before")),
        ("gain over outcome alone", ("outcome", "after")),
    ):
        cells = []
        for m in MEASURES:
            gains = [a - b for a, b in zip(points("perception", "after", m), points(*other, m), strict=True)]
            cells.append(spread(gains, sign="+") + " [" + ", ".join(f"{g:+.1f}" for g in gains) + "]")
        print(f"| {name} | " + " | ".join(cells) + " |")
    seconds = [one["seconds"] for one in found.values()]
    memory = max(one["peak_memory_mib"] for one in found.values()) / 1024
    print(f"\n{statistics.median(seconds):.0f} s a run (median), {max(seconds):.0f} s at most; {memory:.2f} GiB at most")


def spread(values: list[float], sign: str = "") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):{sign}.1f} ({deviation:.1f})"


if __name__ == "__main__":
    main()
