"""What becomes of a job when one of its processes dies, fails or stands still."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from launch import LEARNING, ROOT, TORCHRUN, Begun
from torch.distributed import PrefixStore, TCPStore

from rlperc.watch.stall import Stall
from rlperc.watch.standing import described, stack


class Two:
    """Two processes that no launcher looks after, as on two machines."""

    def __init__(self, folder: Path, case: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.logs = [folder / f"{rank}.log" for rank in (0, 1)]
        self.case, _, alone = case.partition(", at first ")
        self.processes = [self.start(rank) for rank in ((0,) if alone else (0, 1))]

    def start(self, rank: int) -> subprocess.Popen:
        job = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port), "LOCAL_RANK": "0"}
        # A standstill of four seconds is then long enough, for those that are told to end.
        environment = {**os.environ, **job, "OMP_NUM_THREADS": "1", "PET_SHUTDOWN_TIMEOUT": "14"}
        with self.logs[rank].open("w") as log:
            command = [sys.executable, str(ROOT / "tests" / "watched.py"), self.case]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def until(self, rank: int, text: str, seconds: float = 60) -> None:
        limit = time.monotonic() + seconds
        while text not in self.said(rank):
            assert time.monotonic() < limit, self.said(rank)
            time.sleep(0.05)

    def said(self, rank: int) -> str:
        return self.logs[rank].read_text()

    def code(self, rank: int, seconds: float = 30) -> int:
        return self.processes[rank].wait(timeout=seconds)


@pytest.fixture
def two(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Two]:
    job = Two(tmp_path, request.param)
    yield job
    for process in job.processes:
        process.kill()
        process.wait()


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=True).stdout
    return list(map(int, found.split()))


def rank_of(process: int) -> int:
    return int(Path(f"/proc/{process}/environ").read_bytes().split(b"\0RANK=")[1].split(b"\0")[0])


@pytest.mark.parametrize(("two", "dies"), [("sleep", 0), ("sleep", 1), ("forks", 1)], indirect=["two"])
def test_one_that_is_killed_takes_the_other_along(two: Two, dies: int) -> None:
    """Its main thread stands in a call that would not return for minutes."""
    for rank in (0, 1):
        two.until(rank, "together")
    two.processes[dies].kill()
    began = time.monotonic()
    assert two.code(1 - dies) == 1
    assert time.monotonic() - began < 20
    *_, words, last = filter(None, two.said(1 - dies).splitlines())
    assert words.startswith(f"last words: rank {dies} (")
    assert last.startswith(f"rlperc: rank {dies} (")
    assert f"process {two.processes[dies].pid}) is gone: killed" in last


@pytest.mark.parametrize("two", ["told"], indirect=True)
@pytest.mark.parametrize("which", [0, 1])
def test_one_that_is_told_to_end_takes_the_other_along(two: Two, which: int) -> None:
    """As when one node is drained while a model is measured: both can be started again."""
    for rank in (0, 1):
        two.until(rank, "together")
    two.processes[which].terminate()
    assert [two.code(rank) for rank in (0, 1)] == [143, 143]
    assert f"last words: rank {which} (" in two.said(1 - which)
    assert "was told to end" in two.said(1 - which)


@pytest.mark.parametrize("two", ["apart"], indirect=True)
def test_one_that_cannot_save_ends_all_the_same(two: Two) -> None:
    """Told to end while all wait for one another: no step ends at which they could save, and a launcher's patience does."""
    two.until(0, "nothing has moved for 2 s:")
    for process in two.processes:
        process.terminate()
    assert [two.code(rank) for rank in (0, 1)] == [143, 143]
    assert "last words: the job was told to end, and cannot save first: nothing has moved for" in two.said(0)
    assert two.said(1).rstrip().splitlines()[-1].startswith("rlperc: the job was told to end, and cannot save first")


@pytest.mark.parametrize("two", ["sleep, at first alone"], indirect=True)
def test_strangers_are_sent_away(two: Two) -> None:
    """Whoever knows no token can neither end the job nor keep the watch from working."""
    store = TCPStore("127.0.0.1", two.port, is_master=False, timeout=timedelta(seconds=60))
    port = json.loads(PrefixStore("rlperc/0", store).get("address"))[0]
    for text in (b"[" * 50_000 + b"\n", b"GET / HTTP/1.1\r\n\r\n", b'{"token": "x", "rank": 1}\n', b"7\n", b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", port)) as stranger, suppress(OSError):
            stranger.sendall(text)
    silent = socket.create_connection(("127.0.0.1", port))
    two.processes.append(two.start(1))
    for rank in (0, 1):
        two.until(rank, "together")
    two.processes[1].kill()
    assert two.code(0) == 1
    assert "is gone" in two.said(0)
    silent.close()


@pytest.mark.parametrize("two", ["fails"], indirect=True)
def test_a_users_fault_in_one_is_said_by_the_first(two: Two) -> None:
    assert [two.code(rank) for rank in (0, 1)] == [2, 2]
    assert "ended by 1 rank 1 (" in two.said(1)
    assert f"rlperc: rank 1 ({socket.gethostname()}, process {two.processes[1].pid}): row 7\n  why: it is torn" in two.said(0)


@pytest.mark.parametrize("two", ["fault"], indirect=True)
def test_a_fault_in_one_keeps_its_traceback(two: Two) -> None:
    assert [two.code(rank) for rank in (0, 1)] == [1, 1]
    assert "ZeroDivisionError: by nothing" in two.said(1)
    assert "Traceback" in two.said(1)
    assert f"process {two.processes[1].pid}): ZeroDivisionError: by nothing" in two.said(0)


@pytest.mark.parametrize("two", ["waits"], indirect=True)
def test_who_waits_on_what(two: Two) -> None:
    two.until(0, "nothing has moved for 2 s:")
    assert [two.code(rank) for rank in (0, 1)] == [0, 0]
    report = two.said(0).split("nothing has moved for 2 s:")[1].splitlines()
    assert "waits in barrier, called from tests/watched.py:" in report[1]
    assert "in waits, for 2 s" in report[1]
    assert report[2].startswith(f"  rank 1 ({socket.gethostname()}, process {two.processes[1].pid}) is in waits (watched.py:")
    assert "closed" in two.said(0)


@pytest.mark.parametrize("two", ["sleep"], indirect=True)
def test_one_that_does_not_answer_is_not_dead(two: Two) -> None:
    two.until(0, "together")
    two.until(1, "together")
    two.processes[1].send_signal(signal.SIGSTOP)
    two.until(0, f"process {two.processes[1].pid}) alive, but in a call that lets no other thread of it run")
    assert two.processes[0].poll() is None
    two.processes[1].send_signal(signal.SIGCONT)
    two.until(0, f"process {two.processes[1].pid}) is in sleep (watched.py:")


@pytest.mark.parametrize("two", ["ends"], indirect=True)
def test_one_that_is_done_first_is_not_missed(two: Two) -> None:
    assert [two.code(rank) for rank in (0, 1)] == [0, 0]
    assert "gone" not in two.said(0) + two.said(1)


@pytest.mark.parametrize(("when", "raises"), [("check", "True"), ("training", "completion.text[:1] not in ('', '<')")])
def test_the_launchers_last_line_has_the_reason(when: str, raises: str, tmp_path: Path) -> None:
    """A reward that raises in one of two processes: before they have met, and in the middle of training."""
    (tmp_path / "torn.py").write_text(
        '"""Raises in one process. Source: ours."""\nimport os\n\nfrom rlperc import Completion, reward\n\n\n'
        '@reward(bounded=True)\ndef torn(completion: Completion) -> float:\n    """Nothing."""\n'
        f'    if os.environ.get("RANK") == "1" and {raises}:\n        raise ValueError("this one")\n    return 0.0\n'
    )
    rewards = f"rewards=[{{use: '{tmp_path}/torn.py'}}, {{use: answer_number}}]"
    run = Begun(tmp_path / "run", *LEARNING, rewards, "evaluate=null", launcher=TORCHRUN)
    code, said = run.end()
    assert code == 1
    *_, rewards_line, why, _ = [line for line in said.splitlines() if line.strip(" =-")]
    assert "traceback : rlperc: rank 1 (" in rewards_line, said[-3000:]
    assert "ValueError: this one" in why
    if when == "training":
        assert "\nrlperc: rank 1 (" in said
        assert "'torn'" in json.loads((tmp_path / "run" / "summary.json").read_text())["error"]


def test_a_killed_process_under_torchrun(tmp_path: Path) -> None:
    run = Begun(tmp_path / "run", *LEARNING, "evaluate=null", "stages.reason.train.max_steps=200", launcher=TORCHRUN)
    run.until("reason", 1)
    killed = next(child for child in children(run.process.pid) if rank_of(child) == 1)
    os.kill(killed, signal.SIGKILL)
    began = time.monotonic()
    code, said = run.end()
    assert code == 1
    assert time.monotonic() - began < 45
    assert f"process {killed}) is gone: killed" in said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert f"process {killed}) is gone" in summary["error"]


def test_where_a_thread_stands() -> None:
    ours = (f"{ROOT}/rlperc/train/blend.py", 7, "gathered")
    libraries = sysconfig.get_path("purelib")
    inner = (f"{libraries}/socket.py", 5, "select")
    collective = (f"{libraries}/torch/distributed/distributed_c10d.py", 3, "all_reduce")
    wrapper = (f"{libraries}/torch/distributed/c10d_logger.py", 4, "wrapper")
    assert described((collective, wrapper, ours)) == "waits in all_reduce, called from rlperc/train/blend.py:7 in gathered"
    assert described((ours,)) == "is in gathered (blend.py:7)"
    assert described(()) == "has ended"
    assert stack(-1) == ()
    assert described((inner, ours)) == "is in select (socket.py:5), called from rlperc/train/blend.py:7 in gathered"


def test_it_is_said_less_and_less_often() -> None:
    stall = Stall(patience=10)
    assert not stall.asks(9)
    assert stall.asks(10)
    stall.answers = {0: "is here", 1: "is there"}
    assert stall.report(10, {0: "rank 0", 1: "rank 1"}, [2]).splitlines()[1:4] == [
        "  rank 0 is here",
        "  rank 1 is there",
        "  rank 2 has not come yet",
    ]
    assert not stall.asks(19)
    assert stall.asks(20)
    assert not stall.asks(1)  # it moved
    assert stall.asks(10)


def test_two_nodes_of_which_one_is_lost(tmp_path: Path) -> None:
    """A launcher on each, that only meet: the one that is left behind would not know."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    meeting = ("--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}")
    launcher = (sys.executable, "-m", "torch.distributed.run", *meeting)
    options = (*LEARNING, "evaluate=null", "stages.reason.train.max_steps=200")
    first = Begun(tmp_path / "run", *options, launcher=launcher)
    second = Begun(tmp_path / "second", *options, f"output={tmp_path / 'run'}", launcher=launcher)
    first.until("reason", 1)
    nodes = {rank_of(child): (node, child) for node in (first, second) for child in children(node.process.pid)}
    assert sorted(nodes) == [0, 1]
    node, child = nodes[1]
    left = nodes[0][0]
    node.process.kill()  # the machine is gone: no launcher says anything any more
    os.kill(child, signal.SIGKILL)
    began = time.monotonic()
    code, said = left.end()
    node.process.wait()
    assert code == 1
    assert time.monotonic() - began < 60
    assert f"process {child}) is gone: killed" in said
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
