"""PPO's critic: a value head on the policy's last hidden state, or on that of a backbone of its own.

It hangs on the policy as a submodule, so that one optimizer, DDP and ZeRO know of it, and runs inside the policy's
forward, so that their hooks see it. What leaves training, a saved policy and the weights sent to vLLM, is without it.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from trl.trainer.utils import FusedCausalLMOutput

CRITIC = "critic"
FILE = "critic.safetensors"


class Critic(nn.Module):
    """Values of states. The head starts at 0, so that the first advantages are those of the rewards alone."""

    def __init__(self, hidden_size: int, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """From the last hidden states (B, L, H) to values (B, L), in the head's own precision."""
        with torch.autocast(hidden.device.type, enabled=False):
            values: Tensor = self.head(hidden.to(self.head.weight.dtype))[..., 0].float()
        return values


@dataclass
class ValuedOutput(FusedCausalLMOutput):
    """TRL's output with the value of the state before each scored token. Shape of `state_values`: that of `log_probs`.

    A subclass of the output's own type, because DDP takes outputs apart and rebuilds them; not called `values`, because
    an output is a dictionary, which has a method of that name.
    """

    state_values: Tensor | None = None


def attach_critic(policy: Any, trunk: nn.Module | None) -> None:
    """Give a policy a critic, and let its fused forward (`trl.trainer.utils.add_fused_lm_head`) return values when asked to.

    Args:
        policy: a model that TRL's trainer has patched, without wrappers of peft.
        trunk: a copy of its backbone, or None to share the policy's.
    """
    hidden_size = policy.config.get_text_config().hidden_size
    device = policy.get_output_embeddings().weight.device
    policy.add_module(CRITIC, Critic(hidden_size, trunk).to(device))
    scored = policy.forward

    @functools.wraps(type(policy).forward)
    def forward(self: Any, *args: Any, state_values: bool = False, **kwargs: Any) -> Any:
        if not state_values:
            return scored(*args, **kwargs)
        with _last_hidden_states(self.base_model) as seen:
            outputs = scored(*args, **kwargs)
        if self.critic.trunk is not None:
            inputs = {name: value for name, value in kwargs.items() if name not in ("labels", "fused_lm_head")}
            seen = [self.critic.trunk(*args, **inputs, use_cache=False).last_hidden_state]
        return ValuedOutput(**outputs, state_values=self.critic(seen[0][:, :-1]))

    policy.forward = types.MethodType(forward, policy)


@contextmanager
def _last_hidden_states(backbone: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    hook = backbone.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.last_hidden_state))
    try:
        yield seen
    finally:
        hook.remove()


class Valued:
    """A policy whose values are kept: called in its place, it passes on what TRL asks of it, and asks for values too."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._seen: list[Tensor] = []

    def __call__(self, **kwargs: Any) -> Any:
        """The model's outputs."""
        outputs = self.model(**kwargs, state_values=True)
        self._seen.append(outputs.state_values)
        return outputs

    def values(self, width: int) -> Tensor:
        """Values of the states before the last `width` tokens of everything passed through. Shape: (B, width)."""
        return torch.cat([values[:, -width:] for values in self._seen])


@contextmanager
def without_critic(policy: Any) -> Iterator[None]:
    """The policy as it was before, while it is saved."""
    critic = policy._modules.pop(CRITIC)
    try:
        yield
    finally:
        policy._modules[CRITIC] = critic


def parted(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The policy's part of a state dictionary, and the critic's under its own names."""
    critic = {name: name.split(".").index(CRITIC) for name in state if CRITIC in name.split(".")}
    own = {".".join(name.split(".")[place + 1 :]): state[name] for name, place in critic.items()}
    return {name: value for name, value in state.items() if name not in critic}, own


def save_critic(state: dict[str, Tensor], folder: Path) -> None:
    """Write the critic beside a checkpoint's policy."""
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, folder / FILE)


def load_critic(critic: Critic, folder: Path) -> None:
    """Read it again. Raises RuntimeError where it is another critic's."""
    critic.load_state_dict(load_file(folder / FILE))


def own_learning_rate(optimizer: torch.optim.Optimizer, critic: nn.Module, rate: float) -> None:
    """Move the critic's parameters into groups with a learning rate of their own."""
    mine = {id(parameter) for parameter in critic.parameters()}
    for group in list(optimizer.param_groups):
        taken = [parameter for parameter in group["params"] if id(parameter) in mine]
        if taken:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in mine]
            rest = {name: value for name, value in group.items() if name not in ("params", "lr", "initial_lr")}
            optimizer.add_param_group({**rest, "params": taken, "lr": rate})
