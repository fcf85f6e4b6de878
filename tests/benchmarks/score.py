"""How many completions a second rewards and `rlperc score` take, and whether memory grows with the file.

    python tests/benchmarks/score.py

Rewards that declare themselves bounded, in this process, on one core. A file's completions are in groups of eight. The
large file has ten times the lines of the small one; each is scored by a process of its own, which tells its peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rlperc.reward.plugins import collection, find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.score.rows import score_file
from rlperc.words.response import Completion, read_response

CHEAP = ("format_tags", "answer_number", "answer_exact", "perception_cells")
HANDLING = Handling(on_error="skip", max_error_share=1.0)
ROUNDS = 5
BATCH, BATCHES = 1024, 8
THOUGHT = "The upper row holds an eight and a seven, the lower row two ones; that makes seventeen. " * 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the large file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in CHEAP if name in collection() and find_reward(name).bounded]
    if options.measure:
        measure(options.measure, names)
        return
    for name in names:
        alone(name)
    with tempfile.TemporaryDirectory() as folder:
        for lines in (options.lines // 10, options.lines):
            file = Path(folder) / f"{lines}.jsonl"
            write(file, lines)
            print(f"{lines:,} lines, {file.stat().st_size / 2**20:.0f} MiB, {len(names)} rewards: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--measure", file], check=True)


def alone(name: str) -> None:
    """One reward through its runner, on completions that are read already: TRL's trainer reads them once for all."""
    batches = [[read(i) for i in range(start, start + BATCH)] for start in range(0, BATCH * BATCHES, BATCH)]
    columns = {"answer": ["17"] * BATCH, "perception": ["[[8,7],[1,1]]"] * BATCH}
    runner = RewardRunner(find_reward(name), {}, HANDLING)
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for batch in batches:
            runner.run(batch, columns)
        rates.append(BATCH * BATCHES / (time.perf_counter() - began))
    low, high = min(rates), max(rates)
    print(f"{name:18} {statistics.median(rates):9,.0f} completions/s alone (median of {ROUNDS}; {low:,.0f} to {high:,.0f})")


def measure(file: Path, names: list[str]) -> None:
    """Score a file and print the rate and this process's peak memory."""
    began = time.perf_counter()
    runners = [RewardRunner(find_reward(name), {}, HANDLING) for name in names]
    summary = score_file(file, runners, file.with_suffix(".scores"))
    rate = summary.completions / (time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{rate:,.0f} lines/s with reading and writing, peak memory {peak:.0f} MiB")


def text(index: int) -> str:
    """One of a few thousand different responses, some of them wrong or torn."""
    end = "" if index % 97 == 0 else "</answer>"
    return f"<perception>[[8,7],[1,{index % 3}]]</perception><think>{THOUGHT}{index}</think><answer>{16 + index % 4}{end}"


def read(index: int) -> Completion:
    return read_response(text(index))


def write(file: Path, lines: int) -> None:
    with file.open("w") as stream:
        for i in range(lines):
            row = {"completion": text(i), "prompt_id": f"prompt-{i // 8}", "answer": "17", "perception": [[8, 7], [1, 1]]}
            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
