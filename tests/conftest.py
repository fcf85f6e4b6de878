"""What the tests share: no network, two threads, and one real short run that many of them look at."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from launch import QUICKSTART, SHORT, rlperc

collect_ignore = [] if importlib.util.find_spec("vllm") else ["on_vllm"]  # `make test-vllm` has an environment of its own

# Two at once share the cores.
THREADS = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS=THREADS)


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished short run."""
    folder = tmp_path_factory.mktemp("runs") / "short"
    done = rlperc("train", str(QUICKSTART), f"output={folder}", *SHORT)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], str]:
    """Writes a reward file and gives the name that `--rewards` knows it by."""

    def written(text: str, name: str = "mine.py") -> str:
        (tmp_path / name).write_text(f"from rlperc import Score, reward\n{text}")
        return str(tmp_path / name)

    return written
