"""Where responses are drawn in training: by transformers, or by vLLM in the same process or on a server."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rlperc.recipe.part import Part

SERVERS = frozenset({"url", "wait_s", "sync"})  # what only a server has


class Parity(Part):
    """The check before the first step that vLLM samples from the policy itself."""

    rows: int = Field(8, ge=0)
    """Prompts of the stage's data in each process; 0 leaves the check out."""
    tokens: int = Field(32, ge=1)
    """Tokens drawn for each."""
    mean: float | None = Field(None, gt=0)
    """Largest mean difference in log-probability, in nats. Default: 1e-3 in float32, 0.05 in half precision."""
    max: float | None = Field(None, gt=0)
    """Largest difference of one token. Default: 0.02 in float32, 1.0 in half precision."""


class Rollout(Part):
    """Who draws the responses of an RL stage."""

    engine: Literal["transformers", "vllm"] = "transformers"
    mode: Literal["colocate", "server"] = "colocate"
    """vLLM inside every training process, on its GPU; or one server for all of them, which `rlperc serve` starts."""
    vllm: dict[str, Any] = Field(default_factory=dict)
    """Options by vLLM's own names (its `EngineArgs`), as in `{gpu_memory_utilization: 0.4, enable_sleep_mode: true}`."""
    url: str = "http://127.0.0.1:8000"
    """Of the server."""
    wait_s: float = Field(600, gt=0)
    """Seconds to wait for the server, at the start and after it was lost."""
    sync: Literal["nccl", "file"] | None = None
    """How weights reach the server: over NCCL, or as files under the run's folder, which the server must see too. Default:
    NCCL where there is CUDA."""
    parity: Parity = Parity()

    @field_validator("url")
    @classmethod
    def _with_a_port(cls, url: str) -> str:
        found = re.fullmatch(r"http://[^/:\s]+:(\d{1,5})", url)
        if found is None or not 1 <= int(found[1]) <= 65535:
            raise PydanticCustomError("url", "it names no server", {"expected": "http://HOST:PORT, as in http://127.0.0.1:8000"})
        return url

    @model_validator(mode="after")
    def _nothing_idle(self) -> Rollout:
        usual = {name: field.get_default(call_default_factory=True) for name, field in type(self).model_fields.items()}
        said = {name for name, value in usual.items() if getattr(self, name) != value}
        if self.engine == "transformers" and (idle := sorted(said - {"engine"})):
            raise PydanticCustomError(
                "rollout",
                "{which} is vLLM's, and transformers draws the responses",
                {"which": f"`{idle[0]}`", "expected": "engine: vllm beside it, or leave it out"},
            )
        if self.mode == "colocate" and (idle := sorted(said & SERVERS)):
            raise PydanticCustomError(
                "rollout",
                "{which} is a server's, and vLLM runs in the training processes",
                {"which": f"`{idle[0]}`", "expected": "mode: server beside it, or leave it out"},
            )
        return self

    @property
    def on_server(self) -> bool:
        """Whether a vLLM server draws them."""
        return self.engine == "vllm" and self.mode == "server"
