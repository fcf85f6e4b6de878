"""Idefics3, the architecture of SmolVLM-256M and -500M. Its processors run on Pillow alone, without torchvision."""

from __future__ import annotations

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from rlperc.recipe.schema import TinyModel
from rlperc.train.tiny.tokenizer import Vocabulary, ends

PAD, END, UNKNOWN = "<|pad|>", "<|end|>", "<|unknown|>"
IMAGE, FAKE_IMAGE, GLOBAL_IMAGE = "<image>", "<fake_token_around_image>", "<global-img>"
ROLES = ("system", "user", "assistant")
SPECIAL = (PAD, END, UNKNOWN, IMAGE, FAKE_IMAGE, GLOBAL_IMAGE, "<end_of_utterance>", *(f"<|{r}|>" for r in ROLES))
CONTEXT = 2048
VOCABULARY = Vocabulary(PAD, END, SPECIAL, UNKNOWN, CONTEXT)

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


def build(settings: TinyModel, tokenizer: PreTrainedTokenizerFast) -> tuple[Idefics3ForConditionalGeneration, Idefics3Processor]:
    """The model and its processor."""
    return _model(settings, tokenizer), _processor(settings, tokenizer)


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
            "max_position_embeddings": CONTEXT,
            **ends(tokenizer),
            "tie_word_embeddings": True,
        },
    )
    return Idefics3ForConditionalGeneration(config)
