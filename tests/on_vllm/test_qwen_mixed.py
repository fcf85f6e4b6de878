"""Rows with images and rows without, on the Qwen-VL family, whose pixels are flat: one entry a patch, none for a row without."""

from pathlib import Path

import pytest
import torch
from launch import ROOT, in_two_processes
from mixed import batch_of, largest_difference, mixed_rows, trainer_on
from rollouts import build

SMALL = ("train.per_device_train_batch_size=2", "train.gradient_accumulation_steps=4")


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def start(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("counts", [[0, 1], [2, 1, 0, 1]])
def test_every_row_is_seen_as_by_itself(kind: str, counts: list[int], start: Path, tmp_path: Path) -> None:
    rows = mixed_rows(counts * 4, max(counts) > 1)
    trainer = trainer_on(rows, start, tmp_path, f"kind={kind}", "train.num_generations=2", *SMALL)
    trainer.model.train()
    torch.manual_seed(0)
    trainer._prepare_inputs(batch_of(trainer, [0, 1, 2, 3]))
    assert largest_difference(trainer) < 1e-4


@pytest.mark.parametrize("options", [["kind=rloo"], ["kind=ppo", "ppo.trunk=own"], ["blend.resample=2"]])
def test_training_with_a_reference(options: list[str], start: Path, tmp_path: Path) -> None:
    trainer = trainer_on(mixed_rows([0, 2, 1, 0] * 4, many=True), start, tmp_path, "train.beta=0.1", *options, *SMALL)
    trainer.train()
    assert trainer.state.global_step == 2


def test_one_process_without_images(start: Path, tmp_path: Path) -> None:
    options = ["train.gradient_checkpointing=true", "train.ddp_find_unused_parameters=false"]
    in_two_processes(ROOT / "tests" / "mixed.py", "grpo", start, tmp_path / "run", *options, seconds=120)
