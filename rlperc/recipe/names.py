"""What the items of a recipe's lists are addressed by, and what the parts of a model are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlperc.reward.plugins import split_path

# What the architectures of transformers call the three parts of a vision-language model.
PARTS = {
    "vision": ("vision_model", "vision_tower", "visual", "vision_encoder"),
    "projector": ("connector", "multi_modal_projector", "merger", "mm_projector", "embed_vision"),
    "language": ("text_model", "language_model", "lm_head"),
}


def part_of(parameter: str) -> str | None:
    """Which part a parameter belongs to; the projector first, because Qwen-VL keeps its own inside the vision tower."""
    words = set(parameter.split("."))
    return next((part for part in ("projector", "vision", "language") if words & set(PARTS[part])), None)


def item_name(item: Any) -> str:
    """What an item of a list is addressed by: a stage's name, or a reward's name or function."""
    if not isinstance(item, dict):
        return str(item)
    return str(item.get("name") or reward_name(str(item.get("use"))))


def reward_name(use: str) -> str:
    """A reward's name as far as it can be told without loading it."""
    path, function = split_path(use, Path())
    return function or (path.stem if path else use.rpartition(":")[2])
