"""Credit across processes, in numbers: what each of two processes gets from the rewards of both (`ranks.py`)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from launch import ROOT, in_two_processes
from trainers import tiny_model


@pytest.mark.parametrize("case", ["span", "ppo"])
def test_every_process_gets_its_part(case: str, tmp_path: Path) -> None:
    start = tiny_model(tmp_path / "start")
    script = ROOT / "tests" / "ranks.py"
    in_two_processes(script, case, start, tmp_path / "two")
    # One process that gets all of it takes the same step: loss, and norm of the gradients.
    alone = subprocess.run([sys.executable, script, case, start, tmp_path / "one"], capture_output=True, text=True, timeout=300)
    assert alone.returncode == 0, alone.stderr[-3000:]
    one, two = (json.loads((tmp_path / name / "step.json").read_text()) for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-5, abs=1e-6)
    assert one[1] > 1e-3
