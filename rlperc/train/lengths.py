"""Whether prompts with their images fit into a model, before the first stage trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import AutoConfig

from rlperc.errors import DataError
from rlperc.recipe.rows import row_images
from rlperc.recipe.schema import RL_KINDS, Stage
from rlperc.train.trl_overrides import with_images_in_place

LOOKED_AT = 64
"""Rows, evenly spread over the data: to open every image would take longer than many a stage."""


def check_lengths(stage: Stage, rows: Dataset, processor: Any, config: AutoConfig) -> None:
    """Refuse prompts that with a whole response are longer than the model, or vLLM, takes.

    Raises:
        DataError: with what the longest prompt that was looked at takes, and what of it are images.
    """
    if stage.kind == "contrast":
        return
    room, of = _room(stage, config)
    if room is None:
        return
    responses = int(stage.train.get("max_completion_length", 512)) if stage.kind in RL_KINDS else 0
    row, length = longest(rows, processor)
    if length + responses <= room:
        return
    images = row_images(rows[row])
    sizes = ", ".join(f"{image.width}x{image.height}" for image in images[:4])
    raise DataError(
        f"the stage '{stage.name}' ({stage.kind}) on {stage.data.source}",
        f"row {row} with its images ({sizes}) takes {length} tokens, and a response {responses} more; {of} is {room}",
        "model: {processor: …} with fewer pixels (max_pixels for Qwen-VL, size: {longest_edge: …} for Idefics3), a shorter "
        "max_completion_length, or more room",
    )


def longest(rows: Dataset, processor: Any) -> tuple[int, int]:
    """Which of some rows has the longest prompt, and its tokens."""
    chosen = range(0, len(rows), max(1, len(rows) // LOOKED_AT))
    return max(((index, _tokens(rows[index], processor)) for index in chosen), key=lambda found: found[1])


def _tokens(row: dict[str, Any], processor: Any) -> int:
    made = processor.apply_chat_template([with_images_in_place(row)], add_generation_prompt=True, tokenize=True, return_dict=True)
    ids: Sequence[int] = made["input_ids"][0]
    return len(ids)


def _room(stage: Stage, config: Any) -> tuple[int | None, str]:
    given = stage.rollout.vllm.get("max_model_len") if stage.rollout.engine == "vllm" else None
    if given is not None:
        return int(given), f"stages.{stage.name}.rollout.vllm.max_model_len"
    text = config.get_text_config()
    return getattr(text, "max_position_embeddings", None), "the model's max_position_embeddings"
