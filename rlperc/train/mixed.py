"""Rows with images and rows without, in one batch and over several processes: what a model is given of them.

TRL 1.16 cuts the images' tensors up as if every row had an image. What it overlooks is put right here, around the model;
`rlperc.train.trl_overrides` says where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from trl.data_utils import prepare_multimodal_messages

from rlperc.recipe.rows import IMAGE_COLUMNS, Row, row_images
from rlperc.train.models import frozen_names

# What TRL gives a model of a batch's images.
IMAGE_TENSORS = (
    "pixel_values",
    "pixel_attention_mask",
    "image_grid_thw",
    "image_sizes",
    "image_position_ids",
    "spatial_shapes",
)


def with_list(row: Row) -> Row:
    """The row with its images in `images`, an empty list where it has none: processors take that among others, but no None.

    In data with images all messages are in parts: TRL's table of completions cannot hold both kinds.
    """
    images = row_images(row)
    in_parts = not images and not row.keys().isdisjoint(IMAGE_COLUMNS)
    return {**row, "images": images, **({"prompt": prepare_multimodal_messages(row["prompt"])} if in_parts else {})}


def counted(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`num_images` in TRL's sense, where a processor pads every row to as many images (Idefics): one entry a row.

    TRL takes such pixels, of shape (B, images, C, H, W), for flat ones wherever there are by chance as many images as rows.
    """
    pixels = fields.get("pixel_values")
    if pixels is None or pixels.dim() != 5 or fields.get("image_sizes") is not None:
        return {}
    return {"num_images": [1] * len(pixels)}


def seeing(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model, called without its images' tensors where these hold none: they are empty then, or nothing but padding."""

    def call(**inputs: Any) -> Any:
        blind = _blind(inputs.get("pixel_values"), inputs.get("pixel_attention_mask"))
        return model(**{name: value for name, value in inputs.items() if not (blind and name in IMAGE_TENSORS)})

    return call


def _blind(pixels: Tensor | None, mask: Tensor | None) -> bool:
    """Whether these are no image's pixels: none at all, or rows padded to as many images as others have."""
    if pixels is None:
        return False
    return pixels.numel() == 0 or (pixels.dim() == 5 and not (pixels if mask is None else mask).any())


def keep_in_step(model: nn.Module, processes: int) -> None:
    """Let a model's vision tower have gradients, of zero, in a batch without images.

    Processes exchange gradients parameter by parameter: one whose rows have no images would leave the others waiting, or
    their order mixed up.
    """
    if processes == 1:
        return
    language = set(frozen_names(model, "language"))

    def tie(module: nn.Module, args: Any, inputs: dict[str, Any], outputs: Any) -> None:
        if not torch.is_grad_enabled() or inputs.get("pixel_values") is not None:
            return
        idle = [value for name, value in module.named_parameters() if value.requires_grad and name not in language]
        if not idle:
            return
        nothing: Tensor = torch.stack([value.sum().float() for value in idle]).sum() * 0.0
        for name in ("loss", "log_probs"):  # what SFT and RL go on with
            if outputs.get(name) is not None:
                outputs[name] = outputs[name] + nothing

    model.register_forward_hook(tie, with_kwargs=True)
