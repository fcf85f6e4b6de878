"""Stage `sft`: TRL's `SFTTrainer` on prompt and response; only the response is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from rlperc.recipe.rows import IMAGE_COLUMNS, Row
from rlperc.train.callbacks import dress
from rlperc.train.checkpoints import Checkpoints
from rlperc.train.data import with_completions
from rlperc.train.mixed import keep_in_step, with_list
from rlperc.train.options import refusals, training
from rlperc.train.trained import Trained, left_by


def train_sft(
    model: Any,
    processor: Any,
    rows: Dataset,
    args: SFTConfig,
    callbacks: Sequence[TrainerCallback],
    source: str,
    checkpoints: Checkpoints,
    peft_config: Any = None,
) -> Trained:
    """Train."""
    with refusals("the stage's trainer", "what SFTTrainer accepts"):
        trainer = SFTTrainer(
            model=model,
            args=args,
            train_dataset=with_completions(rows, source),
            processing_class=processor,
            callbacks=list(callbacks),
            peft_config=peft_config,
        )
    if not set(IMAGE_COLUMNS).isdisjoint(rows.column_names):
        trainer.data_collator = partial(_collated, trainer.data_collator)
    keep_in_step(trainer.model, trainer.accelerator.num_processes)
    dress(trainer, "sft")
    with training("sft"):
        checkpoints.train(trainer)
    return left_by(trainer)


def _collated(collate: Callable[[list[Row]], Any], rows: list[Row]) -> Any:
    """TRL's collator makes [None] of an empty `image`, which processors refuse."""
    return collate([{name: value for name, value in with_list(row).items() if name != "image"} for row in rows])
