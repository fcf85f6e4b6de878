"""Kill a run at random moments, let it go on, and hold it against one that nothing interrupted.

    .venv/bin/python tests/benchmarks/kills.py
    .venv/bin/python tests/benchmarks/kills.py --kills 5 --distributed zero3

The quickstart cut down to seconds, with a checkpoint at every step. All its processes get SIGKILL at a moment drawn evenly from
the time between the first step's line in the metrics and the last one's: while it generates, scores, updates, saves, loads or
measures. Then `rlperc train … --resume` ends it.

Prints for each kill what was done by then and whether the metrics, the completions, the summary and the weights are those of the
run that nothing interrupted, to the last bit; the exit code is 1 where one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import LEARNING, TORCHRUN, Begun
from whole import same_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--distributed", help="two processes, spread so; default: one process")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    launcher = TORCHRUN if options.distributed else ()
    train = [*LEARNING, "train.save_strategy=steps", "train.save_steps=1", "stages.reason.train.max_steps=12"]
    train += [f"distributed={options.distributed}"] if options.distributed else []
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        first = Begun(Path(folder, "whole"), *train, launcher=launcher)
        first.until("see", 1)
        began = time.monotonic()
        first.until("reason", 12)
        length = time.monotonic() - began
        whole = ended(first)
        print(f"from the first step to the last: {length:.1f} s; seed {options.seed}")
        print("| kill | after | done by then | checkpoint | the same in the end |\n|---|---|---|---|---|", flush=True)
        for kill in range(1, options.kills + 1):
            run, moment = Begun(Path(folder, str(kill)), *train, "--resume", launcher=launcher), draw.uniform(0, length)
            run.until("see", 1)
            time.sleep(moment)
            everything(run, signal.SIGKILL)
            state = progress(run.folder)
            resumed = ended(Begun(run.folder, *train, "--resume", launcher=launcher))
            same = is_same(resumed, whole)
            wrong += not same
            print(f"| {kill} | {moment:.1f} s | {state} | {'yes' if same else 'NO'} |", flush=True)
    print(f"{options.kills - wrong} of {options.kills} runs are the same")
    sys.exit(bool(wrong))


def ended(run: Begun) -> Path:
    code, said = run.end()
    if code:
        sys.exit(said[-3000:])
    return run.folder


def everything(run: Begun, number: int) -> None:
    """Signal a run and, where there is a launcher, what it has launched."""
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
    found = children.read_text().split() if children.exists() else []
    for process in (run.process.pid, *map(int, found)):
        if Path(f"/proc/{process}").exists():
            os.kill(process, number)
    run.process.wait()


def progress(folder: Path) -> str:
    file = folder / "progress.json"
    if not file.exists():
        return "nothing | "
    found = json.loads(file.read_text())
    at = found["checkpoint"]
    where = "{stage}, step {step}".format(**at) if at else ""
    return f"{(found['done'] or ['nothing'])[-1]} | {where}"


def is_same(run: Path, whole: Path) -> bool:
    try:
        same_run(run, whole)
    except AssertionError as error:
        print(error)
        return False
    return True


if __name__ == "__main__":
    main()
