"""A stage's engine is gone before the next one's takes its memory."""

import subprocess
import sys
from pathlib import Path

from launch import QUICKSTART, SHORT


def test_nothing_is_left_of_a_stages_engine(tmp_path: Path) -> None:
    script = Path(__file__).with_name("released.py")
    options = (*SHORT, "evaluate=null", "distributed=zero3", f"output={tmp_path / 'run'}")
    done = subprocess.run([sys.executable, script, QUICKSTART, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if line.startswith("left:")] == ["left: []"] * 3
