"""Credit across processes, in numbers: what each of two processes gets from the rewards of both (`ranks.py`)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch import ROOT
from trainers import tiny_model


@pytest.mark.parametrize(("case", "port"), [("span", 0), ("ppo", 1)])
def test_every_process_gets_its_part(case: str, port: int, tmp_path: Path) -> None:
    start = tiny_model(tmp_path / "start")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(23000 + port + os.getpid() % 20000)]
    script = [str(ROOT / "tests" / "ranks.py"), case, str(start), str(tmp_path / "run")]
    done = subprocess.run([sys.executable, *launcher, *script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
