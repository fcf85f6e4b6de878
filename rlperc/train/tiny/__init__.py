"""Tiny vision-language models from nothing but code, with random weights: a file for each architecture.

`AutoModelForImageTextToText` and `AutoProcessor` load what is saved here like any other model, and so does vLLM.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from rlperc.errors import MissingPackageError
from rlperc.recipe.architectures import lacks_torchvision
from rlperc.recipe.schema import TinyModel
from rlperc.train.tiny.tokenizer import Vocabulary, train_tokenizer
from rlperc.words.response import Tags

Build = Callable[[TinyModel, PreTrainedTokenizerFast], tuple[Any, Any]]
"""From settings and a tokenizer to the model, with whatever weights, and its processor."""


def save_tiny_model(folder: Path, settings: TinyModel, texts: Iterable[str], tags: Tags, seed: int) -> None:
    """Write a model with random weights, its tokenizer (trained on `texts`) and its processor to `folder`.

    Raises:
        MissingPackageError: the architecture's processor needs torchvision, which is not installed.
    """
    _check_torchvision(settings)
    vocabulary, build = _family(settings)
    tokenizer = train_tokenizer(vocabulary, texts, tags)
    torch.manual_seed(seed)
    model, processor = build(settings, tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # The libraries' 0.02 is made for wide models; at width 96 it leaves the image too faint to be noticed.
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=settings.init_std)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _family(settings: TinyModel) -> tuple[Vocabulary, Build]:
    """Imported where it is wanted: some of them cannot be without torchvision."""
    match settings.architecture:
        case "idefics3":
            from rlperc.train.tiny import idefics3

            return idefics3.VOCABULARY, idefics3.build
        case "qwen2_5_vl":
            from rlperc.train.tiny import qwen_vl

            return qwen_vl.VOCABULARY, qwen_vl.build_qwen2_5
        case "qwen3_vl":
            from rlperc.train.tiny import qwen_vl

            return qwen_vl.VOCABULARY, qwen_vl.build_qwen3
        case "internvl":
            from rlperc.train.tiny import internvl

            return internvl.VOCABULARY, internvl.build


def _check_torchvision(settings: TinyModel) -> None:
    if lacks_torchvision(settings.architecture):
        torch_version = importlib.metadata.version("torch")
        raise MissingPackageError(
            f"a tiny {settings.architecture}",
            "its processor needs torchvision, which is not installed",
            f"pip install torchvision, the one that belongs to torch {torch_version}; docker/vllm.txt has such a set",
        )
