"""Generation for measurements, with the chance to start the response for the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl.data_utils import prepare_multimodal_messages


def generate(
    model: Any,
    processor: Any,
    prompts: Sequence[list[dict[str, Any]]],
    images: Sequence[list[Any]],
    prefixes: Sequence[str],
    max_new_tokens: int,
    temperature: float = 0.0,
) -> list[str]:
    """Write one response for each prompt.

    Args:
        model: in evaluation mode.
        processor: of the model.
        prompts: conversations.
        images: PIL images of each prompt.
        prefixes: how each response starts; the model goes on from there. Part of what is returned.
        max_new_tokens: tokens after the prefix.
        temperature: 0 is greedy.
    """
    texts = [
        processor.apply_chat_template(
            prepare_multimodal_messages(prompt, images=list(seen)), tokenize=False, add_generation_prompt=True
        )
        + prefix
        for prompt, seen, prefix in zip(prompts, images, prefixes, strict=True)
    ]
    inputs = processor(
        text=texts,
        images=[list(seen) for seen in images] if any(images) else None,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=False,  # the chat template has written them
    ).to(model.device)
    # top_k 0 is all of the vocabulary: transformers' own default is 50.
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    with torch.inference_mode():
        # A model's own settings, such as Qwen2.5-VL's repetition penalty, are not those that TRL trains under.
        ids = model.generate(**inputs, max_new_tokens=max_new_tokens, repetition_penalty=1.0, **drawn)
    written = processor.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [prefix + text for prefix, text in zip(prefixes, written, strict=True)]
