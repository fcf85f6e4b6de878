"""Real short runs through the command line, in processes of their own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from launch import QUICKSTART, SHORT, TORCHRUN, rlperc
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlperc.errors import RecipeError
from rlperc.recipe.load import load_recipe

ENDS = ("a", "a_p", "a_r")


def lines(folder: Path, kind: str) -> list[dict]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == kind]


def test_a_run_leaves_everything_behind(short_run: Path) -> None:
    summary = json.loads((short_run / "summary.json").read_text())
    assert summary["status"] == "done"
    assert list(summary["eval"]) == ["random", "before", "after"]
    for found in summary["eval"].values():
        assert found["n"] == 16
        for name in ENDS:
            low, high = found[f"{name}_interval"]
            assert 0 <= low <= found[name] <= high <= 1
    assert [point["step"] for point in summary["curve"]] == [0, 1, 2]
    assert set(summary["stage_seconds"]) == {"see", "warm", "reason"}
    assert summary["peak_memory_mib"] > 100
    assert 0 <= summary["zero_spread"]["reason"] <= 1
    assert json.loads((short_run / "versions.json").read_text())["trl"] == "1.16.0"
    assert len(summary["samples"]) == 6
    assert (short_run / summary["samples"][0]["images"][0]).is_file()
    assert set(summary["samples"][0]["responses"]) == {"random", "before", "after"}


def test_every_step_is_in_the_metrics(short_run: Path) -> None:
    steps = {(entry["stage"], entry["step"]) for entry in lines(short_run, "train")}
    assert {("see", 3), ("warm", 3), ("reason", 1), ("reason", 2)} <= steps
    first = next(entry for entry in lines(short_run, "train") if entry["stage"] == "reason")
    assert {"rewards/answer_number/mean", "rewards/perception_cells/mean", "reward", "loss"} <= set(first)
    assert [entry["model"] for entry in lines(short_run, "eval")] == ["random", "before", "after"]
    assert len(lines(short_run, "curve")) == 3
    assert len(lines(short_run, "coupling")) == 1
    assert len(lines(short_run, "sample")) == 6


def test_models_of_more_stages_are_measured_and_with_blind_eyes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    more = ("evaluate.after=[see, warm]", "evaluate.blind=[none, other]", "evaluate.curve=null")
    done = rlperc("train", str(QUICKSTART), f"output={folder}", *SHORT[:-2], *more)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["eval"]) == ["random", "see", "warm", "before", "after"]
    assert summary["eval"]["warm"] == summary["eval"]["before"]
    assert {"a", "a_p", "a_p_partial", "a_r", "a_o", "blind_none", "blind_other"} <= set(summary["eval"]["see"])
    assert summary["changes"]["before"]["a"]["p"] <= 1
    assert "measure warm" in done.stdout
    assert done.stdout.count("measure before") == 0  # the same model
    assert "without an image" in (folder / "report.html").read_text()


@pytest.mark.parametrize(("stages", "why"), [("[wrm]", "there is no stage 'wrm', only reason, see, warm")])
def test_only_stages_can_be_measured(stages: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        load_recipe(QUICKSTART, f"evaluate.after={stages}")


def test_completions_carry_scores_and_reasons(short_run: Path) -> None:
    table = pyarrow.parquet.read_table(short_run / "stages" / "reason" / "completions" / "completions_00002.parquet")
    assert {"completion", "answer_number", "answer_number/why", "perception_cells", "advantage"} <= set(table.column_names)
    assert table.num_rows == 16


def test_the_model_loads_with_its_processor_and_carries_its_card(short_run: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(short_run / "model")
    assert AutoProcessor.from_pretrained(short_run / "model").image_seq_len == 4
    start = AutoModelForImageTextToText.from_pretrained(short_run / "stages" / "start")
    assert not torch.equal(model.get_input_embeddings().weight, start.get_input_embeddings().weight)
    card = (short_run / "model" / "README.md").read_text()
    assert "| before |" in card
    assert "| `perception_cells` | 1.0 |" in card
    assert "kind: grpo" in card


def test_only_one_run_fits_a_folder(short_run: Path) -> None:
    before = (short_run / "summary.json").read_bytes(), (short_run / "report.html").stat().st_mtime_ns
    done = rlperc("train", str(QUICKSTART), f"output={short_run}", *SHORT)
    assert done.returncode == 2
    assert "it already holds a run" in done.stderr
    assert "Traceback" not in done.stderr
    assert ((short_run / "summary.json").read_bytes(), (short_run / "report.html").stat().st_mtime_ns) == before


MINE = """\
model: {{name: {model}}}
data: {{world: digits, rows: 4}}
train: {{gradient_checkpointing: false, save_strategy: "no", learning_rate: 1e-2}}
rewards: {rewards}
stages:
  - name: reason
    kind: grpo
    model: {adapt}
    train: {{max_steps: 2, per_device_train_batch_size: 8, num_generations: 4, max_completion_length: 12{train}}}
{evaluate}
"""
EVALUATE = "evaluate: {data: {split: test, rows: 4, seed: 0}, max_new_tokens: 12, samples: 2}"


def mine(folder: Path, model: Path, rewards: str, adapt: str = "{}", train: str = "", evaluate: str = "") -> str:
    file = folder / "mine.yaml"
    file.write_text(MINE.format(model=model, rewards=rewards, adapt=adapt, train=train, evaluate=evaluate))
    return str(file)


def test_rewards_of_ones_own_from_a_model_of_ones_own(short_run: Path, tmp_path: Path) -> None:
    """A reward by path beside a plain TRL function, from a folder, with LoRA."""
    (tmp_path / "my_reward.py").write_text(
        "from rlperc import Score, reward\n@reward(credits='format')\n"
        "def brief(completion, answer, *, limit):\n"
        "    return Score(1.0 if completion.tokens <= limit else 0.0, why=f'{completion.tokens} tokens')\n"
    )
    (tmp_path / "plain.py").write_text(
        "def varied(completions, **kwargs):\n    return [float(len(set(c[0]['content']))) for c in completions]\n"
    )
    rewards = "[{use: ./my_reward.py, with: {limit: 6}}, {use: ./plain.py}, {use: answer_number}]"
    recipe = mine(tmp_path, short_run / "model", rewards, "{lora: {r: 4}}", evaluate=EVALUATE)
    done = rlperc("train", recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "runs" / "mine"
    assert list(json.loads((run / "summary.json").read_text())["eval"]) == ["start", "before", "after"]
    first = lines(run, "train")[0]
    assert first["rewards/varied/mean"] > 1
    assert "rewards/brief/mean" in first
    AutoModelForImageTextToText.from_pretrained(run / "model")
    card = (run / "model" / "README.md").read_text()
    assert "base_model:" not in card  # a folder of one's own is no name on the hub
    assert f"from\n{short_run / 'model'}" in card


@pytest.mark.parametrize("lora", ["", ", lora: {r: 4}"])
def test_what_is_frozen_stays(short_run: Path, tmp_path: Path, lora: str) -> None:
    rewards = "[{use: ./plain.py}]"
    (tmp_path / "plain.py").write_text(
        "def varied(completions, **kwargs):\n    return [float(len(c[0]['content'])) for c in completions]\n"
    )
    recipe = mine(tmp_path, short_run / "model", rewards, "{freeze: [vision, projector]" + lora + "}")
    done = rlperc("train", recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (AutoModelForImageTextToText.from_pretrained(f) for f in (short_run / "model", tmp_path / "runs/mine/model"))
    changed = {n.split(".")[1] for n, p in before.named_parameters() if not torch.equal(p, after.get_parameter(n))}
    assert changed == {"text_model"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('boom')", "line 5: ValueError: boom"),
        ("return float('nan')", "it returned nan"),
        ("return 2", "outside its declared range 0 to 1"),
    ],
)
def test_a_reward_that_breaks_on_what_the_model_writes(short_run: Path, tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from rlperc import reward\n@reward()\ndef mine(completion):\n"
        f"    if completion.text and not completion.answer:\n        {body}\n    return 0\n"
    )
    done = rlperc("train", mine(tmp_path, short_run / "model", "[{use: ./mine.py}]"), cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    run = tmp_path / "runs" / "mine"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert said in summary["error"]
    assert "What went wrong" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": Path("/nowhere/model")}, "the model '/nowhere/model'"),
        ({"adapt": "{freeze: [ears]}"}, "no parameter of this model belongs to it"),
        ({"train": ", warmup_steps: many"}, "GRPOConfig takes"),
        ({"train": ", multi_objective: 1"}, "did you mean 'multi_objective_aggregation'"),
        ({"train": ", lr_scheduler_type: zigzag"}, "zigzag"),
        ({"train": ", use_liger_kernel: true"}, "liger-kernel"),
        ({"evaluate": "report_to: wndb"}, "report_to: wndb"),
    ],
)
def test_faults_that_show_only_in_training(short_run: Path, tmp_path: Path, change: dict, said: str) -> None:
    arguments = {"model": short_run / "model", "rewards": "[{use: answer_number}]", **change}
    done = rlperc("train", mine(tmp_path, **arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr[-2000:]
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_leaves_a_run_that_can_be_looked_at(tmp_path: Path) -> None:
    run = tmp_path / "run"
    longer = [part for part in SHORT if not part.startswith("stages.warm")]
    command = [sys.executable, "-m", "rlperc", "train", str(QUICKSTART), f"output={run}", *longer]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (run / "metrics.jsonl").is_file() and '"stage": "warm"' in (run / "metrics.jsonl").read_text())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert "interrupted" in (run / "report.html").read_text()


def wait_for(condition: object, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.2)


def test_two_processes(tmp_path: Path) -> None:
    """`torchrun` with gloo: one process prints and writes, and the groups are whole."""
    run = tmp_path / "run"
    done = rlperc("train", str(QUICKSTART), f"output={run}", *SHORT, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["processes"] == 2
    assert [found["n"] for found in summary["eval"].values()] == [16, 16, 16]
    assert done.stdout.count("stage reason (grpo)") == 1
    table = pyarrow.parquet.read_table(run / "stages" / "reason" / "completions" / "completions_00002.parquet")
    assert table.num_rows == 32
    AutoModelForImageTextToText.from_pretrained(run / "model")


def test_a_run_that_learned_nothing_says_so(tmp_path: Path) -> None:
    options = [*SHORT, "evaluate=null", "rewards.format_tags.weight=0", "rewards.perception_cells.weight=0"]
    done = rlperc("train", str(QUICKSTART), f"output={tmp_path / 'run'}", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["zero_spread"] == {"reason": 1.0}
    assert "in 'reason' no group had rewards that differ" in " ".join(done.stdout.split())
