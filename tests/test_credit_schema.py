"""What a recipe may say of who gets the credit: blends, schedules, PPO's options; what a stage inherits of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch import QUICKSTART

from rlperc.errors import RecipeError
from rlperc.recipe.check import check_recipe
from rlperc.recipe.credit import MODES, GateFailed, Ppo, Spans, Sum
from rlperc.recipe.load import dump_recipe, load_recipe
from rlperc.recipe.schema import Recipe, Stage


def load(*overrides: str) -> Stage:
    """The quickstart's RL stage."""
    return load_recipe(QUICKSTART, *overrides).stages[-1]


def reason(*lines: str) -> list[str]:
    """Lines of the stage `reason`, as overrides."""
    return [f"stages.reason.{line}" for line in lines]


def refused(*overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load(*overrides)
    return caught.value


def holds(error: RecipeError, asked: str, why: str, instead: str) -> None:
    assert asked in error.asked
    assert why in error.why
    assert instead in error.instead


# --- what a blend may say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_goes_with_the_quickstarts_rewards(mode: str) -> None:
    recipe = load_recipe(QUICKSTART, f"blend={{mode: {mode}}}")
    assert [stage.blend for stage in recipe.stages] == [MODES[mode](mode=mode)] * 3
    check_recipe(recipe)


def test_a_blend_without_a_mode_is_the_sum() -> None:
    assert load().blend == load("stages.reason.blend={}").blend == Sum()


@pytest.mark.parametrize(
    ("blend", "asked", "why", "instead"),
    [
        ("{mode: spam}", "blend", "no mode 'spam'", "did you mean 'span'"),
        ("{mode: quux}", "blend", "no mode 'quux'", "gate_failed, gate_prompt, normalize_then_sum, penalize_span, span, sum"),
        ("{mode: [span]}", "blend", "no mode '['span']'", "span"),
        ("{mode: null}", "blend", "no mode 'None'", "span"),
        ("span", "blend: span", "written with its keys", "{mode: …}, with one of sum,"),
        ("[span]", "blend", "written with its keys", "{mode: …}"),
        ("{alpa: 1}", "the key 'alpa' in 'stages.reason.blend'", "none of that name", "did you mean 'alpha'"),
        ("{mode: span, outcome: all}", "'outcome' in 'stages.reason.blend'", "none of that name", "did you mean 'outcome_on'"),
        ("{mode: span, outcome_on: some}", "blend.outcome_on: some", "'rest' or 'all'", "'rest' or 'all'"),
        ("{mode: gate_failed, protct: 1}", "'protct'", "none of that name", "did you mean 'protect'"),
        ("{mode: gate_failed, failed_below: 0}", "blend.failed_below: 0", "greater than 0", "more than 0"),
        ("{mode: gate_prompt, kap: 1}", "'kap'", "none of that name", "did you mean 'cap'"),
        ("{mode: gate_prompt, cap: 1.5}", "blend.cap: 1.5", "less than or equal to 1", "at most 1"),
        ("{mode: penalize_span, penlty: 1}", "'penlty'", "none of that name", "did you mean 'penalty'"),
        ("{mode: normalize_then_sum, minstd: 1}", "'minstd'", "none of that name", "did you mean 'min_std'"),
        ("{outcome_on: all}", "'outcome_on'", "none of that name", "alpha, min_std, mode, resample"),
        ("{min_std: -0.1}", "blend.min_std: -0.1", "greater than or equal to 0", "at least 0"),
        ("{resample: -1}", "blend.resample: -1", "greater than or equal to 0", "at least 0"),
    ],
)
def test_what_no_blend_can_say(blend: str, asked: str, why: str, instead: str) -> None:
    holds(refused(f"stages.reason.blend={blend}"), asked, why, instead)


# --- numbers on schedules ------------------------------------------------------------------------------------------------

SCHEDULED = ("blend.alpha", "rewards", "blend.protect", "blend.penalty")


def scheduled(key: str, value: str) -> list[str]:
    """Overrides that give a number of the stage `reason` a value."""
    if key == "rewards":
        return reason(f"rewards=[{{use: answer_number}}, {{use: perception_cells, weight: {value}}}]")
    mode = {"blend.protect": "gate_failed", "blend.penalty": "penalize_span"}.get(key, "sum")
    return reason(f"blend.mode={mode}", f"{key}={value}")


@pytest.mark.parametrize("value", ["0", "0.5", "1", "{0: 1.0}", "{0: 1.0, 0.5: 0.1}", "{0.2: 0, 1: 1}", "{1: 0.5, 0: 1e-3}"])
@pytest.mark.parametrize("key", SCHEDULED)
def test_numbers_may_follow_a_schedule(key: str, value: str) -> None:
    check_recipe(load_recipe(QUICKSTART, *scheduled(key, value)))


@pytest.mark.parametrize(
    ("value", "why", "instead"),
    [
        ("{}", "a number, or numbers at shares of the training", "0.5, or {0: 1.0, 0.5: 0.2}"),
        ("{a: 1}", "a number, or numbers at shares", "{0: 1.0, 0.5: 0.2}"),
        ("{0: high}", "a number, or numbers at shares", "{0: 1.0, 0.5: 0.2}"),
        ("{0: true}", "a number, or numbers at shares", "{0: 1.0, 0.5: 0.2}"),
        ("{true: 0}", "a number, or numbers at shares", "{0: 1.0, 0.5: 0.2}"),
        ("{0: .inf}", "a number, or numbers at shares", "{0: 1.0, 0.5: 0.2}"),
        ("{0: {1: 2}}", "a number, or numbers at shares", "{0: 1.0, 0.5: 0.2}"),
        (".nan", "a number, or numbers at shares", "0.5, or"),
        ("high", "a number, or numbers at shares", "0.5, or"),
        ("'0.5'", "a number, or numbers at shares", "0.5, or"),
        ("[1]", "a number, or numbers at shares", "0.5, or"),
        ("{50: 1}", "keys are shares of the training, from 0 (its start) to 1 (its end)", "{0: 1.0, 0.5: 0.2}"),
        ("{-0.1: 1}", "keys are shares of the training", "{0: 1.0, 0.5: 0.2}"),
    ],
)
@pytest.mark.parametrize("key", SCHEDULED)
def test_what_is_no_schedule(key: str, value: str, why: str, instead: str) -> None:
    holds(refused(*scheduled(key, value)), "rewards.perception_cells.weight" if key == "rewards" else key, why, instead)


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("blend.alpha", "2", "at least 0 and at most 1"),
        ("blend.alpha", "{0: 1, 1: -0.5}", "at least 0 and at most 1"),
        ("blend.protect", "-1", "at least 0"),
        ("blend.penalty", "{0: 1, 1: -1}", "at least 0"),
    ],
)
def test_shares_are_shares_and_strengths_are_not_negative(key: str, value: str, instead: str) -> None:
    error = refused(*scheduled(key, value))
    assert key in error.asked
    assert error.instead.endswith(instead)


def test_a_weight_may_be_negative() -> None:
    (use,) = [use for use in load(*scheduled("rewards", "-0.5")).rewards if use.use == "perception_cells"]
    assert use.weight == -0.5


def test_a_schedules_points_come_in_order() -> None:
    alpha = load("stages.reason.blend.alpha={1: 0.5, 0: 1, 0.25: 0}").blend.alpha
    assert isinstance(alpha, dict)
    assert list(alpha.items()) == [(0, 1), (0.25, 0), (1, 0.5)]


# --- dotted overrides, and what a stage inherits -------------------------------------------------------------------------


def test_overrides_reach_into_a_blend_that_is_not_there_yet() -> None:
    stage = load("stages.reason.blend.mode=span", "stages.reason.blend.alpha={0: 0.8, 1: 0.2}")
    assert stage.blend == Spans(mode="span", alpha={0: 0.8, 1: 0.2})
    assert load("stages.reason.kind=ppo", "stages.reason.ppo.lam=0.9").ppo == Ppo(lam=0.9)


def test_overrides_of_a_weight_reach_every_stage_that_inherits_it() -> None:
    recipe = load_recipe(QUICKSTART, "rewards.perception_cells.weight={0: 1.0, 0.5: 0.1}")
    weights = [{use.use: use.weight for use in stage.rewards}["perception_cells"] for stage in recipe.stages]
    assert weights == [{0: 1.0, 0.5: 0.1}] * 3


TOP = "blend={mode: gate_failed, protect: 0.5, alpha: {0: 1.0, 0.5: 0.2}}"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, GateFailed(mode="gate_failed", protect=0.5, alpha={0: 1.0, 0.5: 0.2})),
        ("{punish: 2}", GateFailed(mode="gate_failed", protect=0.5, punish=2, alpha={0: 1.0, 0.5: 0.2})),
        ("{mode: gate_failed, punish: 2}", GateFailed(mode="gate_failed", protect=0.5, punish=2, alpha={0: 1.0, 0.5: 0.2})),
        ("{alpha: {0: 0.3}}", GateFailed(mode="gate_failed", protect=0.5, alpha={0: 0.3})),
        ("{alpha: 0.3}", GateFailed(mode="gate_failed", protect=0.5, alpha=0.3)),
        ("{alpha: null}", GateFailed(mode="gate_failed", protect=0.5)),
        ("{protect: {0: 1, 1: 0}}", GateFailed(mode="gate_failed", protect={0: 1, 1: 0}, alpha={0: 1.0, 0.5: 0.2})),
        ("{mode: span}", Spans(mode="span")),
        ("{mode: span, alpha: 0.5}", Spans(mode="span", alpha=0.5)),
        ("{mode: sum}", Sum()),
    ],
)
def test_a_stages_blend_goes_over_the_recipes(own: str | None, expected: object) -> None:
    stage = load(TOP, *([] if own is None else [f"stages.reason.blend={own}"]))
    assert stage.blend == expected


def test_a_key_of_another_mode_is_not_inherited_but_refused_where_it_is_said() -> None:
    error = refused(TOP, "stages.reason.blend={mode: span, protect: 1}")
    holds(error, "the key 'protect' in 'stages.reason.blend'", "none of that name", "outcome_on")


def test_a_fault_in_the_recipes_blend_is_found() -> None:
    error = refused("blend={mode: span, outcome: all}")
    holds(error, "the key 'outcome' in", "none of that name", "did you mean 'outcome_on'")


SCHEDULES = {
    "sum": "alpha: {0: 1.0, 0.5: 0.25}",
    "normalize_then_sum": "alpha: 0.5, min_std: 0.01",
    "span": "outcome_on: all, alpha: {0.25: 0.75, 1: 0}",
    "gate_failed": "protect: {0: 2, 1: 0.5}, punish: 0.5, failed_below: 0.25",
    "gate_prompt": "cap: 0.75, resample: 2",
    "penalize_span": "penalty: {0: 0, 0.1: 1}",
}


def read_back(recipe: Recipe, folder: Path) -> Recipe:
    file = folder / "again.yaml"
    file.write_text(dump_recipe(recipe))
    return load_recipe(file)


@pytest.mark.parametrize("mode", MODES)
def test_a_resolved_blend_reads_back_as_itself(mode: str, tmp_path: Path) -> None:
    weight = "rewards.perception_cells.weight={0: 1.0, 0.5: 0.1}"
    recipe = load_recipe(QUICKSTART, f"blend={{mode: {mode}, {SCHEDULES[mode]}}}", weight)
    again = read_back(recipe, tmp_path)
    assert again == recipe
    assert isinstance(again.stages[-1].blend, MODES[mode])
    check_recipe(again)


@pytest.mark.parametrize("blend", ["{mode: sum, alpha: {0: 0.5}}", "{mode: span}"])
def test_a_resolved_ppo_reads_back_as_itself(blend: str, tmp_path: Path) -> None:
    options = "{gamma: 0.99, lam: 0.9, whiten_advantages: false, trunk: own, critic_learning_rate: 1e-5}"
    recipe = load_recipe(QUICKSTART, *reason("kind=ppo", f"ppo={options}", f"blend={blend}"))
    again = read_back(recipe, tmp_path)
    assert again == recipe
    assert again.stages[-1].ppo == Ppo(gamma=0.99, lam=0.9, whiten_advantages=False, trunk="own", critic_learning_rate=1e-5)
    assert [stage.ppo for stage in again.stages[:-1]] == [None, None]
    check_recipe(again)


# --- PPO's options -------------------------------------------------------------------------------------------------------


def test_a_ppo_stage_always_has_its_options() -> None:
    assert load(*reason("kind=ppo")).ppo == load(*reason("kind=ppo", "ppo={}")).ppo == Ppo()
    assert load(*reason("kind=ppo", "ppo={gamma: 0, lam: 1}")).ppo == Ppo(gamma=0, lam=1)


@pytest.mark.parametrize(
    ("kind", "option", "asked", "why", "instead"),
    [
        ("grpo", "{lam: 0.9}", "stages.reason", "belongs to a stage of kind: ppo, and this one is grpo", ""),
        ("rloo", "{}", "stages.reason", "belongs to a stage of kind: ppo, and this one is rloo", ""),
        ("ppo", "{gamma: 1.01}", "ppo.gamma: 1.01", "less than or equal to 1", "at most 1"),
        ("ppo", "{gamma: -0.5}", "ppo.gamma: -0.5", "greater than or equal to 0", "at least 0"),
        ("ppo", "{lam: 2}", "ppo.lam: 2", "less than or equal to 1", "at most 1"),
        ("ppo", "{lam: -1}", "ppo.lam: -1", "greater than or equal to 0", "at least 0"),
        ("ppo", "{cliprange_value: 0}", "ppo.cliprange_value: 0", "greater than 0", "more than 0"),
        ("ppo", "{kl_in: both}", "ppo.kl_in: both", "'loss' or 'reward'", "'loss' or 'reward'"),
        ("ppo", "{lamda: 0.9}", "the key 'lamda' in 'stages.reason.ppo'", "none of that name", "did you mean 'lam'"),
        ("ppo", "0.9", "ppo: 0.9", "dictionary", "keys and values"),
    ],
)
def test_what_no_ppo_can_say(kind: str, option: str, asked: str, why: str, instead: str) -> None:
    holds(refused(*reason(f"kind={kind}", f"ppo={option}")), asked, why, instead)
