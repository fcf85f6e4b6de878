"""Rewards in worker processes: one fault touches one completion, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.errors import MissingPackageError, PluginError, RewardError
from rlperc.reward.contract import Reward, describe
from rlperc.reward.isolation import clean_environment
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.words.response import read_response

FAULTY = """
from __future__ import annotations
import asyncio, os, signal, subprocess, sys, threading, time
from dataclasses import dataclass
from rlperc import Score, reward

KEPT = []

class Own(BaseException):
    pass

@dataclass
class Seen:
    kind: str

@reward()
def faulty(completion, kind, *, key_env: str | None = None):
    match Seen(kind).kind:
        case "raise": raise ValueError(completion.text)
        case "exit": sys.exit(1)
        case "hang": time.sleep(1000)
        case "spin":
            while True: pass
        case "end": os._exit(3)
        case "kill": os.kill(os.getpid(), signal.SIGKILL)
        case "memory": return len([0] * 10**11)
        case "fill": KEPT.append(bytearray(10**8)); KEPT.append(bytearray(10**11))
        case "own": raise Own
        case "interrupt": raise KeyboardInterrupt
        case "cancel": raise asyncio.CancelledError
        case "in C": sum(range(10**13))
        case "later": threading.Timer(0.2, os._exit, (5,)).start()
        case "nan": return float("nan")
        case "inf": return float("inf")
        case "word": return "high"
        case "environment": return Score(0.5, why=" ".join(sorted(os.environ)))
        case "child": return Score(0.5, why=str(subprocess.Popen(["sleep", "1000"]).pid))
        case "pid": return Score(0.5, why=str(os.getpid()))
        case "slow": time.sleep(0.4)
    return 0.5
"""
LIMIT = 1.0
HANDLING = Handling(on_error="skip", max_error_share=1.0, timeout_s=LIMIT, workers=2)


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Reward:
    file = tmp_path_factory.mktemp("plugins") / "signal.py"  # called like a module of Python's own
    file.write_text(FAULTY)
    return find_reward(str(file))


@pytest.fixture(scope="module")
def runner(reward: Reward) -> RewardRunner:
    runner = RewardRunner(reward, {}, HANDLING)
    runner.run([read_response("x")], {"kind": ["start the workers"]})
    yield runner
    runner.close()


def run(runner: RewardRunner, *kinds: str) -> list:
    return runner.run([read_response(kind) for kind in kinds], {"kind": kinds})


EXPECTED = {
    "raise": ("error", "ValueError: raise"),
    "exit": ("error", "SystemExit: 1"),
    "hang": ("timeout", "it took longer than its 1 s"),
    "spin": ("timeout", "it took longer than its 1 s"),
    "end": ("error", "its worker process ended with exit code 3"),
    "kill": ("error", "its worker process ended by signal 9"),
    "memory": ("error", "it ran out of its memory"),
    "fill": ("error", "it ran out of its memory"),
    "own": ("error", ": Own"),
    "interrupt": ("error", "it raised KeyboardInterrupt"),
    "cancel": ("error", "CancelledError"),
    "in C": ("timeout", "it took longer than its 1 s"),
    "nan": ("nan", "it returned nan"),
    "inf": ("inf", "it returned inf"),
    "word": ("error", "'high', which is not a number"),
    "slow": ("value", ""),
}


def test_a_fault_touches_its_own_completion_and_no_other(runner: RewardRunner) -> None:
    kinds = [kind for fault in EXPECTED for kind in ("fine", fault, "fine")]
    outcomes = run(runner, *kinds)
    for kind, outcome in zip(kinds, outcomes, strict=True):
        status, why = EXPECTED.get(kind, ("value", ""))
        assert (outcome.status, outcome.value) == (status, 0.5 if status == "value" else None), kind
        assert why in outcome.why


def test_under_load_every_answer_is_its_own(runner: RewardRunner) -> None:
    kinds = ["end" if i % 40 == 7 else "raise" if i % 40 == 20 else "kill" if i % 40 == 30 else "fine" for i in range(1200)]
    for kind, outcome in zip(kinds, run(runner, *kinds), strict=True):
        assert outcome.status == ("value" if kind == "fine" else "error")
        assert kind == "fine" or EXPECTED[kind][1] in outcome.why


def test_workers_that_died_while_idle_are_replaced(runner: RewardRunner) -> None:
    assert [outcome.status for outcome in run(runner, "later", "later")] == ["value"] * 2
    time.sleep(0.6)
    assert [outcome.status for outcome in run(runner, *["fine"] * 4)] == ["value"] * 4


def test_off_the_main_thread(runner: RewardRunner) -> None:
    found: list = []
    thread = threading.Thread(target=lambda: found.extend(run(runner, "fine", "spin")))
    thread.start()
    thread.join(30)
    assert [outcome.status for outcome in found] == ["value", "timeout"]


def test_credentials_do_not_reach_the_workers(reward: Reward, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "JUDGE_KEY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    runner = RewardRunner(reward, {"key_env": "JUDGE_KEY"}, HANDLING)
    (outcome,) = run(runner, "environment")
    names = outcome.why.split()
    assert "JUDGE_KEY" in names  # the one that a setting names
    assert not {"HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"} & set(names)
    assert {"PATH", "TOKENIZERS_PARALLELISM"} <= set(names)
    runner.close()


@given(
    st.sampled_from(["HF", "MY", "GITHUB", ""]),
    st.sampled_from(["TOKEN", "SECRET", "PASSWORD", "API_KEY", "apikey", "PAT", "BEARER"]),
)
def test_what_looks_like_a_credential_is_left_out(prefix: str, word: str) -> None:
    name = f"{prefix}_{word}" if prefix else word
    assert name not in clean_environment({name: "x", "HOME": "/"}, {})
    assert name in clean_environment({name: "x"}, {"key_env": name})


def test_passwords_in_urls_and_the_runs_own_addresses_are_left_out() -> None:
    environment = {
        "DATABASE_URL": "postgres://me:secret@host/db",
        "https_proxy": "http://proxy:8080",
        "MASTER_ADDR": "10.0.0.1",
        "RANK": "1",
        "DB_PASS": "x",
        "MYSQL_PWD": "x",
        "PWD": "/here",
        "KEYBOARD": "us",
    }
    assert {"https_proxy", "PWD", "KEYBOARD"} == set(clean_environment(environment, {})) & set(environment)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_closing_leaves_nothing_running(reward: Reward) -> None:
    runner = RewardRunner(reward, {}, HANDLING)
    pids = [int(outcome.why) for outcome in run(runner, "child", "pid")]
    assert all(alive(pid) for pid in pids)
    runner.close()
    for _ in range(50):
        if not any(alive(pid) for pid in pids):
            break
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)
    assert [outcome.status for outcome in run(runner, "fine")] == ["value"]  # and it starts again where it must
    runner.close()


def test_closing_leaves_no_semaphores_and_no_folders(reward: Reward) -> None:
    def left() -> set[Path]:
        return {*Path("/dev/shm").glob("sem.mp-*"), *Path(tempfile.gettempdir()).glob("pymp-*")}

    before = left()
    for kind in ("fine", "hang"):
        runner = RewardRunner(reward, {}, HANDLING)
        run(runner, kind)
        runner.close()
    assert left() <= before


def test_a_killed_service_is_a_fault_and_is_replaced(reward: Reward) -> None:
    runner = RewardRunner(reward, {}, HANDLING)
    run(runner, "fine")
    os.killpg(runner._isolated._service.process.pid, signal.SIGKILL)
    assert [outcome.why for outcome in run(runner, "fine", "fine")] == ["the process that isolates it ended"] * 2
    assert [outcome.status for outcome in run(runner, "fine")] == ["value"]
    runner.close()


SCRIPT = """
import sys
print("the script runs", flush=True)
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.words.response import read_response
runner = RewardRunner(find_reward(sys.argv[1]), {})
print(runner.run([read_response("x")] * 3, {"kind": ["pid"] * 3})[0].why, flush=True)
if sys.argv[2:]:
    import os; os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_script_without_a_main_guard_runs_once_and_takes_its_workers_along(
    reward: Reward, tmp_path: Path, killed: bool
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), reward.origin, *(["killed"] if killed else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-9 if killed else 0), done.stderr
    first, pid = done.stdout.splitlines()
    assert first == "the script runs"
    for _ in range(50):
        if not alive(int(pid)):
            break
        time.sleep(0.1)
    assert not alive(int(pid))


def test_isolated_and_in_process_scores_are_the_same(reward: Reward, runner: RewardRunner) -> None:
    here = RewardRunner(reward, {}, Handling(on_error="skip", max_error_share=1.0, isolate=False))
    kinds = ("fine", "raise", "nan", "word")
    assert run(here, *kinds) == run(runner, *kinds)


BLOCKING = """
import asyncio, os, time
from rlperc import reward

@reward()
async def judge(completion):
    if completion.text == "block":
        time.sleep(1000)
    if completion.text == "end":
        os._exit(3)
    await asyncio.sleep(0.05)
    return 1.0
"""


def test_an_async_reward_that_blocks_its_loop_costs_nobody_else_the_score(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(BLOCKING)
    runner = RewardRunner(find_reward(str(tmp_path / "judge.py")), {}, HANDLING)
    for text, status in (("block", "timeout"), ("end", "error")):
        outcomes = runner.run([read_response(text) for text in ("a", text, "b")], {})
        assert [outcome.status for outcome in outcomes] == ["value", status, "value"]
    runner.close()


def test_a_reward_that_cannot_load_there_says_so(tmp_path: Path) -> None:
    file = tmp_path / "vanishing.py"
    file.write_text("from rlperc import reward\n@reward()\ndef vanishing(completion):\n    return 1.0\n")
    found = find_reward(str(file))
    file.unlink()
    with pytest.raises(RewardError, match="it cannot be loaded in a worker: there is no such file"):
        RewardRunner(found, {}).run([read_response("x")], {})


def test_declared_imports_are_looked_for_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "needy.py"
    file.write_text('from rlperc import reward\n@reward(imports=("not_there.at_all",))\ndef needy(completion):\n    return 1.0\n')
    with pytest.raises(MissingPackageError, match="it needs not_there"):
        RewardRunner(find_reward(str(file)), {})


def test_a_function_that_stands_in_no_file_cannot_travel() -> None:
    import pickle

    from rlperc import reward as mark

    with pytest.raises(PluginError, match="it stands in no file"):
        pickle.dumps(describe(mark()(lambda completion: 1.0), "here"))
