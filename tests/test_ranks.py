"""Credit across processes, in numbers: what each of two processes gets from the rewards of both (`ranks.py`)."""

from pathlib import Path

import pytest
from launch import ROOT, in_two_processes
from trainers import tiny_model


@pytest.mark.parametrize("case", ["span", "ppo"])
def test_every_process_gets_its_part(case: str, tmp_path: Path) -> None:
    start = tiny_model(tmp_path / "start")
    in_two_processes(ROOT / "tests" / "ranks.py", case, start, tmp_path / "run")
