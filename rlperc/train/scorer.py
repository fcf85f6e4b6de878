"""How likely the training model finds what it wrote, seeing other images: what surrogate rewards ask."""

from __future__ import annotations

import inspect
from collections.abc import Sequence, Set
from typing import Any

import torch
from trl.data_utils import prepare_multimodal_messages

from rlperc.train.tokens import token_range
from rlperc.words.response import Tags, find_span

# Tensors of a processor that have a value for each token of the prompt, and get zeros for the completion.
PER_TOKEN = ("token_type_ids", "mm_token_type_ids")


def forward_arguments(model: Any) -> Set[str]:
    """The names that a model's `forward` takes, also behind peft and the wrappers of distributed training."""
    while hasattr(model, "module"):
        model = model.module
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inspect.signature(base.forward).parameters.keys()


def adds_special_tokens(tokenizer: Any, text: str) -> bool:
    """Whether transformers' processors add special tokens to what a chat template wrote: unless it begins with one itself."""
    return tokenizer.bos_token is None or not text.startswith(tokenizer.bos_token)


class ModelScorer:
    """The training model over one batch of its own completions (`rlperc.reward.contract.Scorer`)."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        prompts: Sequence[list[dict[str, Any]]],
        completion_ids: Sequence[list[int]],
        tags: Tags,
        batch_size: int,
        chat_template_kwargs: dict[str, Any],
    ) -> None:
        self.model, self.processor, self.batch_size = model, processor, batch_size
        self.chat_template_kwargs = chat_template_kwargs
        self.prompts, self.completion_ids = prompts, completion_ids
        self._keeps_logits = "logits_to_keep" in forward_arguments(model)
        self._spans = [self._perception(ids, tags) for ids in completion_ids]

    def perception_logprobs(self, images: list[list[Any]]) -> list[float | None]:
        """Mean log-probability per token of each perception span, seeing `images`. See `Scorer`.

        Every process of a distributed run comes here with as many completions, so that sharded weights can be gathered.
        """
        rows = zip(self.logprobs(images), self._spans, strict=True)
        return [row[list(span)].mean().item() if span else None for row, span in rows]

    def logprobs(self, images: list[list[Any]], temperature: float = 1.0) -> list[torch.Tensor]:
        """Log-probabilities of the completions' tokens, seeing `images`. Shape of each: at least the completion's length.

        Every process comes here with as many completions, as above.
        """
        was_training = self.model.training
        self.model.eval()
        starts = range(0, len(self.prompts), self.batch_size)
        try:
            with torch.no_grad():
                chunks = [self._chunk(slice(start, start + self.batch_size), images, temperature) for start in starts]
        finally:
            self.model.train(was_training)
        return [row for chunk in chunks for row in chunk]

    def _chunk(self, chunk: slice, images: list[list[Any]], temperature: float) -> torch.Tensor:
        inputs, width = self._inputs(self.prompts[chunk], images[chunk], self.completion_ids[chunk])
        # Only the completion's logits: over a large vocabulary those of the prompt would fill a GPU.
        kept = {"logits_to_keep": width + 1} if self._keeps_logits else {}
        logits = self.model(**inputs, **kept, use_cache=False).logits[:, -width - 1 : -1].float() / temperature
        written = inputs["input_ids"][:, -width:, None]
        chosen = logits.gather(2, written)[..., 0]
        return chosen - torch.logsumexp(logits, dim=-1)  # Shape: (completions, width)

    def _inputs(
        self, prompts: Sequence[list[dict[str, Any]]], images: list[list[Any]], completion_ids: Sequence[list[int]]
    ) -> tuple[dict[str, torch.Tensor], int]:
        """The prompts with these images, padded on the left, and the completions behind them, padded on the right."""
        messages = [prepare_multimodal_messages(p, images=seen) for p, seen in zip(prompts, images, strict=True)]
        kwargs = {"tokenize": False, "add_generation_prompt": True, **self.chat_template_kwargs}
        texts = [self.processor.apply_chat_template(one, **kwargs) for one in messages]
        inputs = self.processor(
            images=images if any(images) else None,
            text=texts,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            add_special_tokens=adds_special_tokens(self.processor.tokenizer, texts[0]),
        )
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        width = max(1, max(len(ids) for ids in completion_ids))
        written = torch.zeros(len(prompts), width, dtype=torch.long, device=self.model.device)
        mask = torch.zeros_like(written)
        for row, ids in enumerate(completion_ids):
            written[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
            mask[row, : len(ids)] = 1
        for name in PER_TOKEN:
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.zeros_like(written)], dim=1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], written], dim=1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask], dim=1)
        return inputs, width

    def _perception(self, ids: list[int], tags: Tags) -> range:
        def decode(some: Sequence[int]) -> str:
            return str(self.processor.decode(some, skip_special_tokens=True))

        span = find_span(decode(ids), tags.perception)
        return token_range(ids, decode, span.start, span.end) if span.state == "found" else range(0)
