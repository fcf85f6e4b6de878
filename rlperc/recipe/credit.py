"""Who gets the credit: how a recipe's rewards become advantages, and what PPO adds to that."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from rlperc.errors import did_you_mean
from rlperc.recipe.part import Part, Scheduled, Share, Strength


class RewardUse(Part):
    """One reward of a recipe: where it comes from, its weight and its settings."""

    use: str
    """A name from the collection, `./file.py[:function]` or `package.module:function`."""
    weight: Scheduled = 1.0
    """Its share in the blend, also on a schedule. Weight 0 makes it a probe: computed and reported, never trained on."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The reward's settings."""
    on_error: Literal["stop", "skip", "zero"] = "stop"
    """What becomes of a completion that it fails on: the run stops, this reward leaves it out of its group, or it gets 0."""
    max_error_share: float = Field(0.1, ge=0, le=1)
    """The run stops all the same when it fails on more than this share of the last 500 completions or so."""
    timeout_s: float | None = Field(None, gt=0)
    """Seconds for one call: a completion, a group or a batch. Default: the reward's own, usually 5."""
    isolate: bool | None = None
    """Run it in worker processes. Default: unless it declares itself bounded."""
    workers: int = Field(0, ge=0)
    """Worker processes in each training process. Default: its share of the cores, up to 4."""
    memory_mib: int = Field(4096, ge=64)
    """Memory limit of a worker."""


class _Mode(Part):
    alpha: Share | None = None
    """R = alpha * a_p + (1 - alpha) * a (arXiv 2605.29496): multiplies the weights of the rewards that credit perception by
    alpha, and of those that credit the outcome by 1 - alpha."""
    resample: int = Field(0, ge=0, strict=True)
    """Rounds, at most, in which groups without any spread give way to prompts drawn at random (DAPO, arXiv 2503.14476)."""
    min_std: float = Field(0.0, ge=0)
    """Floor under a standard deviation that is divided by, in the reward's own units."""


class Sum(_Mode):
    """The weighted sum, normalised within its group: TRL's default."""

    mode: Literal["sum"] = "sum"


class NormalizeThenSum(_Mode):
    """Each reward normalised within its group, then the weighted sum, normalised over the batch (GDPO, arXiv 2601.05242)."""

    mode: Literal["normalize_then_sum"]


class Spans(_Mode):
    """Each reward normalised on its own and given to the tokens it credits (Vision-SR1, arXiv 2508.19652)."""

    mode: Literal["span"]
    min_std: float = Field(0.05, ge=0)
    outcome_on: Literal["rest", "all"] = "rest"
    """Tokens that rewards of the outcome reach: all but the perception span, or all."""


class GateFailed(_Mode):
    """The sum; where the outcome failed, perception tokens gain or lose by the perception (MoCA)."""

    mode: Literal["gate_failed"]
    protect: Strength = 1.0
    """Share of |A| added on the perception tokens of a failed response whose perception is right."""
    punish: Strength = 1.0
    """Share of |A| taken from them where it is wrong."""
    failed_below: float = Field(0.5, gt=0, le=1)
    """A response failed whose outcome, as a share of its range, is below this."""


class GatePrompt(_Mode):
    """The outcome counts as far as the group perceives: A * min(mean perception, cap) (PEARL, arXiv 2511.18437)."""

    mode: Literal["gate_prompt"]
    min_std: float = Field(0.05, ge=0)
    cap: float = Field(0.5, gt=0, le=1)


class PenalizeSpan(_Mode):
    """The sum; tokens that a reward marks wrong lose a share of |A| (Perceval, CVPR 2026)."""

    mode: Literal["penalize_span"]
    penalty: Strength = 1.0


MODES: dict[str, type[Part]] = {
    "sum": Sum,
    "normalize_then_sum": NormalizeThenSum,
    "span": Spans,
    "gate_failed": GateFailed,
    "gate_prompt": GatePrompt,
    "penalize_span": PenalizeSpan,
}


def _with_mode(given: Any) -> Any:
    if isinstance(given, Part):
        return given
    if not isinstance(given, dict):
        expected = f"{{mode: …}}, with one of {', '.join(MODES)}"
        raise PydanticCustomError("blend", "a blend is written with its keys", {"expected": expected})
    mode = given.get("mode", "sum")
    if not isinstance(mode, str) or mode not in MODES:
        context = {"mode": str(mode), "expected": did_you_mean(str(mode), MODES)}
        raise PydanticCustomError("blend", "there is no mode '{mode}'", context)
    return {"mode": mode, **given}


Blend = Annotated[
    Annotated[Sum | NormalizeThenSum | Spans | GateFailed | GatePrompt | PenalizeSpan, Field(discriminator="mode")],
    BeforeValidator(_with_mode),
]
PER_TOKEN = (Spans, GateFailed, PenalizeSpan)


class Ppo(Part):
    """What PPO (arXiv 1707.06347) has beside GRPO's options, which stand under `train:`; defaults as TRL's PPO had them."""

    gamma: float = Field(1.0, ge=0, le=1)
    """Discount for each token."""
    lam: float = Field(0.95, ge=0, le=1)
    """GAE's lambda (arXiv 1506.02438)."""
    vf_coef: float = Field(0.1, ge=0)
    """Weight of the value loss."""
    cliprange_value: float = Field(0.2, gt=0)
    """How far a value may move from what it was at generation before the loss stops following."""
    whiten_advantages: bool = True
    """Mean 0 and standard deviation 1 over all tokens of all processes."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL to the reference, weighted by `train: {beta: …}`, is paid: never in both."""
    trunk: Literal["shared", "own"] = "shared"
    """The value head reads the policy's last hidden state, or that of a copy of the backbone, trained whole."""
    critic_learning_rate: float | None = Field(None, gt=0)
    """Of the value head and its own trunk. Default: the policy's."""
