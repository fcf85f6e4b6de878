"""Stage `contrast`: pull every projected image token towards the word for what its part of the image shows.

The loss is InfoNCE (van den Oord et al., arXiv 1807.03748, equation 4) with the words' input embeddings as the
candidates: a token of the image must pick the word of its own cell among all the cell values of the data.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments

from rlperc.errors import DataError
from rlperc.recipe.rows import row_images
from rlperc.train.callbacks import dress
from rlperc.train.checkpoints import Checkpoints
from rlperc.train.options import training
from rlperc.train.trained import Trained, left_by
from rlperc.words.structure import canonical, read_grid

TEMPERATURE = 0.1


def train_contrast(
    model: Any,
    processor: Any,
    rows: Dataset,
    args: TrainingArguments,
    callbacks: Sequence[TrainerCallback],
    source: str,
    checkpoints: Checkpoints,
) -> Trained:
    """Train. Raises DataError where the rows have no image or no grid of cells."""
    grids = _grids(rows, source)
    words = sorted({str(cell) for grid in grids for row in grid for cell in row})
    with _contrasting(model, [processor.tokenizer(w, add_special_tokens=False)["input_ids"] for w in words]):
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=rows.select_columns([n for n in ("image", "images") if n in rows.column_names]).add_column(
                "cells", [[[words.index(str(cell)) for cell in row] for row in grid] for grid in grids]
            ),
            processing_class=processor,
            data_collator=_Collator(processor.image_processor),
            callbacks=list(callbacks),
        )
        dress(trainer, "contrast")
        with training("contrast"):
            checkpoints.train(trainer)
        return left_by(trainer)


@contextmanager
def _contrasting(vlm: Any, words: list[list[int]]) -> Iterator[None]:
    """Let a model's forward be the contrast: DDP and ZeRO see it there, and the trainer still saves a model."""

    def forward(self: Any, cells: torch.Tensor, **vision: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": _contrast(self, words, cells, vision)}

    vlm.forward = types.MethodType(forward, vlm)
    try:
        yield
    finally:
        del vlm.forward


def _contrast(vlm: Any, words: list[list[int]], cells: torch.Tensor, vision: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss of a batch.

    Args:
        vlm: the model.
        words: the tokens of each word.
        cells: index of each cell's word. Shape: (batch, rows, columns).
        vision: what the image processor gives, as the model's `get_image_features` takes it.
    """
    features = vlm.get_image_features(**vision).pooler_output
    pooled = torch.stack([_pool(tokens, cells.shape[1:]) for tokens in features])
    every = torch.tensor([token for word in words for token in word], device=cells.device)
    # Through the module and not from its weight, of which ZeRO-3 keeps a part in each process.
    parts = vlm.get_input_embeddings()(every).split([len(word) for word in words])
    table = torch.stack([part.mean(0) for part in parts])
    logits = functional.normalize(pooled, dim=-1) @ functional.normalize(table, dim=-1).T / TEMPERATURE
    return functional.cross_entropy(logits.flatten(0, 1), cells.flatten())


def _pool(tokens: torch.Tensor, cells: torch.Size) -> torch.Tensor:
    """Average image tokens, (side * side, width), over the grid's cells: (rows * columns, width)."""
    side = math.isqrt(tokens.shape[0])
    if side * side != tokens.shape[0]:
        raise DataError(
            "the stage kind 'contrast'",
            f"an image became {tokens.shape[0]} tokens, which is no square",
            "square images, not split",
        )
    square = tokens.T.reshape(1, -1, side, side)
    return functional.adaptive_avg_pool2d(square, tuple(cells)).flatten(2)[0].T


class _Collator:
    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        vision = self.image_processor([row_images(row) for row in rows], return_tensors="pt")
        return {**vision, "cells": torch.tensor([row["cells"] for row in rows])}


def _grids(rows: Dataset, source: str) -> list[Any]:
    column = next((name for name in ("cells", "perception") if name in rows.column_names), None)
    texts = [None] if column is None else rows[column]
    grids = [read_grid(text if isinstance(text, str) else canonical(text)) if text else None for text in texts]
    shapes = {(len(grid), len(grid[0])) if grid else None for grid in grids}
    if None in shapes or len(shapes) != 1:
        raise DataError(
            f"the stage kind 'contrast' on {source}",
            "it needs a column 'cells' or 'perception' with a grid of the same size in every row",
            f"perception: {canonical([[8, 7], [1, 1]])}, as the world 'digits' has it",
        )
    return grids
