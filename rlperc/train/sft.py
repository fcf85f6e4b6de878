"""Stage `sft`: TRL's `SFTTrainer` on prompt and response; only the response is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from rlperc.recipe.reweight import Dynamic, Fixed
from rlperc.recipe.rows import IMAGE_COLUMNS, Row
from rlperc.train.callbacks import dress
from rlperc.train.checkpoints import Checkpoints
from rlperc.train.data import with_completions
from rlperc.train.mixed import keep_in_step, with_list
from rlperc.train.options import refusals, training
from rlperc.train.reweighted import Marking, ReweightedSFTTrainer
from rlperc.train.trained import Trained, left_by
from rlperc.words.response import Tags


def train_sft(
    model: Any,
    processor: Any,
    rows: Dataset,
    args: SFTConfig,
    callbacks: Sequence[TrainerCallback],
    source: str,
    checkpoints: Checkpoints,
    peft_config: Any = None,
    reweight: Fixed | Dynamic | None = None,
    tags: Tags | None = None,
) -> Trained:
    """Train; with `reweight`, on a loss that is shared between the perception span, between its `tags`, and the rest."""
    shared = {
        "model": model,
        "args": args,
        "train_dataset": with_completions(rows, source),
        "processing_class": processor,
        "callbacks": list(callbacks),
        "peft_config": peft_config,
    }
    with refusals("the stage's trainer", "what SFTTrainer accepts"):
        if reweight is None:
            trainer = SFTTrainer(**shared)
        else:
            trainer = ReweightedSFTTrainer(reweight=reweight, tags=tags or Tags(), **shared)
    if not set(IMAGE_COLUMNS).isdisjoint(rows.column_names):
        _wrap_collator(trainer)
    keep_in_step(trainer.model, trainer.accelerator.num_processes)
    dress(trainer, "sft")
    with training("sft"):
        checkpoints.train(trainer, {"balance": trainer.balance} if isinstance(trainer, ReweightedSFTTrainer) else None)
    return left_by(trainer)


def _wrap_collator(trainer: SFTTrainer) -> None:
    """What marks spans stays outermost."""
    outer = trainer.data_collator
    if isinstance(outer, Marking):
        outer.collate = partial(_collated, outer.collate)
    else:
        trainer.data_collator = partial(_collated, outer)


def _collated(collate: Callable[[list[Row]], Any], rows: list[Row]) -> Any:
    """TRL's collator makes [None] of an empty `image`, which processors refuse."""
    return collate([{name: value for name, value in with_list(row).items() if name != "image"} for row in rows])
