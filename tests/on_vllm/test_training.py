"""Real training steps on responses from vLLM: what it samples from stays the policy, step after step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from launch import LEARNING, QUICKSTART, ROOT, SHORT, Begun, in_two_processes, rlperc
from rollouts import ARCHITECTURES, build, differences, every_kind, rolling
from trainers import outputs, pay
from whole import same_run

EXACT = 2e-5
# The image token is kept from being sampled, which moves the others' log-probabilities by what it had; and half of nothing else.
WITHOUT_IMAGE_TOKEN = 0.1


def trained(trainer: Any) -> list[dict[str, Any]]:
    """Train for two steps on a reward that differs within groups, and give what the loss saw."""
    seen = outputs(trainer)
    pay(trainer, lambda _, text: float(len(set(text))))
    before = [value.detach().clone() for value in trainer.model.parameters()]
    trainer.train()
    assert any((now != then).any() for now, then in zip(trainer.model.parameters(), before, strict=True))
    return seen


def gaps(trainer: Any) -> list[float]:
    name = "sampling/sampling_logp_difference/mean"
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["grpo", "ppo", "rloo"])
def test_two_steps(architecture: str, kind: str, tmp_path: Path) -> None:
    start = build(architecture, tmp_path / "start")
    trainer = rolling(start, tmp_path / "out", every_kind(), f"stages.reason.kind={kind}", "stages.reason.train.beta=0.01")
    try:
        seen = trained(trainer)
        assert len(seen) == 2
        found = gaps(trainer)
        assert len(found) == 2
        assert max(found) < WITHOUT_IMAGE_TOKEN
        assert differences(trainer)[1] < EXACT  # and so with the weights of now
    finally:
        trainer.vllm_generation.close()


@pytest.mark.parametrize("option", ["num_iterations=2", "steps_per_generation=2", "gradient_accumulation_steps=2"])
def test_weights_are_sent_once_for_each_step(option: str, tmp_path: Path) -> None:
    trainer = rolling(build("idefics3", tmp_path / "start"), tmp_path / "out", every_kind(), f"stages.reason.train.{option}")
    steps, inner = [], trainer.vllm_generation.sync_weights

    def sync() -> None:
        steps.append(trainer.state.global_step)
        inner()

    trainer.vllm_generation.sync_weights = sync
    try:
        trained(trainer)
    finally:
        trainer.vllm_generation.close()
    assert steps == sorted(set(steps))
    assert steps[0] == 0


def test_adapters_are_merged_on_their_way(tmp_path: Path) -> None:
    lora = ("stages.reason.model.lora={r: 4}", "stages.reason.train.learning_rate=0.05")
    trainer = rolling(build("qwen2_5_vl", tmp_path / "start"), tmp_path / "out", every_kind(), *lora)
    try:
        trained(trainer)
        assert any(value.abs().max() > 0 for name, value in trainer.model.named_parameters() if "lora_B" in name)
        assert differences(trainer)[1] < EXACT
        with trainer.model.disable_adapter():
            assert differences(trainer)[1] > 1e-3  # the adapters do count
    finally:
        trainer.vllm_generation.close()


def test_groups_are_drawn_again_among_rows_with_and_without_images(tmp_path: Path) -> None:
    start = build("idefics3", tmp_path / "start")
    trainer = rolling(start, tmp_path / "out", every_kind(), "stages.reason.blend.resample=2")
    try:
        pay(trainer, lambda _, text: float(text.count("a") > 0))
        trainer.train()
        drawn = [entry["blend/drawn_again"] for entry in trainer.state.log_history if "blend/drawn_again" in entry]
        assert len(drawn) == 2
        assert max(drawn) > 0
    finally:
        trainer.vllm_generation.close()


def test_different_seeds_draw_different_responses(tmp_path: Path) -> None:
    start, drawn = build("idefics3", tmp_path / "start"), []
    for seed in (0, 0, 1):
        trainer = rolling(start, tmp_path / "out", every_kind(), f"seed={seed}")
        drawn.append([one.ids for one in differences(trainer, 4)[2]])
        trainer.vllm_generation.close()
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_recipe_from_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = rlperc("train", str(QUICKSTART), f"output={folder}", *SHORT, "rollout.engine=vllm", "rollout.vllm.max_model_len=256")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((folder / "summary.json").read_text())["status"] == "done"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["parity/max"] < EXACT for line in lines if "parity/max" in line] == [True]


def test_a_run_on_other_weights_stops_with_a_table(tmp_path: Path) -> None:
    script = (
        "import sys; from rlperc.train.rollout import Rollouts; Rollouts.sync_weights = lambda self: None\n"
        "from rlperc.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    options = [f"output={tmp_path / 'run'}", *SHORT, "rollout.engine=vllm", "rollout.vllm.max_model_len=256"]
    # As if the weights never arrived, and the model were another one than on disk.
    moved = "import torch, rlperc.train.grpo as grpo\ninner = grpo.train_rl\ndef train(trainer, *rest):\n"
    moved += (
        "    [p.data.add_(0.2 * torch.randn_like(p)) for p in trainer.model.parameters()]\n    return inner(trainer, *rest)\n"
    )
    moved += "import rlperc.train.stages as stages\nstages.train_rl = train\n"
    done = subprocess.run(
        [sys.executable, "-c", moved + script, "train", str(QUICKSTART), *options], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2, done.stderr[-3000:]
    assert "differ from the trainer's by" in done.stderr
    assert "largest  at" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """What vLLM draws follows from the seed, the step's prompts and the weights that it is sent first."""
    options = [*LEARNING, "evaluate=null", "rollout.engine=vllm", "stages.reason.train.save_strategy=steps"]
    options += ["stages.reason.train.save_steps=1"]
    whole = Begun(tmp_path / "whole", *options)
    assert whole.end()[0] == 0
    cut = Begun(tmp_path / "cut", *options)
    cut.until("reason", 2)
    cut.process.kill()
    cut.end()
    code, said = Begun(tmp_path / "cut", *options, "--resume").end()
    assert code == 0, said[-3000:]
    assert "going on after" in said
    same_run(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("architecture", ["idefics3_tiles", "qwen3_vl"])
def test_two_processes_with_an_engine_in_each(architecture: str, tmp_path: Path) -> None:
    start = build(architecture, tmp_path / "start")
    in_two_processes(ROOT / "tests" / "on_vllm" / "ranks.py", start, tmp_path / "run")


def test_vllm_leaves_nothing_behind(tmp_path: Path) -> None:
    trainer = rolling(build("idefics3", tmp_path / "start"), tmp_path / "out", every_kind())
    differences(trainer, 2)
    trainer.vllm_generation.close()
    assert not hasattr(trainer.vllm_generation, "llm")
    assert torch.get_default_dtype() == torch.float32
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [child for child in children if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes()]
