"""The recipes for real models: what they are meant for, and what a run of one with `--tiny` leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from launch import ROOT, rlperc
from transformers import AutoModelForImageTextToText, AutoProcessor

# Processes, architecture, ways.
MEANT_FOR = {
    "grpo_internvl3_5_2b_lora": (1, "internvl"),
    "grpo_qwen2_5_vl_3b": (8, "qwen2_5_vl"),
    "grpo_qwen2_5_vl_7b_lora": (8, "qwen2_5_vl"),
    "grpo_qwen3_vl_4b": (8, "qwen3_vl"),
    "grpo_qwen3_vl_8b_two_nodes": (16, "qwen3_vl"),
    "grpo_smolvlm_256m": (1, "idefics3"),
    "grpo_smolvlm_500m": (8, "idefics3"),
}
FILES = {name: ROOT / "recipes" / f"{name}.yaml" for name in MEANT_FOR}


def trained_tiny(name: str, folder: Path, *overrides: str, launcher: tuple[str, ...] = ()) -> dict[str, Any]:
    """Train a recipe with `--tiny`, look at all that it leaves, and give its summary."""
    done = rlperc("train", str(FILES[name]), "--tiny", f"output={folder}", *overrides, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("tiny: a random ") == 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "done"
    steps: dict[str, list[int]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "grad_norm" in entry:
            steps.setdefault(entry["stage"], []).append(entry["step"])
    assert set(map(tuple, steps.values())) == {(1, 2)}
    assert "reason" in steps
    config = AutoModelForImageTextToText.from_pretrained(folder / "model").config
    assert config.model_type == MEANT_FOR[name][1]
    AutoProcessor.from_pretrained(folder / "model")
    assert os.path.getsize(folder / "report.html") > 0
    return summary
