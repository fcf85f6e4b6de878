"""What the items of a recipe's lists are addressed by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlperc.reward.plugins import split_path


def item_name(item: Any) -> str:
    """What an item of a list is addressed by: a stage's name, or a reward's name or function."""
    if not isinstance(item, dict):
        return str(item)
    return str(item.get("name") or reward_name(str(item.get("use"))))


def reward_name(use: str) -> str:
    """A reward's name as far as it can be told without loading it."""
    path, function = split_path(use, Path())
    return function or (path.stem if path else use.rpartition(":")[2])
