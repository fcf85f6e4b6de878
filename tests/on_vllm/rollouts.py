"""Trainers that roll out on vLLM, on small data that has what goes wrong with images: several, the same again, none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pillow
from trainers import reason_stage, tiny_model
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlperc.recipe.rollout import Parity
from rlperc.recipe.schema import TinyModel
from rlperc.train.models import load_model
from rlperc.train.parity import Compared, compare, spread
from rlperc.train.stages import make_trainer, stage_config
from rlperc.train.tiny import save_tiny_model
from rlperc.words.response import Tags

ARCHITECTURES = ("idefics3", "idefics3_tiles", "qwen2_5_vl", "qwen3_vl", "internvl")
ON_VLLM = ("rollout.engine=vllm", "rollout.vllm.max_model_len=512", "stages.reason.rewards=[{use: format_tags}]")
FEATURES = Features(
    {"prompt": [{"role": Value("string"), "content": Value("string")}], "images": List(Image()), "answer": Value("string")}
)


def build(architecture: str, folder: Path) -> Path:
    """A tiny model of an architecture, with random weights."""
    if architecture.startswith("idefics3"):
        tiny_model(folder)
        return _in_tiles(folder) if architecture == "idefics3_tiles" else folder
    # Of more layers and with more tokens for an image than by default.
    wide = {"hidden_size": 128, "heads": 4, "vision_layers": 2, "image_size": 64, "init_std": 0.1}
    save_tiny_model(folder, TinyModel(architecture=architecture, **wide), ["system", "user", "assistant"], Tags(), seed=0)
    return folder


def _in_tiles(folder: Path) -> Path:
    """Images are cut into tiles, as SmolVLM's are: several runs of image tokens, with the tile's place before each."""
    processor = AutoProcessor.from_pretrained(folder, do_image_splitting=True, size={"longest_edge": 64})
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    processor.tokenizer.add_tokens(places, special_tokens=True)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    model.resize_token_embeddings(len(processor.tokenizer))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(seed: int, width: int = 64, height: int = 64) -> Pillow.Image:
    """Noise."""
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def rows(images: list[list[Any]]) -> Dataset:
    """A question over each list of images."""
    columns = {
        "prompt": [[{"role": "user", "content": f"How many digits are above {i % 7}?"}] for i in range(len(images))],
        "images": images,
        "answer": ["3"] * len(images),
    }
    return Dataset.from_dict(columns, features=FEATURES)


def every_kind() -> Dataset:
    """One image; two; the first one again; none; one of another shape."""
    return rows([[picture(0)], [picture(1), picture(2)], [picture(0)], [], [picture(3, 96, 48)], [picture(4)], [], [picture(1)]])


def rolling(start: Path, folder: Path, data: Dataset, *overrides: str) -> Any:
    """The trainer of an RL stage on vLLM."""
    recipe, stage = reason_stage(*ON_VLLM, *overrides)
    model, processor = load_model(start, stage.model)
    args = stage_config(recipe, stage, folder)
    return make_trainer(recipe, stage, args, model, processor, data, [])


def differences(trainer: Any, count: int = 9) -> tuple[float, float, list[Compared]]:
    """Mean and largest difference in log-probability between vLLM and the trainer, and what they are of."""
    found = compare(trainer, Parity(rows=count, tokens=24))
    return *spread(found), found
