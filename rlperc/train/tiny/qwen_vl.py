"""Qwen2.5-VL and Qwen3-VL. Their processors need torchvision, for videos."""

from __future__ import annotations

from typing import Any

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from rlperc.recipe.schema import TinyModel
from rlperc.train.tiny.chatml import END, PAD, START, chat_template, language_model
from rlperc.train.tiny.tokenizer import Vocabulary

VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
VOCABULARY = Vocabulary(PAD, END, (PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO))
MERGE = 2  # rows and columns of patches that become one image token
BASE = 10_000.0
CHAT_TEMPLATE = chat_template(f"{VISION_START}{IMAGE}{VISION_END}")


def build_qwen2_5(
    settings: TinyModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The model and its processor. The last layer of the vision tower attends to the whole image, the others to windows."""
    vision = {**_vision(settings), "window_size": 4 * settings.patch_size, "fullatt_block_indexes": [settings.vision_layers - 1]}
    config = Qwen2_5_VLConfig(
        text_config=_text(settings, tokenizer), vision_config=vision, tie_word_embeddings=True, **_ids(tokenizer)
    )
    processor = Qwen2_5_VLProcessor(_images(settings), tokenizer, Qwen2VLVideoProcessor(), chat_template=CHAT_TEMPLATE)
    return Qwen2_5_VLForConditionalGeneration(config), processor


def build_qwen3(
    settings: TinyModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """The model and its processor. What the first layer of the vision tower sees goes to the language model, too."""
    places = (settings.image_size // settings.patch_size) ** 2
    vision = {**_vision(settings), "num_position_embeddings": places, "deepstack_visual_indexes": [0]}
    text = {**_text(settings, tokenizer, mrope_interleaved=True), "head_dim": settings.hidden_size // settings.heads}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_ids(tokenizer))
    images = _images(settings, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor(), chat_template=CHAT_TEMPLATE)
    return Qwen3VLForConditionalGeneration(config), processor


def _images(settings: TinyModel, **more: Any) -> Qwen2VLImageProcessor:
    least = MERGE * settings.patch_size
    return Qwen2VLImageProcessor(
        min_pixels=least**2, max_pixels=settings.image_size**2, patch_size=settings.patch_size, merge_size=MERGE, **more
    )


def _vision(settings: TinyModel) -> dict[str, Any]:
    return {
        "depth": settings.vision_layers,
        "hidden_size": settings.hidden_size,
        "intermediate_size": 2 * settings.hidden_size,
        "num_heads": settings.heads,
        "out_hidden_size": settings.hidden_size,
        "patch_size": settings.patch_size,
        "spatial_merge_size": MERGE,
    }


def _text(settings: TinyModel, tokenizer: PreTrainedTokenizerFast, **rope: Any) -> dict[str, Any]:
    """The language model's config. Each axis of the positions gets a part of half of a head."""
    half = settings.hidden_size // settings.heads // 2
    axes = [half - 2 * (half // 4), half // 4, half // 4]
    positions = {"rope_type": "default", "rope_theta": BASE, "mrope_section": axes, **rope}
    return {**language_model(settings, tokenizer, VOCABULARY), "rope_parameters": positions}


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image_token_id": IMAGE, "video_token_id": VIDEO}
    names |= {"vision_start_token_id": VISION_START, "vision_end_token_id": VISION_END}
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
