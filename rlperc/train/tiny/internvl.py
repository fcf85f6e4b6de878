"""InternVL in transformers' own form (`OpenGVLab/InternVL3_5-…-HF`). Its processor needs torchvision, for videos."""

from __future__ import annotations

from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
)

from rlperc.recipe.schema import TinyModel
from rlperc.train.tiny.chatml import END, PAD, START, chat_template, language_model
from rlperc.train.tiny.tokenizer import Vocabulary

IMAGE_START, IMAGE_END, IMAGE, VIDEO = "<img>", "</img>", "<IMG_CONTEXT>", "<video>"
NAMED = {"start_image_token": IMAGE_START, "end_image_token": IMAGE_END, "context_image_token": IMAGE, "video_token": VIDEO}
VOCABULARY = Vocabulary(PAD, END, (PAD, START, END, *NAMED.values()), named=NAMED)
DOWN = 0.5  # two rows and columns of patches become one image token
CHAT_TEMPLATE = chat_template(f"{IMAGE}\n")


def build(settings: TinyModel, tokenizer: PreTrainedTokenizerFast) -> tuple[InternVLForConditionalGeneration, InternVLProcessor]:
    """The model, with the Qwen3 that InternVL3.5 has for a language model, and its processor."""
    side = {"height": settings.image_size, "width": settings.image_size}
    tokens = int((settings.image_size // settings.patch_size * DOWN) ** 2)
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=side, crop_to_patches=True),
        tokenizer,
        InternVLVideoProcessor(size=side),
        image_seq_length=tokens,
        chat_template=CHAT_TEMPLATE,
    )
    config = InternVLConfig(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=tokens,
        downsample_ratio=DOWN,
        tie_word_embeddings=True,
        vision_config={
            "hidden_size": settings.hidden_size,
            "intermediate_size": 2 * settings.hidden_size,
            "num_hidden_layers": settings.vision_layers,
            "num_attention_heads": settings.heads,
            "image_size": settings.image_size,
            "patch_size": settings.patch_size,
        },
        text_config={
            "model_type": "qwen3",
            **language_model(settings, tokenizer, VOCABULARY),
            "head_dim": settings.hidden_size // settings.heads,
        },
    )
    return InternVLForConditionalGeneration(config), processor
