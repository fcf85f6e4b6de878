"""Which architecture a model has, as far as that can be told without the network and without torch."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from rlperc.errors import RecipeError
from rlperc.recipe.schema import Architecture, Model

# Hub names whose `model_type` is known; the MoE models of these families have another one.
HUB_NAMES: dict[Architecture, str] = {
    "idefics3": r"HuggingFaceTB/SmolVLM-.+|HuggingFaceM4/Idefics3-.+",
    "qwen2_5_vl": r"Qwen/Qwen2\.5-VL-.+",
    "qwen3_vl": r"Qwen/Qwen3-VL-\d+B-(Instruct|Thinking)",
    "internvl": r"OpenGVLab/InternVL3(_5)?-\d+B(-\w+)?-(hf|HF)",
}
# Their processors take videos, too, and transformers reads those with torchvision alone.
WITH_VIDEOS: frozenset[Architecture] = frozenset({"qwen2_5_vl", "qwen3_vl", "internvl"})


def architecture_of(model: Model) -> str | None:
    """A model's `model_type`: of the tiny one, from a `config.json` on this machine, or by a well-known name; else None.

    Raises:
        RecipeError: the folder's `config.json` cannot be read.
    """
    if model.tiny is not None:
        return model.tiny.architecture
    name = str(model.name)
    file = config_file(model)
    if file is None:
        return next((known for known, names in HUB_NAMES.items() if re.fullmatch(names, name)), None)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"the model '{name}'", f"its {file.name} cannot be read: {error}", "a model's folder") from None
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise RecipeError(f"the model '{name}'", f"its {file.name} has no model_type", "a model's folder")
    return str(found["model_type"])


def lacks_torchvision(architecture: str | None) -> bool:
    """Whether a model's processor would not load, because it needs torchvision, which is not installed."""
    return architecture in WITH_VIDEOS and importlib.util.find_spec("torchvision") is None


def config_file(model: Model) -> Path | None:
    """The `config.json` of a model in a folder, or that the hub's client has fetched before; None where there is neither."""
    name = str(model.name or "")
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name) / "config.json"
    if name.count("/") != 1 or name.startswith((".", "/")):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # it comes with the extra `train`
        return None
    found = try_to_load_from_cache(name, "config.json", revision=model.revision)
    return Path(found) if isinstance(found, str) else None
