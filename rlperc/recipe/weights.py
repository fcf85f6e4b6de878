"""A model's sizes, from its `config.json` and the headers of its safetensors files. Nothing is loaded."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

from rlperc.recipe.architectures import config_file
from rlperc.recipe.names import part_of
from rlperc.recipe.schema import Model

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


class Sizes(NamedTuple):
    """What a model's memory hangs on."""

    parameters: dict[str, tuple[int, ...]]
    """Name to shape."""
    stored: float
    """Bytes of a weight on the disk, on average."""
    layers: int
    hidden: int
    vocabulary: int
    kv_width: int
    """Of keys, and of values: heads times the width of one."""

    @property
    def total(self) -> int:
        """Parameters."""
        return sum(map(math.prod, self.parameters.values()))

    def trained(self, settings: Model) -> int:
        """Parameters that train: those that are not frozen, or the adapters' (two of rank r for each matrix)."""
        kept = {name: shape for name, shape in self.parameters.items() if not _frozen(name, settings.freeze)}
        if settings.lora is None:
            return sum(map(math.prod, kept.values()))
        wanted = settings.lora.target_modules
        matrices = [
            shape
            for name, shape in kept.items()
            if len(shape) == 2
            and "embed" not in name
            and "lm_head" not in name
            and (isinstance(wanted, str) or any(f".{one}." in name for one in wanted))
        ]
        return sum(settings.lora.r * (rows + columns) for rows, columns in matrices)


def model_sizes(settings: Model) -> Sizes | None:
    """Sizes of a model that lies on this machine, in a folder or in the hub's cache. None where it does not, or says no sizes."""
    file = config_file(settings)
    try:
        return None if file is None else _read(file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None  # whoever loads it will say what is wrong with it


def _read(file: Path) -> Sizes | None:
    tensors = {name: one for part in _files(file.parent) for name, one in _header(part).items() if one["dtype"] in BYTES}
    parameters = {name: tuple(one["shape"]) for name, one in tensors.items()}
    total = sum(map(math.prod, parameters.values()))
    if not total:
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    text = config.get("text_config") or config
    heads = int(text["num_attention_heads"])
    width = int(text.get("head_dim") or text["hidden_size"] // heads)
    return Sizes(
        parameters,
        stored=sum(BYTES[one["dtype"]] * math.prod(one["shape"]) for one in tensors.values()) / total,
        layers=int(text["num_hidden_layers"]),
        hidden=int(text["hidden_size"]),
        vocabulary=int(text["vocab_size"]),
        kv_width=int(text.get("num_key_value_heads") or heads) * width,
    )


def _files(folder: Path) -> list[Path]:
    """Those that the index names, where there is one: some folders hold another copy of the weights."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(names))]


def _header(file: Path) -> dict[str, Any]:
    """Name to dtype and shape. Format: eight bytes of length, then JSON (safetensors' README, "Format")."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > file.stat().st_size:
            raise ValueError(f"{file} is no safetensors file")
        header = json.loads(opened.read(length))
    return {name: one for name, one in header.items() if name != "__metadata__"}


def _frozen(name: str, freeze: list[str]) -> bool:
    # Older Qwen-VL files name the language model's weights without it.
    return any((part_of(name) or "language") == one or name.startswith(one) for one in freeze)
