"""Whole runs held against each other: what they measured, wrote and learned, and not how long it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from launch import SHORT
from safetensors.torch import load_file

LONGER = (*SHORT, "train.save_strategy=steps", "train.save_steps=1", "stages.reason.train.max_steps=6")
CLOCKS = ("seconds", "time", "per_second", "memory", "train_loss")


def without_clocks(value: Any) -> Any:
    """What does not hang on how long something took."""
    if isinstance(value, dict):
        return {name: without_clocks(one) for name, one in value.items() if not any(word in name for word in CLOCKS)}
    return [without_clocks(one) for one in value] if isinstance(value, list) else value


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same_run(left: Path, right: Path) -> None:
    assert [without_clocks(one) for one in lines(left)] == [without_clocks(one) for one in lines(right)]
    ours, theirs = (without_clocks(json.loads((one / "summary.json").read_text())) for one in (left, right))
    assert ours == theirs
    assert ours["status"] == "done"
    weights = [load_file(one / "model" / "model.safetensors") for one in (left, right)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    tables = [sorted((one / "stages" / "reason" / "completions").glob("*.parquet")) for one in (left, right)]
    assert [one.name for one in tables[0]] == [one.name for one in tables[1]]
    for one, other in zip(*tables, strict=True):
        assert pyarrow.parquet.read_table(one).equals(pyarrow.parquet.read_table(other))
