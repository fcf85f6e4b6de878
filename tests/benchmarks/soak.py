"""Many short steps on vLLM: nothing grows, a server that is killed comes back, and nothing is left.

    make test-vllm && .venv-vllm/bin/python tests/benchmarks/soak.py
    .venv-vllm/bin/python tests/benchmarks/soak.py --mode colocate

Runs `rlperc serve` and `rlperc train` on the quickstart, cut down to small batches, and reads the resident memory and the open
files of every process from outside. Evenly over the run, the server's API process is killed with SIGKILL.

Prints the processes, the kills, and what was wrong; the exit code is 1 then. Wrong is: a run that does not finish, a vLLM that
is not the policy, memory or files that grow, and a process, a folder or a piece of shared memory that is left behind.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from launch import QUICKSTART, SHORT

REWARD = """  # moves the weights at every step, in no direction
import random
from rlperc import Score, reward

DICE = random.Random(0)

@reward(range=(0.0, 1.0))
def noise(completion):
    return Score(DICE.random(), why="")
"""
SMALL = (
    *SHORT,
    "stages.reason.train.per_device_train_batch_size=8",
    "stages.reason.train.num_generations=4",
    "stages.reason.train.max_completion_length=8",
    "stages.reason.data.rows=64",
    "evaluate.curve=null",
)
# An environment variable that whoever was started from here has, and their sessions: vLLM's engine writes over its environment.
MARK, SESSIONS = "RLPERC_SOAK", set[int]()
GAP = "sampling/sampling_logp_difference/mean"
# Nats: the mean of a step, of which the image token, kept from being sampled, makes a part; and that of one token in float32.
GAP_LIMIT, PARITY_LIMIT = 0.02, 1e-4
SETTLED = 100  # steps of a process before its growth is looked at, and at least as many while it is
FILES = 20  # more open files than at first, by this many, are a leak
SAMPLE_S, LEAVE_S, END_S = 1.0, 30.0, 90.0


@dataclass(frozen=True)
class Sample:
    step: int
    mib: float  # resident memory
    files: int


@dataclass
class Kill:
    step: int
    at: float
    done: float | None = None  # when the next step was


@dataclass
class Seen:
    """What is seen of a run while it goes: processes by role and id, their shared memory, and when each step was done."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    shared: set[str] = field(default_factory=set)
    kills: list[Kill] = field(default_factory=list)
    ends: list[tuple[int, float]] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["server", "colocate"], default="server")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument(
        "--kills", type=int, default=2, help="of the server; more than 3 within minutes, and it gives up by design"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", type=float, default=50.0, help="MiB in 1000 steps that are no leak yet")
    parser.add_argument("--out", type=Path, help="a new folder for the run and its logs (default: they go)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        out = (options.out or Path(folder)).absolute()
        (out / "tmp").mkdir(parents=True)
        wrong = soak(options, out)
    print("\n".join(f"wrong: {text}" for text in wrong) or "nothing was wrong")
    return int(bool(wrong))


def soak(options: argparse.Namespace, out: Path) -> list[str]:
    """Run it all, print what was seen, and return what was wrong."""
    (out / "noise.py").write_text(REWARD)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    where = f", mode: server, url: '{url}'" if options.mode == "server" else ""
    recipe = [str(QUICKSTART), f"output={out / 'run'}", *SMALL, f"stages.reason.train.max_steps={options.steps}"]
    recipe += [f"stages.reason.rollout={{engine: vllm, vllm: {{max_model_len: 256}}{where}}}"]
    recipe += [f"stages.reason.rewards=[{{use: {out / 'noise.py'}}}]", f"seed={options.seed}"]
    serve, train = out / "serve.out", out / "train.out"
    try:
        with ExitStack() as stack:
            server = stack.enter_context(rlperc("serve", recipe, serve, out)) if where else None
            while server and "serving the recipe's tiny model" not in serve.read_text():
                if server.poll() is not None:
                    return [f"rlperc serve ended with {server.returncode}: {serve.read_text()[-2000:]}"]
                time.sleep(0.5)
            trainer = stack.enter_context(rlperc("train", recipe, train, out))
            seen = watch(trainer, server.pid if server else None, out, options)
    finally:
        left = leftovers()
    wrong = [f"rlperc serve ended with {server.returncode}"] if server and server.returncode != 128 + signal.SIGTERM else []
    left += [str(path) for path in (out / "tmp").glob("rlperc-serve-*")]
    left += [f"{path}, {Path(path).stat().st_blocks * 512 / 2**20:.1f} MiB" for path in seen.shared if Path(path).exists()]
    print(f"left behind: {len(left)}")
    if trainer.returncode:
        wrong.append(f"the training ended with {trainer.returncode}: {train.read_text()[-2000:]}")
    wrong += [line for line in train.read_text().splitlines() if "vLLM's log-probabilities are" in line]
    return [*wrong, *(f"left behind: {text}" for text in left), *came_through(seen, out, options), *grew(seen, options)]


# --- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def rlperc(name: str, recipe: list[str], output: Path, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command line in a process of its own, ended with SIGTERM where it has not ended by itself."""
    environment = {**os.environ, MARK: str(os.getpid()), "TMPDIR": str(out / "tmp")}
    command = [sys.executable, "-m", "rlperc", name, *recipe]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def everyone() -> list[psutil.Process]:
    """Those that were started from here, wherever they hang in the tree."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            session = os.getsid(process.pid)
            if session not in (*SESSIONS, os.getsid(0)) and process.environ().get(MARK) == str(os.getpid()):
                SESSIONS.add(session)
            if session in SESSIONS and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def role(process: psutil.Process, trainer: int, supervisor: int | None) -> str:
    words, above = process.cmdline(), {process.pid, *(one.pid for one in process.parents())}
    if trainer in above:
        return "trainer" if process.pid == trainer else "of the trainer"
    if process.pid == supervisor:
        return "supervisor"
    if any(word.endswith("leash.py") for word in words):
        return "leash"
    if any(word.startswith("--port=") for word in words):
        return "API server"
    return {"VLLM::EngineCore": "engine", "VLLM::Worker": "worker"}.get(" ".join(words).strip(), "of the server")


def leftovers() -> list[str]:
    """Who is still there, after some time to leave. They are killed."""
    until = time.monotonic() + LEAVE_S
    while (found := everyone()) and time.monotonic() < until:
        time.sleep(0.5)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    return [str(process) for process in found]


# --- watching ---------------------------------------------------------------------------------------------------------


def watch(trainer: subprocess.Popen[bytes], supervisor: int | None, out: Path, options: argparse.Namespace) -> Seen:
    """Follow the run until it ends, and kill the server on its way."""
    seen, kills = Seen(), options.kills if supervisor else 0
    due = [options.steps * (number + 1) // (kills + 1) for number in range(kills)]
    sampled = 0.0
    while trainer.poll() is None:
        step, now = max((line["step"] for line in metrics(out, 2**15)), default=0), time.monotonic()
        if step > (seen.ends[-1][0] if seen.ends else 0):
            seen.ends.append((int(step), now))
            for kill in (one for one in seen.kills if one.done is None and step > one.step):
                kill.done = now
        if step and now - sampled > SAMPLE_S:
            sampled = now
            sample(seen, int(step), trainer.pid, supervisor)
        if due and step >= due[0]:
            due.pop(0)
            seen.kills.append(Kill(int(step), now))
            for process in everyone():
                if role(process, trainer.pid, supervisor) == "API server":
                    process.kill()
        time.sleep(0.1)
    return seen


def metrics(out: Path, last: int = 2**40) -> list[dict[str, float]]:
    """The RL stage's metrics, as far as they are written, out of the file's last bytes."""
    path = out / "run" / "metrics.jsonl"
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - last))
        found = []
        for line in file.read().split(b"\n"):
            with suppress(ValueError):  # the first and the last may be cut off
                found.append(json.loads(line))
    return [line for line in found if line.get("stage") == "reason" and "step" in line]


def sample(seen: Seen, step: int, trainer: int, supervisor: int | None) -> None:
    for process in everyone():
        with suppress(psutil.Error, OSError):
            one = Sample(step, process.memory_info().rss / 2**20, process.num_fds())
            seen.samples[role(process, trainer, supervisor), process.pid].append(one)
            seen.shared |= set(re.findall(r"/dev/shm/psm_\w+", Path(f"/proc/{process.pid}/maps").read_text()))


# --- what was seen ----------------------------------------------------------------------------------------------------


def came_through(seen: Seen, out: Path, options: argparse.Namespace) -> list[str]:
    """Whether every step was done, and vLLM was the policy in each."""
    lines = metrics(out)
    gaps = {line["step"]: line[GAP] for line in lines if GAP in line}
    parity = [line["parity/max"] for line in lines if "parity/max" in line]
    if not gaps:
        return ["no step was done"]
    lost = sum(kill.done - kill.at for kill in seen.kills if kill.done)
    (first, began), (last, ended) = seen.ends[0], seen.ends[-1]
    rate = (last - first) / (ended - began - lost)
    print(f"{options.mode}: {len(gaps)} of {options.steps} steps, {rate:.2f} steps/s while the server was there")
    usual = statistics.median(gaps.values())
    print(f"nats from the policy: {parity} before; {usual:.2g} (median of the steps), {max(gaps.values()):.2g} (largest)")
    for kill in seen.kills:
        after = [gap for step, gap in gaps.items() if kill.step < step <= kill.step + 10]
        took = f"{kill.done - kill.at:.1f} s until the next step" if kill.done else "no step after it"
        print(f"killed at step {kill.step}: {took}; difference in the next 10: {max(after, default=0.0):.2g} at most")
    wrong = [f"step {step}: vLLM is {gap:.3g} nats from the policy" for step, gap in gaps.items() if gap > GAP_LIMIT]
    wrong += [f"no step after the kill at step {kill.step}" for kill in seen.kills if kill.done is None]
    wrong += [] if len(gaps) == options.steps else [f"{len(gaps)} steps were done, not {options.steps}"]
    wrong += [] if len(parity) == 1 and parity[0] < PARITY_LIMIT else [f"difference before the first step: {parity}"]
    return wrong


def grew(seen: Seen, options: argparse.Namespace) -> list[str]:
    """Whose memory or files grew. Prints all of them that lived for a while, with both at 10, 50 and 100 % of their steps."""
    wrong = []
    print("| process | steps | MiB at 10 % | 50 % | 100 % | MiB in 1000 steps | files at 10 % | 100 % |\n" + "|---" * 8 + "|")
    for (name, pid), samples in sorted(seen.samples.items(), key=lambda item: (item[0][0], item[1][0].step)):
        first, last = samples[0].step, samples[-1].step
        if last - first < 5:
            continue
        early, middle, late = (
            next(one for one in samples if one.step >= first + part * (last - first)) for part in (0.1, 0.5, 1)
        )
        settled = [one for one in samples if one.step >= first + SETTLED]
        slope = float("nan")
        if settled and last - settled[0].step >= SETTLED:
            slope = 1000 * statistics.linear_regression([one.step for one in settled], [one.mib for one in settled]).slope
        cells = [f"{one.mib:.0f}" for one in (early, middle, late)] + ["–" if math.isnan(slope) else f"{slope:+.1f}"]
        print(f"| {name} {pid} | {first} to {last} | {' | '.join(cells)} | {early.files} | {late.files} |")
        if slope > options.growth:
            wrong.append(f"{name} {pid} grew by {slope:.0f} MiB in 1000 steps")
        wrong += [f"{name} {pid} keeps files open: {early.files}, {late.files}"] if late.files > early.files + FILES else []
    return wrong


if __name__ == "__main__":
    sys.exit(main())
