"""Options of vLLM's engine, from a recipe to the engine, against the installed vLLM."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from launch import QUICKSTART, SHORT, rlperc
from rollouts import build, picture, rolling, rows

from rlperc.cli import main
from rlperc.errors import RolloutError
from rlperc.recipe.check_rollout import OWNED
from rlperc.recipe.environment import check_versions
from rlperc.recipe.options import option_types

VLLM = "rollout.engine=vllm"


def test_option_names_are_the_installed_vllms() -> None:
    from vllm.engine.arg_utils import EngineArgs

    names = {field.name for field in dataclasses.fields(EngineArgs) if not field.name.startswith("_")}
    assert set(option_types("EngineArgs") or {}) == names
    assert set(OWNED) - {"host", "port"} <= names


def test_the_installed_set_is_supported() -> None:
    check_versions("train", "vllm")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("max_model_lne=5", "did you mean 'max_model_len'"),
        ("max_model_len=five", "vLLM takes"),
        ("model=other", "model: {name: …}"),
        ("banana=1", "a field of vLLM's EngineArgs"),
    ],
)
def test_faults(option: str, said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", str(QUICKSTART), VLLM, f"rollout.vllm.{option}"]) == 2
    assert said in capsys.readouterr().err


def test_they_reach_the_engine(tmp_path: Path) -> None:
    options = "{max_model_len: 200, limit_mm_per_prompt: {image: 1}, kv_cache_memory_bytes: 33554432, max_num_seqs: 3}"
    data = rows([[picture(0)], [picture(1), picture(2)]] * 2)
    trainer = rolling(build("idefics3", tmp_path / "start"), tmp_path / "out", data, f"rollout.vllm={options}")
    try:
        config = trainer.vllm_generation.llm.llm_engine.vllm_config
        assert config.model_config.max_model_len == 200
        assert config.cache_config.kv_cache_memory_bytes == 33554432
        assert config.scheduler_config.max_num_seqs == 3
        with pytest.raises(RolloutError, match=r"At most 1 image\(s\)[\s\S]*limit_mm_per_prompt"):
            trainer.train()  # two images in a prompt
    finally:
        trainer.vllm_generation.close()


def test_a_context_that_is_too_short_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = rolling(build("idefics3", tmp_path / "start"), tmp_path / "out", rows([[]] * 4), "rollout.vllm.max_model_len=40")
    try:
        trainer.train()
    finally:
        trainer.vllm_generation.close()
    said = [record.getMessage() for record in caplog.records if "max_model_len: 40" in record.getMessage()]
    assert len(said) == 1
    assert "max_completion_length: 12" in said[0]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rollout.vllm.enable_sleep_mode=true", "sleep mode"),
        ("rollout.vllm.dtype=int3", "dtype"),
    ],
)
def test_what_vllm_refuses_is_one_message(override: str, said: str, tmp_path: Path) -> None:
    done = rlperc("train", str(QUICKSTART), f"output={tmp_path / 'run'}", *SHORT, VLLM, override)
    assert done.returncode == 2, done.stderr[-3000:]
    assert said in done.stderr.rpartition("rlperc: ")[2].lower()
    assert "Traceback" not in done.stderr
