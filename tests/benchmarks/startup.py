"""How long the light commands take, and against a bare Python.

python tests/benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "rlperc --help": [sys.executable, "-m", "rlperc", "--help"],
    "rlperc rewards list": [sys.executable, "-m", "rlperc", "rewards", "list"],
}
ROUNDS = 11


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():  # in turn, so that a slow moment meets all of them
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - began)
    bare = statistics.median(seconds["python -c pass"])
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(f"{name:20} {middle:.3f} s (median of {ROUNDS}; {min(taken):.3f} to {max(taken):.3f}), {middle / bare:.1f}x Python")


if __name__ == "__main__":
    main()
