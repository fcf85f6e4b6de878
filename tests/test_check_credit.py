"""Which blends, rewards, kinds of stage and trainer's options go together; see test_credit_schema.py for each alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from launch import QUICKSTART

from rlperc.errors import RecipeError
from rlperc.recipe.check import check_recipe
from rlperc.recipe.check_credit import check_credit
from rlperc.recipe.credit import MODES, Sum
from rlperc.recipe.load import load_recipe
from rlperc.recipe.schema import Data, Model, Stage

PLUGINS = """\
from rlperc import reward

@reward(credits="perception", marks=True)
def marking(completion):
    return 0.0

@reward(range=(0.0, 1.0))
def fraction(completion):
    return 0.0

def plain(completions, **kwargs):
    return [0.0 for _ in completions]
"""
BOTH = "{use: answer_number}, {use: perception_exact}"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugins") / "mine.py"
    file.write_text(PLUGINS)
    return file


def reason(*lines: str) -> list[str]:
    """Lines of the stage `reason`, as overrides."""
    return [f"stages.reason.{line}" for line in lines]


def check(*lines: str) -> Stage:
    recipe = load_recipe(QUICKSTART, *reason(*lines))
    check_recipe(recipe)
    return recipe.stages[-1]


def refused(*lines: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        check(*lines)
    return caught.value


def holds(error: RecipeError, asked: str, why: str, instead: str) -> None:
    assert asked in error.asked
    assert why in error.why
    assert instead in error.instead


# --- a blend and its rewards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blend", "rewards"),
    [
        ("{mode: sum}", "{use: answer_number}"),
        ("{mode: normalize_then_sum}", "{use: format_tags}"),
        ("{mode: span}", "{use: perception_exact}"),
        ("{mode: sum, alpha: 0.5}", BOTH),
        ("{mode: span, alpha: 0.5}", BOTH),
        ("{mode: gate_failed}", BOTH),
        ("{mode: gate_prompt}", BOTH),
        ("{mode: gate_failed}", "{use: answer_number, weight: {0: 0, 1: 1}}, {use: perception_exact}"),
        ("{mode: gate_prompt}", BOTH + ", {use: MINE:plain, weight: 0}"),
        ("{mode: gate_failed}", "{use: MINE:fraction}, {use: perception_exact}"),
        ("{mode: span}", "{use: MINE:plain}, {use: perception_exact}"),
        ("{mode: penalize_span}", "{use: answer_number}, {use: MINE:marking}"),
    ],
)
def test_rewards_that_a_blend_can_use(blend: str, rewards: str, plugins: Path) -> None:
    check(f"blend={blend}", f"rewards=[{rewards.replace('MINE', str(plugins))}]")


PERCEPTION = ("it needs a reward that credits the perception, and none with a weight does", "{use: perception_cells}")
OUTCOME = ("it needs a reward that credits the outcome, and none with a weight does", "{use: answer_number}")


@pytest.mark.parametrize(
    ("blend", "rewards", "why", "instead"),
    [
        ("{mode: span}", "{use: answer_number}", *PERCEPTION),
        ("{mode: span}", "{use: answer_number}, {use: perception_exact, weight: 0}", *PERCEPTION),
        ("{mode: span}", "{use: answer_number}, {use: perception_exact, weight: {0: 0, 1: 0}}", *PERCEPTION),
        ("{mode: span, alpha: 0.5}", "{use: perception_exact}", *OUTCOME),
        ("{mode: sum, alpha: 0.5}", "{use: answer_number}", *PERCEPTION),
        ("{mode: normalize_then_sum, alpha: {0: 1}}", "{use: perception_exact}", *OUTCOME),
        ("{mode: gate_failed}", "{use: answer_number}", *PERCEPTION),
        ("{mode: gate_failed}", "{use: perception_exact}, {use: answer_follows}", *OUTCOME),
        ("{mode: gate_prompt}", "{use: answer_number}, {use: format_tags}", *PERCEPTION),
        ("{mode: gate_prompt}", "{use: perception_exact}", *OUTCOME),
        (
            "{mode: gate_failed}",
            "{use: MINE:plain}, {use: perception_exact}",
            "reads a reward as a share of its range, and 'plain' declares none",
            "@reward(range=(0.0, 1.0))",
        ),
        ("{mode: gate_prompt}", BOTH + ", {use: MINE:plain, weight: 0.1}", "'plain' declares none", "@reward(range="),
        ("{mode: penalize_span}", BOTH, "none of the rewards with a weight marks", "@reward(marks=True)"),
        ("{mode: penalize_span}", BOTH + ", {use: MINE:marking, weight: 0}", "none of the rewards", "such as perception_cells"),
    ],
)
def test_rewards_that_a_blend_cannot_use(blend: str, rewards: str, why: str, instead: str, plugins: Path) -> None:
    error = refused(f"blend={blend}", f"rewards=[{rewards.replace('MINE', str(plugins))}]")
    holds(error, "stages.reason.blend: {mode: " + yaml.safe_load(blend)["mode"], why, instead)
    assert ("alpha" in error.asked) == ("alpha" in blend)


# --- a blend and its stage's kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines", [("kind=ppo", "blend.mode=span"), ("kind=ppo", "blend.alpha=0.5"), ("kind=rloo", "blend.alpha=0.5")]
)
def test_blends_that_a_kind_has(lines: tuple[str, ...]) -> None:
    assert check(*lines).kind == lines[0].removeprefix("kind=")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("sum", "span")])
def test_ppo_has_no_group_to_blend_in(mode: str) -> None:
    asked = f"stages.reason.blend: {{mode: {mode}}} under kind: ppo"
    holds(
        refused("kind=ppo", f"blend.mode={mode}"), asked, "compares a response with its critic", "{mode: sum}, paid at the last"
    )


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "sum"])
def test_rloo_has_only_the_sum(mode: str) -> None:
    asked = f"stages.reason.blend: {{mode: {mode}}} under kind: rloo"
    holds(
        refused("kind=rloo", f"blend.mode={mode}"),
        asked,
        "one advantage for a whole response",
        "blend: {mode: sum}, or kind: grpo",
    )


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (("kind=ppo", "blend.resample=2"), "PPO needs no spread"),
        (("kind=rloo", "blend.resample=2"), "only GRPO's groups are drawn again"),
        (("kind=ppo", "blend={mode: sum, min_std: 0.1}"), "PPO would ignore it"),
        (("kind=ppo", "blend={mode: span, outcome_on: all}"), "PPO would ignore it"),
        (("kind=rloo", "blend.min_std=0.1"), "RLOO would ignore it"),
    ],
)
def test_options_that_only_grpo_reads(lines: tuple[str, str], why: str) -> None:
    error = refused(*lines)
    holds(error, f"under {lines[0].replace('=', ': ')}", why, "or kind: grpo")
    assert error.asked.startswith("stages.reason.blend: {")


# --- dynamic sampling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_groups_are_drawn_again_in_every_mode_of_grpo(mode: str) -> None:
    assert check(f"blend={{mode: {mode}, resample: 3}}").blend.resample == 3


TORN = ("blend.resample=2", "train.num_generations=8", "train.per_device_train_batch_size=4")


def test_a_group_that_processes_share_cannot_be_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    holds(
        refused(*TORN),
        "stages.reason.blend: {resample: 2}",
        "a process has 4 responses for each generation, which are not whole groups of 8",
        "train: {per_device_train_batch_size: 8}, or resample: 0",
    )
    check(*TORN, "blend.resample=0")
    check(*TORN, "train.per_device_train_batch_size=8")
    check(*TORN, "train.gradient_accumulation_steps=2")
    holds(
        refused(*TORN, "train.generation_batch_size=8"),
        "{resample: 2}",
        "has 4 responses",
        "generation_batch_size: a multiple of 8",
    )
    check(*TORN, "train.generation_batch_size=16")


AGAIN = Sum(resample=1)


@given(st.integers(1, 32), st.integers(2, 16), st.integers(1, 6))
def test_the_size_that_is_suggested_makes_whole_groups(per_device: int, group: int, steps: int) -> None:
    def try_size(size: int) -> None:
        train = {"per_device_train_batch_size": size, "num_generations": group, "gradient_accumulation_steps": steps}
        check_credit(Stage(name="s", kind="grpo", model=Model(name="m"), data=Data(world="digits"), blend=AGAIN, train=train), [])

    if per_device * steps % group == 0:
        return try_size(per_device)
    with pytest.raises(RecipeError) as caught:
        try_size(per_device)
    suggested = int(caught.value.instead.partition("size: ")[2].partition("}")[0])
    assert per_device < suggested <= per_device + group // math.gcd(group, steps)
    try_size(suggested)


# --- a blend and its trainer's options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("train.importance_sampling_level=sequence", "train.loss_type=grpo"),
        ("train.importance_sampling_level=sequence", "blend.mode=normalize_then_sum"),
        ("train.importance_sampling_level=sequence", "blend.mode=gate_prompt"),
        ("train.importance_sampling_level=token", "blend.mode=span"),
        ("train.importance_sampling_level=token", "kind=ppo"),
        ("train.scale_rewards=none", "blend.mode=gate_failed"),
        ("train.scale_rewards=batch", "blend.mode=span"),
        ("kind=ppo", "ppo.kl_in=reward", "train.beta=0.05"),
        ("kind=ppo", "ppo.kl_in=loss", "train.beta=0.0"),
    ],
    ids=" ".join,
)
def test_options_that_go_with_a_blend(lines: tuple[str, ...]) -> None:
    check(*lines)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("blend.mode=span", "blend: {mode: span} with importance_sampling_level: sequence"),
        ("blend.mode=gate_failed", "blend: {mode: gate_failed} with importance_sampling_level: sequence"),
        ("blend.mode=penalize_span", "blend: {mode: penalize_span} with importance_sampling_level: sequence"),
        ("kind=ppo", "kind: ppo with importance_sampling_level: sequence"),
    ],
)
def test_a_ratio_of_sequences_knows_no_tokens(line: str, asked: str) -> None:
    error = refused(line, "train.importance_sampling_level=sequence")
    holds(error, f"stages.reason: {asked}", "averages the credit of its tokens away", "leave out importance_sampling_level")


@pytest.mark.parametrize("line", ["blend.mode=span", "kind=ppo"])
@pytest.mark.parametrize(("option", "value"), [("off_policy_mask_threshold", 0.1), ("loss_type", "vespo")])
def test_what_takes_the_sign_of_a_response_knows_no_tokens(line: str, option: str, value: object) -> None:
    error = refused(line, f"train.{option}={value}")
    holds(error, f"with {option}: {value}", "sign of their advantage", f"leave out {option}")
    check(f"train.{option}={value}")  # with advantages of whole responses


@pytest.mark.parametrize(
    ("line", "why", "instead"),
    [
        ("blend.mode=normalize_then_sum", "normalize_then_sum has its own way to scale", "leave it out"),
        ("kind=ppo", "PPO has its own way to scale", "ppo: {whiten_advantages: …}"),
    ],
)
@pytest.mark.parametrize("scale", ["none", "group"])
def test_what_scales_in_its_own_way(line: str, why: str, instead: str, scale: str) -> None:
    holds(refused(line, f"train.scale_rewards={scale}"), f"stages.reason.train.scale_rewards: {scale}", why, instead)


@pytest.mark.parametrize("beta", [(), ("train.beta=0",), ("train.beta=0.0",)])
def test_a_kl_that_weighs_nothing_cannot_be_paid(beta: tuple[str, ...]) -> None:
    error = refused("kind=ppo", "ppo.kl_in=reward", *beta)
    holds(
        error, "stages.reason.ppo.kl_in: reward", "the KL's weight, beta, is not above 0", "train: {beta: 0.05}, or kl_in: loss"
    )


SKIPS = "rewards=[{use: answer_number, on_error: skip}]"


def test_a_failed_completion_needs_a_group_to_be_taken_out_of() -> None:
    holds(
        refused("kind=ppo", "train.num_generations=1", SKIPS),
        "stages.reason: on_error: skip for 'answer_number' with num_generations: 1",
        "there is no group that a failed completion could be taken out of",
        "on_error: stop, or num_generations: 2 or more",
    )
    check("kind=ppo", "train.num_generations=2", SKIPS)
    check("kind=ppo", "train.num_generations=1", SKIPS.replace("skip", "zero"))


@pytest.mark.parametrize("kind", ["grpo", "ppo", "rloo"])
@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("reward_weights=[1, 1]", "rewards: [{use: …, weight: …}]"),
        ("multi_objective_aggregation=normalize_then_sum", "blend: {mode: sum} or {mode: normalize_then_sum}"),
    ],
)
def test_weights_and_aggregation_are_said_in_the_recipe(kind: str, option: str, instead: str) -> None:
    error = refused(f"kind={kind}", f"train.{option}")
    holds(error, f"stages.reason.train.{option.partition('=')[0]}", "in one place only", instead)
