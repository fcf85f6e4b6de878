"""ZeRO in two processes. `make test-distributed` has every stage with every kind of training; see tests/distributed."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from launch import LEARNING, QUICKSTART, SHORT, TORCHRUN, Begun, in_two_processes, rlperc, values
from mixed import mixed_rows
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from rlperc.cli import main
from rlperc.errors import RecipeError
from rlperc.recipe.distributed import WAYS, deepspeed_config
from rlperc.recipe.load import dump_recipe, load_recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recipe, two processes, with DDP and with ZeRO-3."""
    folder = tmp_path_factory.mktemp("runs")
    for way in ("ddp", "zero3"):
        options = (*LEARNING, f"distributed={way}", f"output={folder / way}")
        done = rlperc("train", str(QUICKSTART), *options, launcher=TORCHRUN)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("stage", ["see", "warm", "reason"])
def test_zero3_takes_the_steps_of_ddp(runs: Path, stage: str) -> None:
    ours, theirs = values(runs / "zero3", stage), values(runs / "ddp", stage)
    assert len(ours) == (8 if stage == "reason" else 6)
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)  # sums in another order
    assert all(theirs)  # something was learned


def test_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a killed build leaves is waited for by all later runs."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "compiled"))
    done = rlperc("train", str(QUICKSTART), *SHORT, "distributed=zero2", "evaluate=null", f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (tmp_path / "compiled").exists()


def test_the_whole_model_is_saved(runs: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(runs / "zero3" / "model")
    other = AutoModelForImageTextToText.from_pretrained(runs / "ddp" / "model").state_dict()
    # On average, because where a gradient is all but nothing (keys have a bias without effect), Adam steps by its sign.
    assert all((weights - other[name]).abs().mean() < 1e-5 for name, weights in model.state_dict().items())
    start = load_file(runs / "zero3" / "stages" / "start" / "model.safetensors")
    moved = [(weights - other[name]).abs().mean() > 1e-4 for name, weights in start.items()]
    assert sum(moved) > len(moved) / 2


def test_it_measures_the_same(runs: Path) -> None:
    ours, theirs = (json.loads((runs / way / "summary.json").read_text()) for way in ("zero3", "ddp"))
    assert ours["eval"] == theirs["eval"]
    assert [point["step"] for point in ours["curve"]] == [0, 1, 2, 3, 4]
    assert ours["curve"] == theirs["curve"]


def test_two_processes_take_the_steps_of_one(runs: Path, tmp_path: Path) -> None:
    """As many rows in a step; RL is left out, where every process draws its own responses."""
    recipe = load_recipe(QUICKSTART, *LEARNING)
    sizes = [
        f"stages.{stage.name}.train.per_device_train_batch_size={2 * stage.train['per_device_train_batch_size']}"
        for stage in recipe.stages
    ]
    done = rlperc("train", str(QUICKSTART), *LEARNING, *sizes, f"output={tmp_path / 'one'}")
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("see", "warm"):
        assert values(runs / "zero3", stage) == pytest.approx(values(tmp_path / "one", stage), rel=1e-3)


def test_sigterm_to_the_launcher_saves_in_all_processes(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    options = (*LEARNING, "distributed=zero3", "--resume")
    run = Begun(folder, *options, launcher=TORCHRUN)
    run.until("reason", 1)
    run.process.send_signal(signal.SIGTERM)
    code, said = run.end()
    assert code != 0
    assert json.loads((folder / "summary.json").read_text())["status"] == "terminated", said[-3000:]
    assert json.loads((folder / "progress.json").read_text())["checkpoint"]["step"] >= 1
    code, said = Begun(folder, *options, launcher=TORCHRUN).end()
    assert code == 0, said[-3000:]
    assert values(folder, "reason") == values(runs / "zero3", "reason")
    ours, theirs = (load_file(one / "model" / "model.safetensors") for one in (folder, runs / "zero3"))
    assert all(torch.equal(weights, theirs[name]) for name, weights in ours.items())


def test_rows_that_would_wait_for_ever_are_refused(tmp_path: Path) -> None:
    mixed_rows([1, 0] * 8, many=False).save_to_disk(str(tmp_path / "rows"))
    data = f"stages.reason.data={{folder: '{tmp_path / 'rows'}'}}"
    options = (*SHORT, data, "distributed=zero3", f"output={tmp_path / 'run'}")
    done = rlperc("train", str(QUICKSTART), *options, launcher=TORCHRUN)
    assert done.returncode != 0
    assert "8 of 16 rows have no image" in done.stderr


# --- what is asked for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_every_way_has_a_configuration(way: str) -> None:
    config = deepspeed_config(load_recipe(QUICKSTART, f"distributed={way}"))
    if way == "ddp":
        assert config is None
        return
    stage = config["zero_optimization"]["stage"]
    assert way.startswith(f"zero{stage}")
    assert ("offload_optimizer" in config["zero_optimization"]) == way.endswith("offload")
    assert ("deepspeed" in load_recipe(QUICKSTART, f"distributed={way}").extras) == (way != "ddp")


def test_a_file_counts_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"zero_optimization": {"stage": 2}, "train_batch_size": "auto"}')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(load_recipe(QUICKSTART)).replace("distributed: ddp", "distributed: ./mine.json"))
    assert deepspeed_config(load_recipe(recipe))["zero_optimization"] == {"stage": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read as JSON"),
        ("[]", "no stage of ZeRO"),
        ('{"zero_optimization": {"stage": 4}}', "no stage of ZeRO"),
        ('{"zero_optimization": {"stage": 3}}', "no model could be saved"),
        ('{"zero_optimization": {"stage": 2}, "optimizer": {"type": "Adam"}}', "critic_learning_rate"),
    ],
)
def test_configurations_that_cannot_be_used(text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    if text is not None:
        file.write_text(text)
    ppo = ("stages.reason.kind=ppo", "stages.reason.ppo.critic_learning_rate=0.1")
    with pytest.raises(RecipeError, match=said):
        deepspeed_config(load_recipe(QUICKSTART, f"distributed={file}", *ppo))


def test_a_way_that_is_none(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", str(QUICKSTART), "distributed=zero4"]) == 2
    assert "one of ddp, zero1, zero2" in capsys.readouterr().err


def test_mismatched_numbers_are_the_recipes_fault(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 3}')
    done = rlperc("train", str(QUICKSTART), *SHORT, f"distributed={tmp_path}/mine.json", f"output={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "train_micro_batch_size_per_gpu" in done.stderr
    assert "Traceback" not in done.stderr


LIMIT = """
import sys
from datetime import timedelta

from torch import device, distributed

from rlperc.recipe.load import load_recipe
from rlperc.run import _prepared

_prepared(load_recipe(*sys.argv[1:]), print)
group = distributed.group.WORLD._get_backend(device("cpu"))
assert group.options._timeout == timedelta(seconds=30), group.options._timeout
distributed.destroy_process_group()
"""


@pytest.mark.parametrize("way", ["ddp", "zero3"])
def test_collectives_wait_as_long_as_the_recipe_says(way: str, tmp_path: Path) -> None:
    (tmp_path / "limit.py").write_text(LIMIT)
    options = ("train.ddp_timeout=30", f"distributed={way}", f"output={tmp_path / 'run'}")
    in_two_processes(tmp_path / "limit.py", QUICKSTART, *options)


def test_accelerate_launch(tmp_path: Path) -> None:
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
    rest = ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")
    done = rlperc("train", str(QUICKSTART), f"output={tmp_path / 'run'}", *SHORT, "evaluate=null", launcher=(*launcher, *rest))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["processes"] == 2


@pytest.mark.parametrize("way", ["DEEPSPEED", "FSDP"])
def test_a_launcher_that_was_told_another_way_is_refused(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
    with pytest.raises(RecipeError, match=f"told another way .ACCELERATE_USE_{way}=true"):
        deepspeed_config(load_recipe(QUICKSTART))
