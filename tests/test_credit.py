"""Blends bound to a recipe: weights and alpha on schedules, every mode with its settings."""

import math
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from tensors import doubles, same

from rlperc.recipe.credit import MODES, GateFailed, GatePrompt, NormalizeThenSum, PenalizeSpan, Spans, Sum
from rlperc.recipe.part import Scheduled, is_never, value_at
from rlperc.train.blend import (
    Channel,
    Scale,
    by_span,
    gate_failed,
    gate_prompt,
    normalize_then_sum,
    sum_then_normalize,
)
from rlperc.train.credit import Credit

NAN = math.nan
SCALES: tuple[Scale, ...] = get_args(Scale)


# --- bound to a recipe ---------------------------------------------------------------------------------------------------

TWO = [Channel("outcome"), Channel("perception")]


def test_weights_follow_their_schedules_and_alpha() -> None:
    channels = [Channel("perception"), Channel("outcome"), Channel("format"), Channel("reasoning"), Channel("perception")]
    weights: list[Scheduled] = [2.0, {0.0: 1.0, 1.0: 3.0}, 0.125, 1.0, 0.0]
    # A quarter through, alpha is 1 - 0.8 / 2 = 0.6 and the outcome weighs 1.5: 0.6 * 2, 0.4 * 1.5, and the rest as they are.
    credit = Credit(Sum(alpha={0.0: 1.0, 0.5: 0.2}), channels, weights)
    assert credit.weights_at(0.25) == pytest.approx([1.2, 0.6, 0.125, 1, 0])
    assert credit.weights_at(0) == pytest.approx([2, 0, 0.125, 1, 0])
    assert credit.weights_at(1) == pytest.approx([0.4, 2.4, 0.125, 1, 0])
    assert replace(credit, blend=Sum()).weights_at(0.25) == pytest.approx([2, 1.5, 0.125, 1, 0])
    assert credit.active == [0, 1, 2, 3]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "blend",
    [
        Sum(min_std=0.5),
        NormalizeThenSum(mode="normalize_then_sum", min_std=0.5),
        Spans(mode="span", outcome_on="all"),
        GateFailed(mode="gate_failed", protect={0.0: 0.0, 1.0: 1.0}, punish=2.0, failed_below=0.25),
        GatePrompt(mode="gate_prompt", cap=0.25),
        PenalizeSpan(mode="penalize_span"),
    ],
    ids=list(MODES),
)
def test_a_blend_s_settings_reach_its_arithmetic_and_probes_do_not(blend: Any, scale: Scale) -> None:
    rewards = doubles([[0, 0.5], [1, 1], [0.5, 0], [NAN, NAN], [0, NAN], [0, 0.25]])
    present = torch.tensor([[True, one, True, True] for one in (True, False, True, True, True, False)])
    weights, least = doubles([1, 0.5]), blend.min_std
    read = (rewards, weights)
    expected = {
        "sum": lambda: sum_then_normalize(*read, 3, scale, least),
        "penalize_span": lambda: sum_then_normalize(*read, 3, scale, least),
        "normalize_then_sum": lambda: normalize_then_sum(*read, 3, least),
        "span": lambda: by_span(*read, TWO, present, 3, scale, least, "all"),
        "gate_failed": lambda: gate_failed(*read, TWO, 3, scale, least, protect=0.75, punish=2, failed_below=0.25),
        "gate_prompt": lambda: gate_prompt(*read, TWO, 3, scale, least, cap=0.25),
    }[blend.mode]()
    same(Credit(blend, TWO, weights.tolist()).advantages(rewards, present, 3, scale, 0.75), expected)
    # Probes have opinions where no other reward has one, and none where others have; they credit what the gates read.
    probe = doubles([NAN, NAN, 0.9, 0.8, 0.1, 0.7])[:, None]
    probed = torch.cat([probe, rewards[:, :1], -probe, rewards[:, 1:]], 1)
    channels = [Channel("perception"), TWO[0], Channel("outcome"), TWO[1]]
    scheduled: list[Scheduled] = [0.0, 1.0, {0.0: 0.0, 1.0: 0.0}, 0.5]
    credit = Credit(blend, channels, scheduled)
    assert torch.equal(credit.advantages(probed, present, 3, scale, 0.75), expected)


def test_a_blend_says_what_its_own_numbers_are_now() -> None:
    falling = {0.5: 1.0, 1.0: 0.0}
    blend = PenalizeSpan(mode="penalize_span", penalty=falling, alpha=0.25)
    knobs = [Credit(blend, [], []).knobs_at(at) for at in (0, 0.5, 0.75, 1)]
    assert knobs == [{"alpha": 0.25, "penalty": penalty} for penalty in (1, 1, 0.5, 0)]
    assert Credit(GateFailed(mode="gate_failed", punish=falling), [], []).knobs_at(0.75) == {"protect": 1.0, "punish": 0.5}
    assert Credit(Sum(), [], []).knobs_at(0) == {}


def test_a_group_is_silent_where_nothing_that_weighs_now_differs() -> None:
    channels = [Channel("perception"), Channel("outcome")]
    rewards = doubles([[0, 1], [1, 1], [0, 0], [0, 0]])
    credit = Credit(Sum(alpha={0.0: 1.0, 1.0: 0.0}), channels, [1.0, 1.0])
    assert credit.silent_groups(rewards, 2, 0.0).tolist() == [False, True]
    assert credit.silent_groups(rewards, 2, 1.0).tolist() == [True, True]  # the perception weighs nothing any more
    assert credit.silent_groups(rewards.flip(1), 2, 0.0).tolist() == [True, True]
    assert credit.silent_groups(doubles([[0, NAN], [0, 1]]), 2, 1.0).tolist() == [True]


# --- schedules -----------------------------------------------------------------------------------------------------------

SHARE = st.integers(0, 1000).map(lambda n: n / 1000)
SCHEDULE = st.dictionaries(SHARE, st.floats(-100, 100), min_size=1, max_size=6)
read_schedule = TypeAdapter(Scheduled).validate_python


@pytest.mark.parametrize(
    ("schedule", "at", "value"),
    [
        (0.7, 0.3, 0.7),
        ({0: 1.0, 0.5: 0.2}, 0, 1.0),
        ({0: 1.0, 0.5: 0.2}, 0.25, 0.6),  # half of the way from 1 to 0.2
        ({0: 1.0, 0.5: 0.2}, 0.9, 0.2),
        ({0.4: 2.0, 0.8: 4.0}, 0.1, 2.0),
        ({0.8: 4.0, 0.4: 2.0}, 0.5, 2.5),  # a quarter of the way, however it was written
        ({0.5: 3.0}, 0.0, 3.0),
        ({0.5: 3.0}, 1.0, 3.0),
        ({0.0: 0.0, 0.5: 1.0, 1.0: 0.0}, 0.75, 0.5),
    ],
)
def test_schedules_by_hand(schedule: Any, at: float, value: float) -> None:
    assert value_at(read_schedule(schedule), at) == pytest.approx(value)


@given(SCHEDULE, SHARE)
def test_schedules_hit_their_points_and_stay_between_them(points: dict[float, float], at: float) -> None:
    schedule = read_schedule(points)
    assert all(value_at(schedule, share) == pytest.approx(value) for share, value in points.items())
    before = [points[share] for share in sorted(points) if share <= at][-1:]
    after = [points[share] for share in sorted(points) if share >= at][:1]
    around = [*before, *after]
    assert min(around) - 1e-9 <= value_at(schedule, at) <= max(around) + 1e-9


@pytest.mark.parametrize(
    "wrong", [{}, {1.5: 1.0}, {-0.1: 1.0}, {0: NAN}, math.inf, True, {0: True}, "1", {"0": 1.0}, None, [1.0]]
)
def test_what_is_no_schedule(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        read_schedule(wrong)


def test_never_is_0_throughout() -> None:
    never: list[Scheduled] = [0, 0.0, -0.0, {0: 0.0}, {0: 0.0, 1: 0.0}]
    ever: list[Scheduled] = [1e-9, -1.0, {0: 0.0, 1: 0.1}, {0: 1.0, 1: -1.0}]
    assert all(map(is_never, never))
    assert not any(map(is_never, ever))
