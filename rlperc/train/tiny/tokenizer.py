"""Byte-level tokenizers for tiny models, trained on what the model will read and write."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlperc.words.response import Tags


@dataclass(frozen=True)
class Vocabulary:
    """What an architecture's tokenizer has of its own."""

    pad: str
    end: str
    special: tuple[str, ...]
    """All special tokens, `pad` and `end` among them."""
    unknown: str | None = None
    context: int = 4096
    named: dict[str, str] = field(default_factory=dict)
    """Special tokens that the processor asks the tokenizer for by a name."""


def train_tokenizer(vocabulary: Vocabulary, texts: Iterable[str], tags: Tags) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose every word and number up to three digits is one token.

    Byte-level, so that any text survives encoding and decoding. The tags are ordinary tokens: special ones would
    vanish when TRL decodes completions with `skip_special_tokens=True`.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=vocabulary.unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=1,
        special_tokens=list(vocabulary.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    marks = [mark for name in (tags.perception, tags.think, tags.answer) for mark in (f"<{name}>", f"</{name}>")]
    between = re.compile("|".join(map(re.escape, marks)))
    pieces = (piece for text in texts for piece in between.split(text))
    tokenizer.train_from_iterator(itertools.chain(pieces, map(str, range(200))), trainer)
    tokenizer.add_tokens(marks)
    unknown = {} if vocabulary.unknown is None else {"unk_token": vocabulary.unknown}
    named = {"extra_special_tokens": vocabulary.named} if vocabulary.named else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=vocabulary.pad,
        eos_token=vocabulary.end,
        padding_side="left",
        model_max_length=vocabulary.context,
        **unknown,
        **named,
    )


def ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The ids that a language model's config names: no architecture here has a token at the beginning."""
    return {
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
