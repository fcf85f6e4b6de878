"""A tiny vision-language model from nothing but code: an Idefics3 with its tokenizer and image processor.

Idefics3 is the architecture of SmolVLM-256M and -500M. Its processors run on Pillow alone (no torchvision), and
vLLM loads it; `AutoModelForImageTextToText` and `AutoProcessor` load what is saved here like any other model.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from rlperc.recipe.schema import TinyModel
from rlperc.words.response import Tags

PAD, END, UNKNOWN = "<|pad|>", "<|end|>", "<|unknown|>"
IMAGE, FAKE_IMAGE, GLOBAL_IMAGE = "<image>", "<fake_token_around_image>", "<global-img>"
ROLES = ("system", "user", "assistant")
SPECIAL = (PAD, END, UNKNOWN, IMAGE, FAKE_IMAGE, GLOBAL_IMAGE, "<end_of_utterance>", *(f"<|{r}|>" for r in ROLES))

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|{{ message['role'] }}|>
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<image>{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""


def save_tiny_model(folder: Path, settings: TinyModel, texts: Iterable[str], tags: Tags, seed: int) -> None:
    """Write a model with random weights, its tokenizer (trained on `texts`) and its processor to `folder`."""
    tokenizer = build_tokenizer(texts, tags)
    processor = _processor(settings, tokenizer)
    torch.manual_seed(seed)
    model = _model(settings, tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def build_tokenizer(texts: Iterable[str], tags: Tags) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose every word and number up to three digits is one token.

    Byte-level, so that any text survives encoding and decoding. The tags are ordinary tokens: special ones would
    vanish when TRL decodes completions with `skip_special_tokens=True`.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    marks = [mark for name in (tags.perception, tags.think, tags.answer) for mark in (f"<{name}>", f"</{name}>")]
    between = re.compile("|".join(map(re.escape, marks)))
    pieces = (piece for text in texts for piece in between.split(text))
    tokenizer.train_from_iterator(itertools.chain(pieces, map(str, range(200))), trainer)
    tokenizer.add_tokens(marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=2048,
    )


def _processor(settings: TinyModel, tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": settings.image_size},
        max_image_size={"longest_edge": settings.image_size},
        do_image_splitting=False,
    )
    tokens = (settings.image_size // settings.patch_size) ** 2
    return Idefics3Processor(images, tokenizer, image_seq_len=tokens, chat_template=CHAT_TEMPLATE)


def _model(settings: TinyModel, tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    shared = {"hidden_size": settings.hidden_size, "num_attention_heads": settings.heads}
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        scale_factor=1,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        vision_config={
            **shared,
            "intermediate_size": 4 * settings.hidden_size,
            "num_hidden_layers": settings.vision_layers,
            "image_size": settings.image_size,
            "patch_size": settings.patch_size,
        },
        text_config={
            "model_type": "llama",
            **shared,
            "num_key_value_heads": settings.heads,
            "intermediate_size": 2 * settings.hidden_size,
            "num_hidden_layers": settings.text_layers,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 2048,
            "bos_token_id": tokenizer.eos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        },
    )
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # The library's 0.02 is made for wide models; at width 96 it leaves the image too faint to be noticed.
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=settings.init_std)
    return model
