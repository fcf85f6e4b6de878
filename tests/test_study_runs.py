"""A study of the smallest real trainings, through the command line: interrupted, gone on with, done again, and with a failure.

One study in one folder goes through all of it, so that nothing trains twice for the tests' sake.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from launch import rlperc
from safetensors.torch import load_file
from studies import changed, descendants, processes, until, write

ARM = {"recipe": "sft", "stages": ["warm"]}
STUDY = changed(
    ("seeds", [0]),
    ("runs.base.set", ["stages.see.train.learning_rate=1e-2"]),
    # So that its weights say what it began with; and it saves.
    ("runs.plain.set", [f"stages.warm.train.{key}" for key in ("learning_rate=0", "save_strategy=steps", "save_steps=1")]),
)
FAILING = changed(
    (
        "runs",
        {
            # No such part: only who has loaded the model knows.
            "broken": {**ARM, "set": ["stages.warm.model.freeze=[nothing]"]},
            "after": {**ARM, "from": "broken"},
            "other": {**ARM, "set": ["stages.warm.train.max_steps=1", "stages.warm.train.learning_rate=$rate"]},
            **STUDY["runs"],
        },
    ),
    study=STUDY,
)


@dataclass
class Did:
    """What a command left, when it had ended."""

    code: int
    said: str
    wrong: str
    out: Path
    left: list[str] = field(default_factory=list)
    """Processes that it left behind."""
    page: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    """When each run's summary was written, and the page, in nanoseconds."""

    def __post_init__(self) -> None:
        self.page = (self.out / "report.html").read_text(encoding="utf-8")
        self.found = json.loads((self.out / "study.json").read_text(encoding="utf-8"))
        summaries = {file.parent.name: file for file in self.out.glob("*/*/summary.json")}
        files = summaries | {"page": self.out / "report.html"}
        self.times = {name: file.stat().st_mtime_ns for name, file in files.items()}

    def summary(self, run: str) -> dict[str, Any]:
        return json.loads((self.out / "one" / f"{run}-0" / "summary.json").read_text())


def study(folder: Path) -> Did:
    done = rlperc("study", "study.yaml", "--out", "out", "--jobs", "2", cwd=folder)
    return Did(done.returncode, done.stdout, done.stderr, folder / "out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write(folder, STUDY)
    return folder


@pytest.fixture(scope="module")
def interrupted(folder: Path) -> Did:
    """Told to end while the first run trains."""
    command = [sys.executable, "-m", "rlperc", "study", "study.yaml", "--out", "out", "--jobs", "2"]
    started = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun = until((folder / "out" / "one" / "base-0" / "progress.json").exists, seconds=120)
    children = descendants(started.pid)
    started.send_signal(signal.SIGTERM)
    said, wrong = started.communicate(timeout=120)
    assert begun, f"{said}\n{wrong}"
    assert children

    def left() -> list[str]:
        return [line for number, line in processes("").items() if number in children or str(folder) in line]

    until(lambda: not left(), seconds=5)
    return Did(started.returncode, said, wrong, folder / "out", left())


@pytest.fixture(scope="module")
def finished(interrupted: Did, folder: Path) -> Did:
    return study(folder)


@pytest.fixture(scope="module")
def again(finished: Did, folder: Path) -> Did:
    return study(folder)


@pytest.fixture(scope="module")
def failed(again: Did, folder: Path) -> Did:
    """The same study with more runs, of which one cannot train."""
    write(folder, FAILING)
    return study(folder)


def test_sigterm_ends_the_study_and_its_trainings(interrupted: Did) -> None:
    assert interrupted.code == 143
    assert interrupted.left == []
    assert "one base 0: begins" in interrupted.said
    assert "the same command goes on with it" in interrupted.wrong
    assert "Traceback" not in interrupted.wrong
    assert interrupted.summary("base")["status"] == "terminated"
    assert not (interrupted.out / "one" / "plain-0").exists()


def test_an_interrupted_study_has_a_page(interrupted: Did) -> None:
    assert "0 of 2 runs" in interrupted.page
    assert [claim["verdict"] for claim in interrupted.found["claims"]] == ["not measured"]


def test_the_same_command_finishes_it(finished: Did) -> None:
    assert finished.code == 0, finished.said + finished.wrong
    assert [finished.summary(run)["status"] for run in ("base", "plain")] == ["done", "done"]
    assert "2 of 2 runs" in finished.page
    assert "<svg" in finished.page
    said = finished.said.splitlines()
    assert [line.partition(" (")[0] for line in said if "begins" in line] == ["one base 0: begins", "one plain 0: begins"]
    assert "ONE SEED ONLY: Warming gains (published –)" in said
    assert said[-1] == str(finished.out / "report.html")


def test_of_a_run_that_is_done_no_checkpoint_is_kept(finished: Did) -> None:
    recipe = yaml.safe_load((finished.out / "one" / "plain-0" / "recipe.yaml").read_text())
    assert recipe["stages"][0]["train"]["save_steps"] == 1
    assert (finished.out / "one" / "plain-0" / "stages" / "warm").is_dir()
    assert not list(finished.out.rglob("checkpoint-*"))


def test_a_run_begins_with_the_weights_of_the_run_it_is_from(finished: Did) -> None:
    recipe = yaml.safe_load((finished.out / "one" / "plain-0" / "recipe.yaml").read_text())
    (warm,) = recipe["stages"]
    assert (warm["name"], warm["model"]["name"]) == ("warm", str(finished.out / "one" / "base-0" / "model"))
    begun, left, kept = (
        load_file(finished.out / "one" / place / "model.safetensors")
        for place in ("base-0/stages/start", "base-0/model", "plain-0/model")
    )
    assert all(torch.equal(kept[name], left[name]) for name in left)
    assert any(not torch.equal(begun[name], left[name]) for name in left)


def test_the_numbers_of_a_study_are_those_of_its_runs(finished: Did) -> None:
    base, plain = (finished.summary(run)["eval"]["after"] for run in ("base", "plain"))
    assert base["n"] == plain["n"] == 2
    claim = finished.found["claims"][0]
    assert claim["found"]["one"]["values"] == [pytest.approx(100 * (plain["a"] - base["a"]))]
    assert claim["found"]["one"]["interval"] is None
    assert finished.found["runs"]["one"][2][:2] == ["plain", f"{100 * plain['a']:.1f}"]


def test_what_is_done_is_not_done_again_and_the_page_is_written_again(finished: Did, again: Did) -> None:
    assert again.code == 0
    assert "2 of 2 runs are there already" in again.said
    assert "begins" not in again.said
    assert {run: again.times[run] for run in ("base-0", "plain-0")} == {run: finished.times[run] for run in ("base-0", "plain-0")}
    assert again.times["page"] > finished.times["page"]
    assert again.found == finished.found


def test_a_run_that_fails_is_named_with_its_reason(failed: Did) -> None:
    assert failed.code == 1
    text = failed.said.partition("one broken 0: failed with exit code 2; ")[2]
    assert text.startswith(str(failed.out / "one" / "broken-0.log"))
    assert "rlperc: freeze: [nothing]" in text
    assert "no parameter of this model belongs to it" in text
    assert "2 runs failed, or needed one that did" in failed.wrong
    assert "Traceback" not in failed.wrong


def test_what_needs_a_failed_run_is_left_out_and_the_others_are_done(again: Did, failed: Did) -> None:
    assert "one after 0: begins" not in failed.said
    assert not (failed.out / "one" / "after-0").exists()
    assert failed.summary("broken")["status"] == "failed"
    assert failed.summary("other")["status"] == "done"
    assert failed.found["done"] == 3
    assert "3 of 5 runs" in failed.page
    assert failed.times["base-0"] == again.times["base-0"]
    used = yaml.safe_load((failed.out / "one" / "other-0" / "recipe.yaml").read_text())["stages"][0]["train"]
    assert (used["max_steps"], used["learning_rate"]) == (1, 1e-3)
