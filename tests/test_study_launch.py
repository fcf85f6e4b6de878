"""Several processes at a time, with a trainer that takes a moment and learns nothing: what goes on, waits, ends and is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studies import changed, descendants, processes, until, write

from rlperc.errors import FolderError
from rlperc.recipe.folder import RunFolder
from rlperc.study.files import load_study
from rlperc.study.jobs import Job, jobs_of, plan
from rlperc.study.launch import do_jobs

# Told what `rlperc train` is told; leaves a summary, and a line of when it began and ended.
TRAINER = """\
import json, os, pathlib, sys, time, yaml
assert sys.argv[1:4] == ["-m", "rlperc", "train"] and sys.argv[5:] == ["--resume"], sys.argv
folder, began = pathlib.Path(yaml.safe_load(open(sys.argv[4]))["output"]), time.time()
folder.mkdir(parents=True, exist_ok=True)
{does}
summary = {{"status": "done", "seconds": 0.1, "eval": {{"after": {{"a": 0.5, "a_p": 0.25}}}}, "coupling": {{}}}}
(folder / "summary.json").write_text(json.dumps(summary))
with open({lines!r}, "a") as lines:
    lines.write(json.dumps([folder.name, began, time.time(), os.environ["OMP_NUM_THREADS"]]) + "\\n")
"""
TWO_CASES = ("cases.two", {"recipes": {"sft": "small.yaml"}})
ONE_SEED = ("seeds", [0])


class Bench:
    """A folder with a study, and a trainer that does something before it is done."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.script, self.lines = folder, folder / "trainer.py", folder / "lines.jsonl"
        self.said: list[str] = []

    def planned(self, *changes: tuple[str, Any]) -> dict[Job, str]:
        study = load_study(write(self.folder, changed(*changes)))
        return plan(study, jobs_of(study, self.folder / "out"), self.folder)

    def launcher(self, does: str) -> list[str]:
        self.script.write_text(TRAINER.format(does=does, lines=str(self.lines)))
        return [sys.executable, str(self.script)]

    def do(self, planned: dict[Job, str], at_once: int = 1, does: str = "") -> list[str]:
        """Do the jobs, and give those that failed."""
        self.said.clear()
        return [str(job) for job in do_jobs(planned, at_once, self.launcher(does), self.said.append)]

    def trained(self) -> list[tuple[str, float, float, str]]:
        return [json.loads(line) for line in self.lines.read_text().splitlines()] if self.lines.exists() else []

    def running(self) -> dict[int, str]:
        return processes(str(self.script))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for number in made.running():
        os.kill(number, signal.SIGKILL)


def test_as_many_run_at_a_time_as_asked_and_each_after_what_it_needs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert bench.do(bench.planned(("seeds", [0, 1, 2])), at_once=2, does="time.sleep(0.2)") == []
    trained = bench.trained()
    assert sorted(name for name, *_ in trained) == sorted(f"{run}-{seed}" for run in ("base", "plain") for seed in range(3))
    at = [sum(began <= moment < ended for _, began, ended, _ in trained) for _, moment, _, _ in trained]
    assert max(at) <= 2
    begun = [1 if "begins" in line else -1 for line in bench.said]
    assert {sum(begun[: place + 1]) for place in range(len(begun))} == {0, 1, 2}
    times = {name: (began, ended) for name, began, ended, _ in trained}
    assert all(times[f"base-{seed}"][1] < times[f"plain-{seed}"][0] for seed in range(3))
    assert {threads for *_, threads in trained} == {str(max(1, (os.cpu_count() or 1) // 2))}


def test_what_begins_and_what_became_of_it_is_said(bench: Bench) -> None:
    planned = bench.planned(ONE_SEED)
    bench.do(planned)
    assert bench.said == [
        "one base 0: begins (1 wait)",
        "one base 0: a 50.0, a_p 25.0 (0 s)",
        "one plain 0: begins (0 wait)",
        "one plain 0: a 50.0, a_p 25.0 (0 s)",
    ]
    assert [job.file.read_text() for job in planned] == list(planned.values())
    bench.do(planned)
    assert bench.said == ["2 of 2 runs are there already"]
    assert len(bench.trained()) == 2


def test_checkpoints_of_a_run_that_ended_by_itself_go(bench: Bench) -> None:
    """As after `kill -9` of the study, whose trainings go on."""
    planned = bench.planned(ONE_SEED)
    bench.do(planned)
    left = next(iter(planned)).folder / "stages" / "see" / "checkpoint-2"
    left.mkdir(parents=True)
    bench.do(planned)
    assert not left.exists()


def test_threads_that_the_user_sets_are_the_users(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    bench.do(bench.planned(ONE_SEED), at_once=2)
    assert {threads for *_, threads in bench.trained()} == {"7"}


def test_a_failure_takes_with_it_what_needs_it_and_nothing_else(bench: Bench) -> None:
    last = {"recipe": "sft", "from": "plain", "stages": ["warm"]}
    planned = bench.planned(("runs.last", last), TWO_CASES, ONE_SEED)
    fails = "if 'one/plain' in sys.argv[4]: sys.exit('rlperc: no room\\n  why: it is full')"
    assert bench.do(planned, does=fails) == ["one plain 0", "one last 0"]
    assert [name for name, *_ in bench.trained()] == ["base-0", "base-0", "plain-0", "last-0"]
    (failure,) = [line for line in bench.said if "failed" in line]
    (plain,) = [job for job in planned if str(job) == "one plain 0"]
    assert failure.splitlines() == [
        f"one plain 0: failed with exit code 1; {plain.log} ends with",
        "  rlperc: no room",
        "    why: it is full",
    ]
    assert bench.do(planned) == []
    assert bench.said[0] == "4 of 6 runs are there already"


def test_a_run_that_ends_with_0_and_leaves_nothing_has_failed(bench: Bench) -> None:
    assert bench.do(bench.planned(ONE_SEED), does="sys.exit(0)") == ["one base 0", "one plain 0"]
    assert "failed with exit code 0" in bench.said[1]


def test_the_last_words_are_those_of_this_time(bench: Bench) -> None:
    """The second time it is killed, as for want of memory, and says nothing of why."""
    planned = bench.planned(ONE_SEED)
    bench.do(planned, does="sys.exit('rlperc: no room on the disk')")
    assert "no room on the disk" in bench.said[1]
    bench.do(planned, does="print('step 1', flush=True); os.kill(os.getpid(), 9)")
    assert "exit code -9" in bench.said[1]
    assert "no room on the disk" not in bench.said[1]


def test_a_launcher_that_is_not_there_is_said(bench: Bench) -> None:
    with pytest.raises(FolderError) as caught:
        do_jobs(bench.planned(ONE_SEED), 1, ["/no/torchrun"], bench.said.append)
    assert caught.value.asked == "beginning one base 0"
    assert "/no/torchrun" in caught.value.why
    assert "--launch" in caught.value.instead


def test_where_one_cannot_begin_the_others_are_not_left_behind(bench: Bench) -> None:
    planned = bench.planned(TWO_CASES, ONE_SEED)
    (bench.folder / "out").mkdir()
    (bench.folder / "out" / "two").write_text("a file where a folder should be")
    before = descendants(os.getpid())
    with pytest.raises(FolderError, match="beginning two base 0"):
        bench.do(planned, at_once=2, does="time.sleep(60)")
    assert until(lambda: not descendants(os.getpid()) - before, seconds=3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_all_of_it_and_the_same_command_goes_on(number: signal.Signals, bench: Bench) -> None:
    """A terminal that is closed sends SIGHUP."""
    file, out = write(bench.folder, changed(TWO_CASES, ONE_SEED)), bench.folder / "out"
    waits = "if '/base-0' in sys.argv[4] and 'two' in sys.argv[4]: (folder / 'begun').touch(); time.sleep(60)"
    command = [sys.executable, "-m", "rlperc", "study", str(file), "--out", str(out), "--jobs", "2"]
    command += ["--launch", " ".join(bench.launcher(waits))]
    study = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert until((out / "two" / "base-0" / "begun").exists)
    assert until((out / "one" / "plain-0" / "summary.json").exists)
    children = descendants(study.pid)
    assert children
    study.send_signal(number)
    said, wrong = study.communicate(timeout=30)
    assert until(lambda: not bench.running(), seconds=3)
    assert study.returncode == 128 + number
    assert "the same command goes on with it" in wrong
    assert said.splitlines()[-1] == str(out / "report.html")
    assert "2 of 4 runs" in (out / "report.html").read_text()
    bench.launcher("")
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert "2 of 4 runs are there already" in again.stdout
    assert "4 of 4 runs" in (out / "report.html").read_text()


def test_where_nobody_reads_on_what_is_said_the_page_is_written(bench: Bench) -> None:
    """As in `rlperc study … | head -2`; the trainings end with it."""
    file, out = write(bench.folder, changed(ONE_SEED)), bench.folder / "out"
    waits = "if 'plain' in sys.argv[4]: time.sleep(60)"
    command = [sys.executable, "-m", "rlperc", "study", str(file), "--out", str(out), "--launch", " ".join(bench.launcher(waits))]
    study = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert study.stdout is not None
    assert [study.stdout.readline() for _ in range(2)][-1] == "one base 0: begins (1 wait)\n"
    study.stdout.close()
    assert study.wait(timeout=30) == 128 + signal.SIGPIPE
    assert not bench.running()
    assert "of 2 runs" in (out / "report.html").read_text()


def test_only_one_study_is_made_in_a_folder(bench: Bench) -> None:
    file, out = write(bench.folder, changed(ONE_SEED)), bench.folder / "out"
    command = [sys.executable, "-m", "rlperc", "study", str(file), "--out", str(out)]
    first = RunFolder(out)
    first.hold()
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert f"the output folder {out}" in refused.stderr
    assert "another process is training there" in refused.stderr
    assert not (out / "report.html").exists()
    first.release()
    done = subprocess.run([*command, "--launch", " ".join(bench.launcher(""))], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
