"""Rewards inside real training runs: faults, groups that are torn between processes, rewards that ask the model."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from launch import QUICKSTART, SHORT, TORCHRUN, rlperc

FAULTY = '''
"""Eight faults, each at the first completion that meets it; every other completion is scored by its length.

What `check` tries it on, an empty response and a gold one, meets none.
"""
import os, time
from pathlib import Path
from rlperc import reward

FAULTS = ("raise", "hang", "end", "memory", "nan", "inf", "sleep", "length")

def first(folder, fault, text):
    if not text or "</answer>" in text:
        return False
    try:
        Path(folder, fault).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

def length(completion):
    return (len(completion.text) % 10) / 10

@reward(timeout_s=1.0)
def alone(completion, *, folder):
    fault = next((fault for fault in FAULTS[:7] if first(folder, fault, completion.text)), "")
    match fault:
        case "raise": raise ValueError("injected")
        case "hang": time.sleep(1000)
        case "end": os._exit(7)
        case "memory": return len([0] * 10**11)
        case "nan": return float("nan")
        case "inf": return float("inf")
        case "sleep": time.sleep(0.5)
    return length(completion)

@reward(scope="group")
def together(completions, *, folder):
    scores = [length(one) for one in completions]
    return scores[1:] if first(folder, "length", completions[-1].text) else scores
'''


def completions(run: Path) -> list[dict]:
    files = sorted((run / "stages" / "reason" / "completions").glob("*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def text(row: dict) -> str:
    written = row["completion"]
    return written if isinstance(written, str) else written[-1]["content"]


def recipe(folder: Path, rewards: list[dict]) -> str:
    """The quickstart with other rewards."""
    import yaml

    raw = yaml.safe_load(QUICKSTART.read_text())
    raw["rewards"] = rewards
    raw["evaluate"]["answer"] = "answer_number"
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw))
    return str(file)


def test_eight_faults_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "met").mkdir()
    shared = {"with": {"folder": str(tmp_path / "met")}, "on_error": "skip", "max_error_share": 1.0}
    names = ("alone", "together")
    file = recipe(tmp_path, [{"use": f"./faulty.py:{name}", **shared} for name in names])
    done = rlperc("train", file, f"output={tmp_path / 'run'}", *SHORT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in (tmp_path / "met").iterdir()} == {
        *("raise", "hang", "end", "memory", "nan", "inf", "sleep", "length")
    }
    tallies = json.loads((tmp_path / "run" / "summary.json").read_text())["rewards"]["reason"]
    rows = completions(tmp_path / "run")
    assert len(rows) == 32
    for name in names:
        for row in rows:
            assert row[f"{name}/why"] or row[name] == pytest.approx(len(text(row)) % 10 / 10)
    assert tallies["alone"]["counts"] == {"value": 26, "error": 3, "timeout": 1, "nan": 1, "inf": 1}
    assert tallies["together"]["counts"] == {"value": 24, "error": 8}
    assert tallies["together"]["faults"] == {"it returned 7 scores for 8 completions": 8}
    assert sorted(tallies["alone"]["faults"]) == [
        "it raised line 28: ValueError: injected",
        "it ran out of its memory",
        "it returned inf, which would silence the whole group's advantages",
        "it returned nan, which would silence the whole group's advantages",
        "it took longer than its 1 s",
        "its worker process ended with exit code 7",
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "it returned 7 scores for 8 completions" in page
    assert "What the rewards of 'reason' made of the completions" in done.stdout


GROUPED = """
import hashlib
from rlperc import Score, reward

@reward(scope="group", bounded=True)
def whole(completions, task):
    every = hashlib.sha256("|".join(one.text for one in completions).encode()).hexdigest()
    return [Score(min(1.0, len(completions) / 100), why=f"{len(completions)} {every}") for _ in completions]
"""


def test_groups_are_whole_when_processes_share_them(tmp_path: Path) -> None:
    (tmp_path / "grouped.py").write_text(GROUPED)
    file = recipe(tmp_path, [{"use": "./grouped.py"}, {"use": "answer_number", "isolate": True}])
    # 12 completions in each of two processes, in groups of 8: the middle group is torn.
    options = [*SHORT, "stages.reason.train.per_device_train_batch_size=12", "stages.reason.data.rows=12"]
    done = rlperc("train", file, f"output={tmp_path / 'run'}", *options, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = completions(tmp_path / "run")
    assert len(rows) == 2 * 24
    for start in range(0, len(rows), 8):
        group = rows[start : start + 8]
        every = hashlib.sha256("|".join(text(row) for row in group).encode()).hexdigest()
        assert {row["whole/why"] for row in group} == {f"8 {every}"}
    tallies = json.loads((tmp_path / "run" / "summary.json").read_text())["rewards"]["reason"]
    assert tallies["answer_number"]["counts"] == tallies["whole"]["counts"] == {"value": 48}


def test_rewards_that_ask_the_model(tmp_path: Path) -> None:
    uses = [{"use": name} for name in ("answer_number", "image_dependence", "augment_consistency", "agreement")]
    file = recipe(tmp_path, uses)
    checked = rlperc("check", file)
    assert checked.returncode == 0
    assert "the reward 'image_dependence' is not tried here, because it asks the training model" in checked.stdout
    done = rlperc("train", file, f"output={tmp_path / 'run'}", *SHORT)
    assert done.returncode == 0, done.stderr[-3000:]
    tallies = json.loads((tmp_path / "run" / "summary.json").read_text())["rewards"]["reason"]
    assert {name: tally["counts"] for name, tally in tallies.items()} == {use["use"]: {"value": 32} for use in uses}


SCRIPT = """
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer
from rlperc import load_recipe, trl_rewards
from rlperc.recipe.schema import Data
from rlperc.train.data import load_rows

reward_funcs, reward_weights = trl_rewards(load_recipe("recipe.yaml"))
trainer = GRPOTrainer(
    model=AutoModelForImageTextToText.from_pretrained("MODEL"),
    processing_class=AutoProcessor.from_pretrained("MODEL"),
    reward_funcs=reward_funcs,
    train_dataset=load_rows(Data(world="digits", rows=4), seed=0),
    args=GRPOConfig(
        output_dir="out", reward_weights=reward_weights, max_steps=1, per_device_train_batch_size=16, num_generations=8,
        max_completion_length=16, use_cpu=True, bf16=False, report_to="none", save_strategy="no",
    ),
)
trainer.train()
print("LOGGED", {name: value for name, value in trainer.state.log_history[0].items() if name.startswith("rewards/")})
"""


def test_a_plain_trl_script_without_a_main_guard(short_run: Path, tmp_path: Path) -> None:
    recipe(tmp_path, [{"use": "answer_number", "isolate": True}, {"use": "agreement", "weight": 0.5}])
    (tmp_path / "script.py").write_text(SCRIPT.replace("MODEL", str(short_run / "model")))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (logged,) = [line for line in done.stdout.splitlines() if line.startswith("LOGGED")]
    assert "rewards/answer_number/mean" in logged
    assert "rewards/agreement/mean" in logged
