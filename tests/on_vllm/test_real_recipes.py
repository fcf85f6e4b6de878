"""Those recipes for real models that draw from vLLM, with `--tiny`: in two real steps it samples from the policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launch import PAID
from shipped import FILES, MEANT_FOR, trained_tiny

from rlperc.recipe.load import load_recipe, load_tiny

ON_VLLM = [name for name, file in FILES.items() if load_recipe(file).stages[-1].rollout.engine == "vllm"]


def test_all_but_one_draw_from_vllm() -> None:
    assert set(MEANT_FOR) - set(ON_VLLM) == {"grpo_smolvlm_256m"}


@pytest.mark.parametrize("name", ["grpo_qwen2_5_vl_7b_lora", "grpo_qwen3_vl_8b_two_nodes", "grpo_internvl3_5_2b_lora"])
def test_two_steps_on_vllm(name: str, tmp_path: Path) -> None:
    given = (PAID, "evaluate.answer=answer_number")
    recipe, changed = load_tiny(FILES[name], *given)
    assert recipe.stages[-1].rollout == load_recipe(FILES[name]).stages[-1].rollout
    assert "transformers draws" not in changed
    summary = trained_tiny(name, tmp_path / "run", *given)
    assert 0 < summary["parity"]["reason"]["max"] < 0.02
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(entry["grad_norm"] > 0 for entry in steps if "grad_norm" in entry)


@pytest.mark.parametrize("name", ["grpo_qwen2_5_vl_3b", "grpo_qwen3_vl_4b"])
def test_two_steps_by_transformers(name: str, tmp_path: Path) -> None:
    """Those that differ from the others in size alone: vLLM's start is most of a minute."""
    trained_tiny(name, tmp_path / "run", "rollout={engine: transformers}", "stages.reason.rollout={engine: transformers}")
