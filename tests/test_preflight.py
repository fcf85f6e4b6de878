"""What a recipe needs against what a machine has: sizes from headers, arithmetic by hand, and what is said where."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest
from launch import QUICKSTART, SHORT, rlperc
from trainers import tiny_model

from rlperc.errors import MachineError
from rlperc.recipe import machine, preflight
from rlperc.recipe.batches import launched
from rlperc.recipe.load import load_recipe
from rlperc.recipe.machine import GIB, gpu_memory
from rlperc.recipe.memory import checkpoint_size, estimate
from rlperc.recipe.schema import Recipe
from rlperc.recipe.weights import Sizes, model_sizes
from rlperc.train.models import load_model

# 10 layers of width 64, of which one matrix each is named; 3 heads of 8 for keys and values.
TENSORS = {
    "model.embed_tokens.weight": (1000, 64),
    "model.visual.patch.weight": (64, 48),
    "model.layers.0.q_proj.weight": (64, 64),
    "model.layers.0.norm.weight": (64,),
}
TOTAL = 64000 + 3072 + 4096 + 64
CONFIG = {
    "model_type": "idefics3",
    "text_config": {
        "hidden_size": 64,
        "num_hidden_layers": 10,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 8,
        "vocab_size": 1000,
    },
}


def stored(folder: Path, tensors: dict[str, tuple[int, ...]] = TENSORS, dtype: str = "BF16") -> Path:
    """A model of which only the headers are there."""
    folder.mkdir(exist_ok=True)
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, shape in tensors.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for file in ("processor_config.json", "tokenizer.json"):
        (folder / file).write_text("{}")
    return folder


def recipe_on(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(QUICKSTART, f"model={{name: '{folder}'}}", *overrides)


def sizes_of(recipe: Recipe) -> Sizes:
    found = model_sizes(recipe.stages[-1].model)
    assert found is not None
    return found


def test_sizes_from_headers(tmp_path: Path) -> None:
    recipe = recipe_on(stored(tmp_path / "model"))
    sizes = sizes_of(recipe)
    assert sizes.total == TOTAL
    assert sizes[1:] == (2, 10, 64, 1000, 24)
    model = recipe.stages[-1].model
    assert sizes.trained(model.model_copy(update={"freeze": ["vision"]})) == TOTAL - 3072
    assert sizes.trained(model.model_copy(update={"freeze": ["model.embed"]})) == TOTAL - 64000
    # r * (rows + columns) of the two matrices that are neither embedding nor head.
    lora = recipe_on(tmp_path / "model", "stages.reason.model.lora={r: 4}").stages[-1].model
    assert sizes.trained(lora) == 4 * (64 + 48) + 4 * (64 + 64)


def test_sizes_of_a_real_model(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model")
    recipe = recipe_on(folder, "stages.reason.model.freeze=[vision]")
    model, _ = load_model(folder, recipe.stages[-1].model)
    sizes = sizes_of(recipe)
    assert sizes.total == sum(one.numel() for one in model.parameters())
    assert sizes.trained(recipe.stages[-1].model) == sum(one.numel() for one in model.parameters() if one.requires_grad)


def test_no_model_no_sizes(tmp_path: Path) -> None:
    assert model_sizes(load_recipe(QUICKSTART, "model={name: nobody/has-this}").stages[0].model) is None
    assert model_sizes(load_recipe(QUICKSTART).stages[0].model) is None


@pytest.mark.parametrize(
    "broken", ["version https://git-lfs.github.com/spec/v1\n", "\x10\0\0\0\0\0\0\0{", "", "\x02" + 7 * "\0" + "[]"]
)
def test_weights_that_cannot_be_read_are_not_for_preflight_to_say(broken: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / "model")
    (folder / "model.safetensors").write_text(broken)
    assert model_sizes(recipe_on(folder).stages[0].model) is None


@pytest.mark.parametrize("config", [{"model_type": "gemma3", "text_config": {"hidden_size": 8}}, {"model_type": "gemma3"}])
def test_a_config_without_sizes(config: dict, tmp_path: Path) -> None:
    folder = stored(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(config))
    assert model_sizes(recipe_on(folder).stages[0].model) is None


def test_the_index_says_which_files_count(tmp_path: Path) -> None:
    folder = stored(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "consolidated.safetensors").write_bytes((folder / "model-1.safetensors").read_bytes())
    index = {"weight_map": dict.fromkeys(TENSORS, "model-1.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert sizes_of(recipe_on(folder)).total == TOTAL


def test_a_reference_that_trl_loads_by_itself_counts(tmp_path: Path) -> None:
    recipe = recipe_on(stored(tmp_path / "model"), "stages.reason.kind=rloo")
    train = {name: value for name, value in recipe.stages[-1].train.items() if name != "beta"}  # the quickstart says 0
    stage = recipe.stages[-1].model_copy(update={"train": train})
    assert estimate(stage, sizes_of(recipe), None, None, half=False)["weights"] == 2 * 4 * TOTAL


def test_a_run_that_goes_on_has_written_some_of_it(tmp_path: Path) -> None:
    before = machine.free_disk(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"x" * (64 << 20))
    after = machine.free_disk(tmp_path / "run")
    assert before is not None
    assert after == pytest.approx(before, abs=32 << 20)


BATCH = (
    "stages.reason.train.gradient_checkpointing=true",
    "stages.reason.train.per_device_train_batch_size=2",
    "stages.reason.train.max_completion_length=100",
)


@pytest.mark.parametrize(
    ("way", "half", "weights", "gradients", "optimizer"),
    [  # bytes for each parameter, with four processes
        ("ddp", False, 4, 8, 8),
        ("zero1", True, 2, 2, 12 / 4),
        ("zero2", True, 2, 2 / 4, 12 / 4),
        ("zero3", True, 2 / 4, 2 / 4, 12 / 4),
        ("zero3", False, 4 / 4, 4 / 4, 12 / 4),
        ("zero2_offload", True, 2, 2 / 4, 0),
        ("zero3_offload", True, 0, 2 / 4, 0),
    ],
)
def test_states(
    way: str, half: bool, weights: float, gradients: float, optimizer: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    recipe = recipe_on(stored(tmp_path / "model"), *BATCH, f"distributed={way}")
    zero = preflight.deepspeed_config(recipe)
    found = estimate(recipe.stages[-1], sizes_of(recipe), zero and zero["zero_optimization"], None, half)
    assert found["weights"] == pytest.approx(weights * TOTAL)
    assert found["gradients"] == pytest.approx(gradients * TOTAL)
    assert found["optimizer"] == pytest.approx(optimizer * TOTAL)


def test_the_rest_of_an_estimate(tmp_path: Path) -> None:
    recipe = recipe_on(stored(tmp_path / "model"), *BATCH)
    found = estimate(recipe.stages[-1], sizes_of(recipe), None, None, half=True)
    # 2 sequences of 1,124 tokens, 64 wide: what 10 layers begin from in bfloat16, and all of one layer; logits of 100 tokens.
    assert found["activations"] == 2 * 1124 * 64 * (10 * 2 + 34) + 2 * 100 * 1000 * (2 + 4 + 4)
    steps = recipe.stages[-1].train.get("gradient_accumulation_steps", 1)
    assert found["keys and values"] == 2 * 10 * 24 * 2 * steps * 1124 * 2
    assert found.total == pytest.approx(sum(found.values()) - min(found["activations"], found["keys and values"]))
    plain = recipe_on(tmp_path / "model", *BATCH, "stages.reason.train.gradient_checkpointing=false")
    found = estimate(plain.stages[-1], sizes_of(plain), None, None, half=True)
    assert found["activations"] == 2 * 1124 * 64 * (10 * 34 + 34) + 2 * 100 * 1000 * (2 + 4 + 4)
    engine = "stages.reason.rollout={engine: vllm, vllm: {gpu_memory_utilization: 0.4, max_model_len: 512}}"
    on_vllm = recipe_on(tmp_path / "model", *BATCH, engine)
    found = estimate(on_vllm.stages[-1], sizes_of(on_vllm), None, 1000, half=True)
    assert found["vLLM"] == 400
    assert "keys and values" not in found
    assert found["activations"] == 2 * 512 * 64 * (10 * 2 + 34) + 2 * 100 * 1000 * (2 + 4 + 4)
    reference = recipe_on(tmp_path / "model", *BATCH, "stages.reason.train.beta=0.1")
    assert estimate(reference.stages[-1], sizes_of(reference), None, None, False)["weights"] == 2 * 4 * TOTAL


def test_checkpoints_sizes(tmp_path: Path) -> None:
    stored(tmp_path / "model")
    recipe = recipe_on(tmp_path / "model")
    assert checkpoint_size(recipe.stages[-1], sizes_of(recipe)) == 12 * TOTAL
    only = recipe_on(tmp_path / "model", "stages.reason.train.save_only_model=true").stages[-1]
    assert checkpoint_size(only, sizes_of(recipe)) == 4 * TOTAL


def test_a_full_disk_stops_and_a_filling_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = [f"stages.{stage}.train.save_strategy=steps" for stage in ("see", "warm", "reason")]
    steps = ("stages.reason.train.max_steps=100", "stages.reason.train.save_steps=10")
    recipe = recipe_on(stored(tmp_path / "model"), *saving, *steps, f"output={tmp_path / 'run'}")
    models, checkpoint = 3 * 4 * TOTAL, 12 * TOTAL
    monkeypatch.setattr(preflight, "free_disk", lambda _: models + checkpoint - 1)
    with pytest.raises(MachineError, match="a checkpoint takes"):
        preflight.check_machine(recipe)
    monkeypatch.setattr(preflight, "free_disk", lambda _: models + checkpoint)
    assert any("for 10 checkpoints" in one for one in preflight.check_machine(recipe))
    monkeypatch.setattr(preflight, "free_disk", lambda _: models + 10 * checkpoint)
    assert not any("checkpoint" in one for one in preflight.check_machine(recipe))
    limited = recipe_on(tmp_path / "model", *saving, *steps, "stages.reason.train.save_total_limit=2")
    monkeypatch.setattr(preflight, "free_disk", lambda _: models + 3 * checkpoint)
    assert not any("checkpoint" in one for one in preflight.check_machine(limited))


def test_shared_memory_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "shared_memory", lambda _: 64 << 20)
    assert preflight.preflight(load_recipe(QUICKSTART)) == []
    loaders = load_recipe(QUICKSTART, "stages.reason.train.dataloader_num_workers=2")
    assert "/dev/shm has 0.1 GiB" in str(preflight.preflight(loaders)[0])
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [80 * GIB] * 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert "--shm-size" in str(preflight.preflight(load_recipe(QUICKSTART))[0])


def test_a_lock_that_a_killed_build_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = tmp_path / "py311_cu130" / "cpu_adam" / "lock"
    lock.parent.mkdir(parents=True)
    offloaded = load_recipe(QUICKSTART, "distributed=zero2_offload")
    with lock.open("w"):
        assert preflight.check_machine(offloaded) == []
    assert any(f"rm {lock}" in one for one in preflight.check_machine(offloaded))
    assert preflight.check_machine(load_recipe(QUICKSTART, "distributed=zero2")) == []  # which compiles nothing
    lock.unlink()
    assert preflight.check_machine(offloaded) == []


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [80 * GIB] * 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(MachineError, match="--nproc_per_node 2"):
        preflight.check_machine(load_recipe(QUICKSTART))


def test_a_gpu_that_is_too_small_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_on(stored(tmp_path / "model"))
    assert all("no GPU here" in str(lack) for lack in preflight.preflight(recipe))
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [1 << 20])
    assert any("by estimate" in one and "the GPU has 0.0 GiB" in one for one in preflight.check_machine(recipe))
    monkeypatch.setattr(preflight, "gpu_memory", lambda: [80 * GIB])
    assert preflight.check_machine(recipe) == []


def test_gpus_as_the_driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0, GPU-aa, 81559\\n1, GPU-bb, 40960\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_memory() == [81559 << 20, 40960 << 20]
    for visible, found in (("1", [40960 << 20]), ("GPU-aa", [81559 << 20]), ("", []), ("0,1", [81559 << 20, 40960 << 20])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpu_memory() == found
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-77, GPU-b")
    assert gpu_memory() == [81559 << 20, 40960 << 20]
    program.write_text("#!/bin/sh\necho no driver >&2; exit 9\n")
    assert gpu_memory() == []
    program.write_text("no program")
    assert gpu_memory() == []


@pytest.mark.parametrize(
    ("variables", "processes"),
    [
        ({}, (1, 1)),
        ({"PET_NPROC_PER_NODE": "4"}, (4, 4)),
        ({"PET_NPROC_PER_NODE": "4", "PET_NNODES": "2:3"}, (4, 8)),
        ({"PET_NPROC_PER_NODE": "gpu", "PET_NNODES": "2"}, (3, 6)),
        ({"PET_NPROC_PER_NODE": "4", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x"}, (1, 2)),
        ({"PET_NPROC_PER_NODE": "gpu", "PET_NNODES": "2", "WORLD_SIZE": "16"}, (3, 6)),  # of an operator, on the pod
        ({"WORLD_SIZE": "16"}, (1, 16)),
    ],
)
def test_processes_that_torchrun_will_start(
    variables: dict[str, str], processes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpu_memory", lambda: [GIB] * 3)
    monkeypatch.setattr(os, "environ", dict(variables))
    machine.foresee_launch()
    assert (machine.processes_here(), launched()) == processes


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.free_disk(tmp_path / "not" / "yet") == pytest.approx(machine.free_disk(tmp_path), rel=0.1)


def test_what_check_says_and_what_it_refuses(tmp_path: Path) -> None:
    folder = stored(tmp_path / "model")
    done = rlperc("check", str(QUICKSTART), f"model={{name: '{folder}'}}")
    assert done.returncode == 0, done.stderr
    assert "note: stages.reason: by estimate" in done.stdout
    vllm = "stages.reason.rollout={engine: vllm}"
    done = rlperc("check", "quickstart", vllm)
    assert done.returncode == 0, done.stderr
    assert "vllm is not installed; pip install" in done.stdout
    done = rlperc("check", "quickstart", vllm, "--here")
    assert done.returncode == 2
    assert "vllm is not installed" in done.stderr


def test_prompts_that_do_not_fit_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    options = [*SHORT, "stages.reason.train.max_completion_length=2040", f"output={tmp_path / 'run'}"]
    done = rlperc("train", str(QUICKSTART), *options)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "the stage 'reason' (grpo) on world 'digits'" in done.stderr
    assert re.search(r"row \d+ with its images \(\d+x\d+\) takes \d+ tokens", done.stderr)
    assert "a response 2040 more; the model's max_position_embeddings is 2048" in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["eval"] == {}
    assert summary["status"] == "failed"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    lack = next(
        one for one in preflight.preflight(load_recipe(QUICKSTART, "output=/proc/here/run")) if "output folder" in one.error.asked
    )
    assert lack.sure
    assert lack.error.asked == "the output folder /proc/here/run"
    assert lack.error.why.startswith("nothing can be made in /proc: ")
    assert not any(
        "output folder" in one.error.asked for one in preflight.preflight(load_recipe(QUICKSTART, f"output={tmp_path}/a/b"))
    )
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        found = preflight.preflight(load_recipe(QUICKSTART, f"output={output}"))
        assert any(lack.sure and lack.error.why == f"{tmp_path}/file is a file" for lack in found)
