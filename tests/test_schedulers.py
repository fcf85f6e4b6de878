"""What ends a training under a scheduler, and what the scheduler is told: exit codes, pods, and Slurm's scripts."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from containers import DOCKER, LONGER, PLAIN, STOPPED, Trained, commands
from launch import QUICKSTART

ENDS = """\
import os, signal, sys, time
how = sys.argv[1]
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "waits":
    signal.signal(signal.SIGTERM, lambda *_: (open("saved", "w").close(), sys.exit(0)))
    open("ready", "w").close()
    time.sleep(60)
if how == "meets":
    import torch.distributed as dist
    dist.init_process_group("gloo")
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, os.environ["GROUP_RANK"])
    dist.barrier()
    os._exit(0 if everyone == ["0", "1"] else 5)  # a thread of gloo's may abort an interpreter that ends as usual
sys.exit(int(how))
"""


def launched(tmp_path: Path, how: str, **variables: str) -> subprocess.Popen:
    (tmp_path / "ends.py").write_text(ENDS)
    command = [sys.executable, DOCKER / "launch.py", "ends.py", how]
    return subprocess.Popen(list(map(str, command)), cwd=tmp_path, env={**PLAIN, **variables})


@pytest.mark.parametrize(("how", "code"), [("0", 0), ("2", 2), ("143", 143), ("killed", 137)])
def test_the_exit_code_is_that_of_the_training(how: str, code: int, tmp_path: Path) -> None:
    assert launched(tmp_path, how).wait(60) == code


def test_told_to_end_it_waits_for_its_processes_and_says_so(tmp_path: Path) -> None:
    process = launched(tmp_path, "waits")
    appears(tmp_path / "ready", process)
    process.terminate()
    assert process.wait(60) == STOPPED
    assert (tmp_path / "saved").exists()


def test_pods_meet_by_what_the_manifest_says(tmp_path: Path) -> None:
    _, many = yaml.safe_load_all((DOCKER / "k8s/job_many_nodes.yaml").read_text())
    said = {one["name"]: one.get("value") for one in many["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert said.pop("PET_MASTER_ADDR") == f"{many['metadata']['name']}-0.{many['spec']['template']['spec']['subdomain']}"
    assert int(said["PET_NNODES"]) == many["spec"]["completions"] == many["spec"]["parallelism"] == 2
    here = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    pods = [launched(tmp_path, "meets", **{**said, **here, "PET_NODE_RANK": rank}) for rank in ("0", "1")]
    assert [pod.wait(120) for pod in pods] == [0, 0]


def appears(file: Path, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)


def free_port(first: int = 20000) -> int:
    for port in range(first + os.getpid() % 5000, first + 10000):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError


# Slurm: commands of its names that do on this machine what Slurm does with a job.

SLURM = {
    # As many tasks as nodes. It passes on the highest exit code, and SIGTERM as SIGKILL.
    "srun": """
        while [[ $1 == --* ]]; do shift; done
        for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do "$@" & tasks+=($!); done
        trap 'kill -KILL "${tasks[@]}"' TERM
        echo "${tasks[@]}" > tasks
        for task in "${tasks[@]}"; do wait "$task" || { code=$?; ((code > worst)) && worst=$code; }; done
        exit "${worst:-0}" """,
    # With a signal it goes to the steps' tasks and to nothing else.
    "scancel": """echo "scancel $*" >> called; kill -"${1#--signal=}" $(cat tasks)""",
    "scontrol": """if [[ $1 == show ]]; then echo localhost; echo other; else echo "scontrol $*" >> called; fi""",
}


class Job:
    """A batch script that runs where it was submitted."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder = folder
        script = "one_node.sbatch" if nodes == 1 else "many_nodes.sbatch"
        self.number = free_port() - 20000  # what many_nodes.sbatch makes its port of
        path = f"{commands(folder / 'bin', **SLURM)}:{os.defpath}"
        slurm = {"SLURM_JOB_ID": self.number, "SLURM_JOB_NUM_NODES": nodes, "SLURM_JOB_NODELIST": "localhost,other"}
        self.environment = {**PLAIN, "PATH": path, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in slurm.items()}}
        self.script = DOCKER / "slurm" / script

    def start(self, *words: str, **more: object) -> subprocess.Popen:
        (self.folder / "called").write_text("")
        command = ["bash", str(self.script), *words]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, **more)

    @property
    def called(self) -> list[str]:
        return (self.folder / "called").read_text().splitlines()

    @property
    def warned(self) -> list[str]:
        return [f"scancel --signal=TERM {self.number}"]

    @property
    def requeued(self) -> list[str]:
        return [*self.warned, f"scontrol requeue {self.number}"]


@pytest.fixture(params=[1, 2], ids=["one_node", "many_nodes"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    """A job whose steps do nothing but wait, and end with the exit code in their first word."""
    step = """trap 'sleep 1; exit "$2"' TERM; trap 'exit "$2"' USR2; touch ready; while :; do sleep 0.1; done"""
    commands(tmp_path / "docker", **{"entrypoint.sh": step})
    return Job(tmp_path, request.param)


@pytest.mark.parametrize(("ends", "back"), [(143, True), (0, False), (1, False), (2, False)])
def test_a_job_comes_back_where_its_time_is_over_and_it_was_saved(ends: int, back: bool, job: Job) -> None:
    process = job.start(str(ends))
    appears(job.folder / "ready", process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == ends
    assert job.called == (job.requeued if back else job.warned)


def test_a_job_that_is_cancelled_waits_for_its_step_and_stays_away(job: Job) -> None:
    process = job.start("143")
    appears(job.folder / "ready", process)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    subprocess.run(["bash", "-c", "kill -TERM $(cat tasks)"], cwd=job.folder, check=True)
    assert process.wait(30) == STOPPED
    assert job.called == []


@pytest.mark.parametrize("code", [0, 2])
def test_a_job_has_the_exit_code_of_its_step(code: int, job: Job) -> None:
    process = job.start(str(code))
    appears(job.folder / "ready", process)
    subprocess.run(["bash", "-c", "kill -USR2 $(cat tasks)"], cwd=job.folder, check=True)
    assert process.wait(30) == code
    assert job.called == []


def test_a_run_on_two_nodes_saves_before_its_time_is_over_and_ends_in_its_second_job(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "docker").symlink_to(DOCKER)
    job = Job(tmp_path, 2)
    words = [str(QUICKSTART), f"output={tmp_path}/run", *LONGER]
    run = Trained(tmp_path / "run", lambda **more: job.start(*words, **more))
    run.until("reason", 2)
    run.process.send_signal(signal.SIGUSR1)
    code, said = run.end()
    assert code == STOPPED, said[-3000:]
    assert job.called == job.requeued
    assert list((tmp_path / "run/stages/reason").glob("checkpoint-*"))
    code, said = Trained(tmp_path / "run", lambda **more: job.start(*words, **more)).end()
    assert code == 0, said[-3000:]
    assert job.called == []
    assert (tmp_path / "run/model/config.json").exists()
