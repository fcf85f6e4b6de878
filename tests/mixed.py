"""Rows of which some have no image, trainers on them, and what a model says of each row by itself.

Run by torchrun, two processes, it trains where only the first process sees images. See test_mixed_rows.py.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Image, List, Value
from launch import QUICKSTART
from PIL import Image as Pillow
from trainers import checkpoints, part, pay, reason_stage
from trl.data_utils import prepare_multimodal_messages

from rlperc.recipe.load import load_recipe
from rlperc.recipe.rows import row_images
from rlperc.train.models import load_model
from rlperc.train.sft import train_sft
from rlperc.train.stages import check_rows, make_trainer, stage_config

TEXT = "<perception>[[1,2],[3,4]]</perception><think>1+2=3</think><answer>3</answer>"


def mixed_rows(counts: list[int], many: bool) -> Dataset:
    """Rows with so many images each, in a column `images`, or `image`. Their prompts say which row it is."""
    rows = []
    for index, count in enumerate(counts):
        pixels = np.random.default_rng(index).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        images = [Pillow.fromarray(one) for one in pixels]
        prompt = [{"role": "user", "content": f"{index} what is it?"}]
        seen = {"images": images} if many else {"image": images[0] if images else None}
        rows.append({"prompt": prompt, "answer": "3", "perception": "[[1,2],[3,4]]", "response": TEXT, "task": "sum", **seen})
    features: dict[str, Any] = dict.fromkeys(("answer", "perception", "response", "task"), Value("string"))
    features["prompt"] = List({"role": Value("string"), "content": Value("string")})
    features |= {"images": List(Image())} if many else {"image": Image()}
    return Dataset.from_list(rows, features=Features(features))


def trainer_on(rows: Dataset, start: Path, folder: Path, *overrides: str) -> Any:
    """The trainer of the quickstart's RL stage, on these rows, with rewards that differ within groups."""
    recipe, stage = reason_stage(*(f"stages.reason.{option}" for option in overrides))
    args = stage_config(recipe, stage, folder)
    check_rows(stage, rows, recipe.tags)
    model, processor = load_model(start, stage.model)
    trainer = make_trainer(recipe, stage, args, model, processor, rows, [])
    pay(trainer, lambda name, text: float(sum(map(ord, text)) % 7))
    return trainer


def batch_of(trainer: Any, indices: list[int]) -> list[dict[str, Any]]:
    """These rows, each as often as its group is large."""
    return [trainer.train_dataset[index] for index in indices for _ in range(trainer.num_generations)]


def largest_difference(trainer: Any) -> float:
    """Between the log-probabilities that the loss sees, in every buffered micro-batch, and those of each row by itself."""
    largest = 0.0
    names = ("pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "mm_token_type_ids")
    for micro in trainer._buffered_inputs:
        ids = torch.cat([micro["prompt_ids"], micro["completion_ids"]], dim=1)
        mask = torch.cat([micro["prompt_mask"], micro["completion_mask"]], dim=1)
        fields = {name: micro[name] for name in names if name in micro}
        width = micro["completion_ids"].size(1)
        with torch.no_grad():
            found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, **fields)[0]
        for row in range(len(ids)):
            prompt = trainer.processing_class.decode(micro["prompt_ids"][row], skip_special_tokens=True)
            item = trainer.train_dataset[int(re.search(r"(\d+) what", prompt)[1])]
            written = micro["completion_ids"][row][micro["completion_mask"][row].bool()]
            difference = found[row][: len(written)] - by_itself(trainer, item, written)
            largest = max(largest, difference.abs().max().item())
    return largest


def by_itself(trainer: Any, row: dict[str, Any], written: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of a completion in a batch of its own, from the model's plain forward. Shape: (tokens,)."""
    processor, images = trainer.processing_class, row_images(row)
    messages = prepare_multimodal_messages(row["prompt"], images=images)
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = dict(processor(text=[text], images=[images] if images else None, return_tensors="pt"))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], written[None]], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(written[None])], dim=1)
    with torch.no_grad():
        logits = trainer.model(**inputs).logits[0, -len(written) - 1 : -1] / trainer.temperature
    return torch.log_softmax(logits.float(), -1).gather(1, written[:, None])[:, 0]


def trained(kind: str, start: Path, folder: Path, *overrides: str) -> Any:
    """A model trained in two processes, of which only the first sees images."""
    if kind == "sft":  # batches go to the processes in turn
        rows = mixed_rows([1, 1, 0, 0] * 4, many=False)
        options = ("max_steps=2", "per_device_train_batch_size=2", "train_sampling_strategy=sequential")
        options += ("ddp_find_unused_parameters=false",)
        recipe = load_recipe(QUICKSTART, *(f"stages.warm.train.{option}" for option in options))
        model, processor = load_model(start, recipe.stages[1].model)
        args = stage_config(recipe, recipe.stages[1], folder)
        return train_sft(model, processor, rows, args, [], "rows", checkpoints(folder)).model
    trainer = trainer_on(mixed_rows([1, 0] * 8, many=False), start, folder, f"kind={kind}", *overrides)
    inner, first = trainer._generate_and_score_completions, trainer.accelerator.is_main_process

    def outer(inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = inner(batch_of(trainer, [0, 2] if first else [1, 3])[: len(inputs)])
        assert ("pixel_values" in output) == first
        return output

    trainer._generate_and_score_completions = outer
    trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model)


if __name__ == "__main__":
    from accelerate.utils import gather_object

    before = load_model(sys.argv[2], reason_stage()[1].model)[0]
    model = trained(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
    sums = [parameter.double().sum().item() for parameter in model.parameters()]
    theirs = gather_object([sums])
    assert theirs[0] == theirs[1]
    moved = [
        name for (name, one), other in zip(model.named_parameters(), before.parameters(), strict=False) if (one != other).any()
    ]
    assert any("vis" in name for name in moved), moved
    part()
