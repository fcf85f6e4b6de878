"""What Qwen-VL and InternVL share: messages between `<|im_start|>` and `<|im_end|>`, and the size of the language model."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerFast

from rlperc.recipe.schema import TinyModel
from rlperc.train.tiny.tokenizer import Vocabulary, ends

PAD, END, START = "<|endoftext|>", "<|im_end|>", "<|im_start|>"

_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}IMAGE{% else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


def chat_template(image: str) -> str:
    """A template that writes `image` in the place of every image."""
    return _TEMPLATE.replace("IMAGE", image)


def language_model(settings: TinyModel, tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary) -> dict[str, Any]:
    """The language model's config, as far as the families agree."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden_size,
        "intermediate_size": 2 * settings.hidden_size,
        "num_hidden_layers": settings.text_layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.heads if settings.heads % 2 else settings.heads // 2,
        "max_position_embeddings": vocabulary.context,
        "tie_word_embeddings": True,
        **ends(tokenizer),
    }
