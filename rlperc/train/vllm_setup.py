"""What vLLM has to be told to be the policy's double: the same for an engine in the training process and for a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from rlperc.recipe.rollout import Rollout

KV_CACHE_ON_CPU = 2**30  # bytes; vLLM's own default would take what the training needs


@dataclass(frozen=True)
class Setup:
    """What vLLM has to be told, beside what TRL tells it, to be the policy's double.

    `dtype` is what the trainer computes in; `processor` what its processor was loaded with; `folder` lies where a server
    can read it too.
    """

    rollout: Rollout
    dtype: str
    seed: int = 0
    revision: str | None = None
    trust_remote_code: bool = False
    processor: dict[str, Any] = field(default_factory=dict)
    folder: str = "."

    @property
    def by_file(self) -> bool:
        """Whether weights go to a server as files."""
        return (self.rollout.sync or ("nccl" if torch.cuda.is_available() else "file")) == "file"

    @property
    def coarser_dtype(self) -> str:
        """What vLLM computes in, or the trainer where that is coarser: it bounds how far the two can agree."""
        engine = str(self.rollout.vllm.get("dtype", self.dtype))
        return self.dtype if engine in ("float32", "float") else engine

    def engine_args(self) -> dict[str, Any]:
        """Options of vLLM's engine, by its own names."""
        shared = {"revision": self.revision, "tokenizer_revision": self.revision} if self.revision else {}
        ours: dict[str, Any] = {"dtype": self.dtype, "trust_remote_code": self.trust_remote_code, **shared}
        if self.processor:
            ours["mm_processor_kwargs"] = self.processor
        if not torch.cuda.is_available():
            ours |= {"enforce_eager": True, "kv_cache_memory_bytes": KV_CACHE_ON_CPU}
        return {**ours, **self.rollout.vllm}


def without_image_token(model: Any, given: dict[str, Any] | None) -> dict[str, Any]:
    """Keep the image token from being sampled."""
    config = model.config
    token = getattr(config, "image_token_id", None)
    if token is None:
        return dict(given or {})
    return {**(given or {}), "logit_bias": {token: -100.0, **(given or {}).get("logit_bias", {})}}


def ends_of(model: Any) -> list[int]:
    """The tokens that end a response."""
    ends = getattr(model, "generation_config", model.config).eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def where_they_part(ours: Sequence[int], theirs: Sequence[int], processor: Any) -> str:
    """Where two prompts part, for a person to read."""
    place = next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    lines = [f"    {len(ours)} tokens in the trainer, {len(theirs)} in vLLM; they part at token {place}:"]
    for name, ids in (("trainer", ours), ("vLLM", theirs)):
        around = list(ids[max(0, place - 4) : place + 8])
        lines.append(f"    {name:8} {around} {processor.decode(around)!r}")
    return "\n".join(lines)


@contextmanager
def replaced(place: Any, **values: Any) -> Iterator[None]:
    """Other values under names of a module or an object, while something runs that looks there."""
    before = {name: getattr(place, name) for name in values}
    for name, value in values.items():
        setattr(place, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(place, name, value)
