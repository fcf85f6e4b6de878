"""Every stage of ZeRO with contrast, SFT, GRPO and PPO, with and without LoRA, in two processes: the steps of DDP."""

import itertools
from pathlib import Path

import pytest
from launch import LEARNING, QUICKSTART, TORCHRUN, rlperc, values

KINDS = ("grpo", "ppo")
ADAPTERS = (False, True)
WAYS = ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")


def train(folder: Path, way: str, kind: str, lora: bool) -> Path:
    more = [f"stages.reason.kind={kind}", f"distributed={way}", f"output={folder}"]
    if lora:
        more += ["stages.warm.model.lora.r=4", "stages.reason.model.lora.r=4"]
    done = rlperc("train", str(QUICKSTART), *LEARNING, *more, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def with_ddp(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    folder = tmp_path_factory.mktemp("ddp")
    return {
        (kind, lora): train(folder / f"{kind}-{lora}", "ddp", kind, lora) for kind, lora in itertools.product(KINDS, ADAPTERS)
    }


@pytest.mark.parametrize("lora", ADAPTERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_the_steps_of_ddp(way: str, kind: str, lora: bool, with_ddp: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    ours, theirs = train(tmp_path / "run", way, kind, lora), with_ddp[kind, lora]
    for stage in ("see", "warm", "reason"):
        assert values(ours, stage) == pytest.approx(values(theirs, stage), rel=1e-4, abs=1e-6), stage
        assert all(values(ours, stage))
