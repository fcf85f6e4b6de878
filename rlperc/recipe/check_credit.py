"""Whether a stage's blend, its rewards and its trainer's options fit together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rlperc.errors import RecipeError
from rlperc.recipe.batches import TRL_DEFAULTS, group_size, responses_per_process
from rlperc.recipe.credit import PER_TOKEN, GateFailed, GatePrompt, NormalizeThenSum, PenalizeSpan, Spans, Sum
from rlperc.recipe.part import is_never
from rlperc.recipe.rewards import LoadedReward
from rlperc.recipe.schema import Stage
from rlperc.reward.contract import Credits

# What TRL does to whole responses, and why credit by token does not go with it.
OF_WHOLE_RESPONSES: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    (
        "importance_sampling_level",
        lambda level: level != "token",
        "a ratio for the whole sequence (GSPO) averages the credit of its tokens away: all get the same gradient",
    ),
    (
        "off_policy_mask_threshold",
        lambda threshold: threshold is not None,
        "it drops whole responses by the sign of their advantage, and here each token has its own",
    ),
    (
        "loss_type",
        lambda name: name == "vespo",
        "VESPO weighs whole responses by the sign of their advantage, and here each token has its own",
    ),
)


def check_credit(stage: Stage, loaded: Sequence[LoadedReward]) -> None:
    """Refuse what cannot go together. Raises RecipeError."""
    trained = [one for one in loaded if not is_never(one.use.weight)]
    _check_mode(stage, trained)
    _check_kind(stage)
    _check_options(stage)
    if stage.blend.resample:
        _check_resample(stage)
    if stage.kind == "ppo" and group_size(stage) == 1:
        _check_alone(stage, trained)


def _check_mode(stage: Stage, trained: list[LoadedReward]) -> None:
    blend, where = stage.blend, f"stages.{stage.name}.blend"
    credited = {one.reward.credits for one in trained}
    needed: list[Credits] = []
    if isinstance(blend, GateFailed | GatePrompt) or blend.alpha is not None:
        needed = ["outcome", "perception"]
    elif isinstance(blend, Spans):
        needed = ["perception"]
    asked = f"{where}: {{mode: {blend.mode}{'' if blend.alpha is None else ', alpha: …'}}}"
    for credits in needed:
        if credits not in credited:
            example = {"outcome": "answer_number", "perception": "perception_cells"}[credits]
            raise RecipeError(
                asked,
                f"it needs a reward that credits the {credits}, and none with a weight does",
                f"rewards: [{{use: {example}}}, …], or blend: {{mode: sum}}",
            )
    if isinstance(blend, GateFailed | GatePrompt):
        for one in trained:
            if one.reward.credits in needed and not all(map(math.isfinite, one.reward.range)):
                raise RecipeError(
                    asked,
                    f"it reads a reward as a share of its range, and '{one.reward.name}' declares none",
                    "a reward marked with @reward(range=(0.0, 1.0))",
                )
    if isinstance(blend, PenalizeSpan) and not any(one.reward.marks for one in trained):
        raise RecipeError(
            asked,
            "none of the rewards with a weight marks what is wrong",
            "a reward with @reward(marks=True), such as perception_cells",
        )


def _check_kind(stage: Stage) -> None:
    blend, where = stage.blend, f"stages.{stage.name}"
    if stage.kind == "ppo" and not isinstance(blend, Sum | Spans):
        raise RecipeError(
            f"{where}.blend: {{mode: {blend.mode}}} under kind: ppo",
            "PPO compares a response with its critic, not with its group, and pays rewards at tokens",
            "blend: {mode: sum}, paid at the last token, or {mode: span}, paid at the end of the span that a reward credits",
        )
    if stage.kind == "rloo" and not isinstance(blend, Sum):
        raise RecipeError(
            f"{where}.blend: {{mode: {blend.mode}}} under kind: rloo",
            "TRL's RLOO has one advantage for a whole response, of the weighted sum",
            "blend: {mode: sum}, or kind: grpo",
        )
    if blend.resample and stage.kind != "grpo":
        raise RecipeError(
            f"{where}.blend: {{resample: {blend.resample}}} under kind: {stage.kind}",
            "PPO needs no spread within a group" if stage.kind == "ppo" else "only GRPO's groups are drawn again",
            "resample: 0, or kind: grpo",
        )
    for option in ("min_std", "outcome_on"):
        field = type(blend).model_fields.get(option)
        if stage.kind != "grpo" and field is not None and getattr(blend, option) != field.default:
            raise RecipeError(
                f"{where}.blend: {{{option}: {getattr(blend, option)}}} under kind: {stage.kind}",
                f"only the blends of GRPO read it; {stage.kind.upper()} would ignore it",
                "leave it out, or kind: grpo",
            )


def _check_options(stage: Stage) -> None:
    blend, where = stage.blend, f"stages.{stage.name}"
    if isinstance(blend, PER_TOKEN) or stage.kind == "ppo":
        _check_by_token(stage)
    if "scale_rewards" in stage.train and (stage.kind == "ppo" or isinstance(blend, NormalizeThenSum)):
        what = "PPO" if stage.kind == "ppo" else "normalize_then_sum"
        raise RecipeError(
            f"{where}.train.scale_rewards: {stage.train['scale_rewards']}",
            f"{what} has its own way to scale, and would ignore it",
            "leave it out" + ("; ppo: {whiten_advantages: …}" if stage.kind == "ppo" else ""),
        )
    if stage.ppo is not None and stage.ppo.kl_in == "reward" and (stage.train.get("beta") or 0.0) <= 0:
        raise RecipeError(
            f"{where}.ppo.kl_in: reward",
            "the KL's weight, beta, is not above 0, so there is nothing to pay",
            "train: {beta: 0.05}, or kl_in: loss",
        )


def _check_by_token(stage: Stage) -> None:
    what = "kind: ppo" if stage.kind == "ppo" else f"blend: {{mode: {stage.blend.mode}}}"
    for option, refused, why in OF_WHOLE_RESPONSES:
        if option in stage.train and refused(stage.train[option]):
            raise RecipeError(
                f"stages.{stage.name}: {what} with {option}: {stage.train[option]}",
                why,
                f"leave out {option}, or blend: {{mode: sum}} under kind: grpo",
            )


def _check_resample(stage: Stage) -> None:
    group, mine = group_size(stage), responses_per_process(stage)
    if mine % group:
        option = "per_device_train_batch_size"
        per_device = stage.train.get(option, TRL_DEFAULTS[stage.kind][option])
        step = group // math.gcd(group, mine // per_device)
        size = str(-(-per_device // step) * step)
        if stage.train.get("generation_batch_size"):
            option, size = "generation_batch_size", f"a multiple of {group} for each process"
        raise RecipeError(
            f"stages.{stage.name}.blend: {{resample: {stage.blend.resample}}}",
            f"a process has {mine} responses for each generation, which are not whole groups of {group}",
            f"train: {{{option}: {size}}}, or resample: 0",
        )


def _check_alone(stage: Stage, trained: list[LoadedReward]) -> None:
    for one in trained:
        if one.use.on_error == "skip":
            raise RecipeError(
                f"stages.{stage.name}: on_error: skip for '{one.reward.name}' with num_generations: 1",
                "there is no group that a failed completion could be taken out of",
                "on_error: stop, or num_generations: 2 or more",
            )
