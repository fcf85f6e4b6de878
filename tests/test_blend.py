"""From rewards to advantages: worked examples, TRL's own arithmetic, and what must hold whatever the rewards are."""

import ast
import functools
import inspect
import math
import statistics
import textwrap
from dataclasses import dataclass, replace
from types import CodeType, SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors import doubles, same
from torch import Tensor
from trl import GRPOTrainer

from rlperc.train.blend import (
    PERCEPTION,
    Channel,
    Scale,
    by_span,
    gate_failed,
    gate_prompt,
    normalize_then_sum,
    normalized,
    on_tokens,
    penalize_span,
    sum_then_normalize,
    without_spread,
)
from rlperc.train.tokens import REGIONS

NAN = math.nan
SCALES: tuple[Scale, ...] = get_args(Scale)
CHANNELS = [Channel("outcome", -2, 2), Channel("perception", -2, 2), Channel("reasoning"), Channel("format")]
EIGHTHS = st.integers(-16, 16).map(lambda n: n / 8)
quick = settings(deadline=None, max_examples=30)


@dataclass(frozen=True)
class Batch:
    rewards: Tensor
    weights: Tensor
    size: int
    present: Tensor

    @property
    def channels(self) -> list[Channel]:
        return CHANNELS[: self.rewards.size(1)]


@st.composite
def batches(draw: st.DrawFn, gaps: bool = True, flat: bool = False) -> Batch:
    """Eighths, so that sums are exact. With gaps: entries, rows, and rewards of whole groups without an opinion."""
    size, groups, count = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    rewards = torch.empty(groups, size, count, dtype=torch.float64)
    for group in range(groups):
        for k in range(count):
            kind = draw(st.sampled_from(["free", "flat", *(["none", "gaps"] if gaps else [])]))
            one = st.just(NAN) if kind == "none" else st.just(draw(EIGHTHS)) if flat or kind == "flat" else EIGHTHS
            entries = one | st.just(NAN) if kind == "gaps" else one
            rewards[group, :, k] = doubles(draw(st.lists(entries, min_size=size, max_size=size)))
    rewards = rewards.view(groups * size, count)
    if gaps:
        rewards[draw(st.lists(st.booleans(), min_size=len(rewards), max_size=len(rewards)).map(torch.tensor))] = NAN
    dice = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    present = torch.rand(len(rewards), len(REGIONS), generator=dice) > 0.3
    return Batch(rewards, doubles(draw(st.lists(EIGHTHS.filter(bool), min_size=count, max_size=count))), size, present)


def blended(mode: str, batch: Batch, scale: Scale = "group", min_std: float = 0.0) -> Tensor:
    read = (batch.rewards, batch.weights)
    rest: tuple[Any, ...] = (batch.size, scale, min_std)
    match mode:
        case "sum":
            return sum_then_normalize(*read, *rest)
        case "normalize_then_sum":
            return normalize_then_sum(*read, batch.size, min_std)
        case "span":
            return by_span(*read, batch.channels, batch.present, *rest)
        case "gate_failed":
            return gate_failed(*read, batch.channels, *rest)
    return gate_prompt(*read, batch.channels, *rest)


all_modes = pytest.mark.parametrize("mode", ["sum", "normalize_then_sum", "span", "gate_failed", "gate_prompt"])


# --- worked by hand ------------------------------------------------------------------------------------------------------


def test_the_sum_by_hand() -> None:
    # Weighed 1 and 1/2, the groups sum to 0, 1, 2 (mean 1, deviation sqrt((1 + 0 + 1) / 2) = 1) and 1, 3, 5 (3, and 2).
    rewards, weights = doubles([[0, 0], [1, 0], [1, 2], [1, 0], [1, 4], [1, 8]]), doubles([1, 0.5])
    same(sum_then_normalize(rewards, weights, 3), [-1 / 1.0001, 0, 1 / 1.0001, -2 / 2.0001, 0, 2 / 2.0001])
    same(sum_then_normalize(rewards, weights, 3, "none"), [-1, 0, 1, -2, 0, 2])
    # All six: mean 2, squares 4 + 1 + 0 + 1 + 1 + 9 = 16, deviation sqrt(16 / 5).
    batch = math.sqrt(3.2) + 1e-4
    same(sum_then_normalize(rewards, weights, 3, "batch"), [n / batch for n in (-1, 0, 1, -2, 0, 2)])
    # A floor of 1.5 lies above the first group's 1 and below the second's 2, and below sqrt(3.2) = 1.79.
    same(sum_then_normalize(rewards, weights, 3, "group", 1.5), [-1 / 1.5001, 0, 1 / 1.5001, -2 / 2.0001, 0, 2 / 2.0001])
    same(sum_then_normalize(rewards, weights, 3, "batch", 1.5), [n / batch for n in (-1, 0, 1, -2, 0, 2)])
    same(sum_then_normalize(rewards, weights, 3, "none", 1.5), [-1, 0, 1, -2, 0, 2])


def test_gaps_in_the_sum_by_hand() -> None:
    # First group: the third has no second reward and takes the mean of 2 and 4, so 0 + 2, 2 + 4, 1 + 3: mean 4, deviation 2.
    # Second: the first has none at all and is left out; 1 and 3 have mean 2 and deviation sqrt(2); no one has a second reward.
    rewards = doubles([[0, 2], [2, 4], [1, NAN], [NAN, NAN], [1, NAN], [3, NAN]])
    second = 1 / (math.sqrt(2) + 1e-4)
    same(sum_then_normalize(rewards, doubles([1, 1]), 3), [-2 / 2.0001, 2 / 2.0001, 0, 0, -second, second])


def test_normalize_then_sum_by_hand() -> None:
    # First reward: -1, 0, 1 over 1.0001, and 0 in the second group, which is flat. Second: -2, 0, 2 and -1, -, 1 about means
    # 2 and 2, over 2.0001 and sqrt(2) + 1e-4. Weighed 1 and 2; the mean of all is 0, the deviation has 6 - 1 under it.
    rewards = doubles([[0, 0], [1, 2], [2, 4], [1, 1], [1, NAN], [1, 3]])
    first, second = 1 / 1.0001 + 2 * 2 / 2.0001, 2 / (math.sqrt(2) + 1e-4)
    spread = math.sqrt(2 * (first**2 + second**2) / 5) + 1e-4
    expected = [-first / spread, 0, first / spread, -second / spread, 0, second / spread]
    same(normalize_then_sum(rewards, doubles([1, 2]), 3), expected)
    # A floor of 4 makes them 1 / 4.0001 + 2 * 2 / 4.0001 and 2 * 1 / 4.0001; the batch's deviation has no floor.
    first, second = 5 / 4.0001, 2 / 4.0001
    spread = math.sqrt(2 * (first**2 + second**2) / 5) + 1e-4
    expected = [-first / spread, 0, first / spread, -second / spread, 0, second / spread]
    same(normalize_then_sum(rewards, doubles([1, 2]), 3, 4.0), expected)


def test_spans_by_hand() -> None:
    # Perception 0, 2, 1 is -1, 1, 0 over 1.0001, weighed 1/2; outcome 4, 0, 2 is 2, -2, 0 over 2.0001.
    rewards, channels = doubles([[0, 4], [2, 0], [1, 2]]), [Channel("perception"), Channel("outcome")]
    present = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 0]]).bool()
    seen, solved = 0.5 / 1.0001, 2 / 2.0001
    everywhere = [seen - solved, seen, seen - solved, seen - solved]  # its perception is missing: credited everywhere
    expected = [[solved, -seen, solved, solved], everywhere, [0] * 4]
    same(by_span(rewards, doubles([0.5, 1]), channels, present, 3), expected)
    on_all = [[solved, solved - seen, solved, solved], [seen - solved] * 4, [0] * 4]
    same(by_span(rewards, doubles([0.5, 1]), channels, present, 3, outcome_on="all"), on_all)
    unscaled = [[2, -0.5, 2, 2], [-1.5, 0.5, -1.5, -1.5], [0] * 4]
    same(by_span(rewards, doubles([0.5, 1]), channels, present, 3, "none"), unscaled)


def test_the_gate_on_failures_by_hand() -> None:
    # Sums 2, 1, 0, 1/2 with mean 7/8. The last three failed: seen right, wrong, and half of each.
    # 1/8 + 1/2 * 1/8; -7/8 - 2 * 7/8; -3/8 + 3/8 * (1/2 * 1/2 - 2 * 1/2) = -3/8 - 9/32.
    rewards, channels = doubles([[1, 1], [0, 1], [0, 0], [0, 0.5]]), [Channel("outcome"), Channel("perception")]
    found = gate_failed(rewards, doubles([1, 1]), channels, 4, "none", protect=0.5, punish=2)
    same(found[:, PERCEPTION], [1.125, 0.1875, -2.625, -0.65625])
    same(found[:, 2], [1.125, 0.125, -0.875, -0.375])
    # Shares of a range from -1 to 1: outcomes 0.5, 0.5, 0.25 of it, perception 1, 0, 0. Only the third lies below a half.
    rewards, channels = doubles([[0, 1], [0, -1], [-0.5, -1]]), [Channel("outcome", -1), Channel("perception", -1)]
    # Sums 1, -1, -1.5 with mean -1/2: 3/2, -1/2, -1; the third loses another 1.
    same(gate_failed(rewards, doubles([1, 1]), channels, 3, "none")[:, PERCEPTION], [1.5, -0.5, -2])
    same(gate_failed(rewards, doubles([1, 1]), channels, 3, "none", failed_below=0.6)[:, PERCEPTION], [3, -1, -2])


def test_no_opinion_opens_no_gate() -> None:
    rewards, channels = doubles([[NAN, 0], [0, NAN], [0, 1], [1, 0]]), [Channel("outcome"), Channel("perception")]
    # Neither a response whose outcome is unknown nor one whose perception is unknown; both gaps are 1/3.
    # Sums 1/3, 1/3, 1, 1 with mean 2/3; the third failed and saw: 1/3 + 1/3.
    found = gate_failed(rewards, doubles([1, 1]), channels, 4, "none")
    same(found[:, PERCEPTION], [-1 / 3, -1 / 3, 2 / 3, 1 / 3])
    # The gate of a prompt is the mean of those known, 1/3; where none is, the cap. Outcomes -1/3, 2/3 about 1/3; -1, 1 about 1.
    rewards = doubles([[NAN, 0], [0, NAN], [0, 1], [1, 0], [0, NAN], [0, NAN], [2, NAN], [2, NAN]])
    expected = [0, -1 / 9, -1 / 9, 2 / 9, -0.4, -0.4, 0.4, 0.4]
    same(gate_prompt(rewards, doubles([1, 0]), channels, 4, "none", cap=0.4), expected)


def test_the_gate_on_prompts_by_hand() -> None:
    # Perception 0, 1, 1/2 has mean 1/2, capped at 0.4; the second group's 0, 1/4, 1/2 has mean 1/4. Outcomes are -1, 0, 1.
    rewards = doubles([[0, 0], [1, 1], [2, 0.5], [0, 0], [1, 0.25], [2, 0.5]])
    channels = [Channel("outcome", 0, 2), Channel("perception")]
    expected = [-0.4 - 0.05, 0.05, 0.4, -0.25 - 0.025, 0, 0.25 + 0.025]
    same(gate_prompt(rewards, doubles([1, 0.1]), channels, 3, "none", cap=0.4), expected)
    # Reasoning is gated too, format is not.
    channels = [Channel("reasoning"), Channel("perception"), Channel("format")]
    rewards = torch.cat([rewards, rewards[:, :1]], 1)
    expected = [-1.4, 0, 1.4, -1.25, 0, 1.25]
    same(gate_prompt(rewards, doubles([1, 0, 1]), channels, 3, "none", cap=0.4), expected)


def test_marked_tokens_by_hand() -> None:
    wrong = torch.tensor([[False, True], [True, False], [True, True]])
    same(penalize_span(doubles([2, -2, 0]), wrong), [[2, 0], [-4, -2], [0, 0]])
    same(penalize_span(doubles([2, -2, 0]), wrong, 0.5), [[2, 1], [-3, -2], [0, 0]])


def test_regions_on_tokens_and_groups_without_spread_by_hand() -> None:
    same(on_tokens(doubles([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([[1, 1, 3], [0, 2, 0]])), [[2, 2, 4], [5, 7, 5]])
    rewards = doubles([[1, NAN, 0, 1], [1, NAN, 1, NAN], [NAN, 2, 0, 1], [NAN, 2, 0, NAN]])
    assert without_spread(rewards, 2).tolist() == [[True, True, False, True], [True, True, True, True]]
    assert without_spread(rewards, 1).all()


@pytest.mark.parametrize("mode", ["sum", "normalize_then_sum"])
def test_a_reward_that_weighs_nothing_now_has_no_say(mode: str) -> None:
    alone = Batch(doubles([[1], [0], [NAN], [NAN], [0], [2], [1], [1]]), doubles([1]), 4, torch.ones(8, 4, dtype=torch.bool))
    beside = replace(alone, rewards=torch.cat([alone.rewards, doubles([[5], [4], [3], [2], [1], [0], [1], [2]])], dim=1))
    same(blended(mode, replace(beside, weights=doubles([1, 0]))), blended(mode, alone))
    same(blended(mode, replace(beside, weights=doubles([0, 0]))), [0.0] * 8)


# --- TRL -----------------------------------------------------------------------------------------------------------------


@functools.cache
def trl_lines() -> CodeType:
    """The statements of the installed TRL that turn rewards into advantages."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(GRPOTrainer._generate_and_score_completions))).body
    assert isinstance(function, ast.FunctionDef)
    written = [ast.unparse(statement) for statement in function.body]
    (first,) = [i for i, text in enumerate(written) if text.startswith("unscorable_mask =")]
    (branch,) = [i for i, text in enumerate(written) if text.startswith("if self.multi_objective_aggregation ==")]
    (last,) = [i for i, text in enumerate(written) if text.startswith("advantages = torch.nan_to_num(advantages")]
    assert first < branch < last
    return compile(ast.Module(function.body[first : last + 1], []), "trl", "exec")


def trl_advantages(rewards: Tensor, batch: Batch, aggregation: str, scale: str = "group") -> Tensor:
    funcs = range(rewards.size(1))
    trainer = SimpleNamespace(
        multi_objective_aggregation=aggregation, reward_weights=batch.weights, scale_rewards=scale, reward_funcs=funcs
    )
    names = {"self": trainer, "rewards_per_func": rewards, "num_generations": batch.size, "device": rewards.device}
    scope = {**vars(inspect.getmodule(GRPOTrainer)), **names}
    exec(trl_lines(), scope)
    return scope["advantages"]


@pytest.mark.parametrize("scale", SCALES)
@quick
@given(batch=batches())
def test_the_sum_is_trl_s_where_gaps_take_the_mean_of_their_group(scale: Scale, batch: Batch) -> None:
    groups = batch.rewards.view(-1, batch.size, batch.rewards.size(1))
    filled = torch.where(groups.isnan(), groups.nanmean(1, keepdim=True), groups).view_as(batch.rewards)
    filled[batch.rewards.isnan().all(1)] = NAN
    same(blended("sum", batch, scale), trl_advantages(filled, batch, "sum_then_normalize", scale), 1e-6)


@quick
@given(batches())
def test_normalize_then_sum_is_trl_s(batch: Batch) -> None:
    same(blended("normalize_then_sum", batch), trl_advantages(batch.rewards, batch, "normalize_then_sum"), 1e-6)


# --- whatever the rewards are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@quick
@given(batch=batches(), min_std=st.sampled_from([0.0, 0.05, 1.0]))
def test_who_has_no_opinion_is_as_if_not_in_the_group(scale: Scale, batch: Batch, min_std: float) -> None:
    """The definition in plain Python, over those that a reward has an opinion on."""
    found = normalized(batch.rewards, batch.size, scale, min_std)
    for k, column in enumerate(batch.rewards.T.tolist()):
        every = [one for one in column if not math.isnan(one)]
        for start in range(0, len(column), batch.size):
            group = [one for one in column[start : start + batch.size] if not math.isnan(one)]
            over = {"group": group, "batch": every, "none": []}[scale]
            spread = max(statistics.stdev(over) if len(over) > 1 else 0, min_std) + 1e-4 if scale != "none" else 1
            for i in range(start, start + batch.size):
                same(found[i, k], NAN if math.isnan(column[i]) else (column[i] - statistics.mean(group)) / spread)


@quick
@given(batches())
def test_a_gap_takes_no_side_in_any_sum(batch: Batch) -> None:
    sides = (normalized(batch.rewards, batch.size, "none", 0) * batch.weights).nansum(1)
    same(blended("sum", batch, "none"), sides)
    # About their mean of 0, so that dividing changes no sign and gives nothing to who has no opinion.
    scored = (normalized(batch.rewards, batch.size, "group", 0) * batch.weights).nansum(1)
    found = blended("normalize_then_sum", batch)
    assert (found * scored >= -1e-9).all()
    assert (found[scored == 0].abs() < 1e-9).all()


@all_modes
@quick
@given(batch=batches(), data=st.data())
def test_advantages_follow_the_order_of_a_group(mode: str, batch: Batch, data: st.DataObject) -> None:
    order = torch.tensor(data.draw(st.permutations(range(batch.size))))
    places = (torch.arange(0, len(batch.rewards), batch.size)[:, None] + order).flatten()
    moved = replace(batch, rewards=batch.rewards[places], present=batch.present[places])
    same(blended(mode, moved), blended(mode, batch)[places])


@pytest.mark.parametrize(
    ("mode", "scale"), [("sum", "group"), ("sum", "none"), ("normalize_then_sum", "group"), ("span", "group"), ("span", "none")]
)
@quick
@given(batch=batches(), data=st.data())
def test_a_constant_added_in_a_group_changes_nothing(mode: str, scale: Scale, batch: Batch, data: st.DataObject) -> None:
    shift = doubles(data.draw(st.lists(EIGHTHS, min_size=12, max_size=12)))
    groups = len(batch.rewards) // batch.size
    count = batch.rewards.size(1)
    added = shift[: groups * count].view(groups, 1, count).expand(-1, batch.size, -1).reshape(batch.rewards.shape)
    same(blended(mode, replace(batch, rewards=batch.rewards + added), scale), blended(mode, batch, scale))


@all_modes
@quick
@given(batch=batches(flat=True))
def test_groups_without_spread_get_exactly_nothing(mode: str, batch: Batch) -> None:
    assert without_spread(batch.rewards, batch.size).all()
    assert not blended(mode, batch).any()


@all_modes
def test_rounding_makes_no_spread(mode: str) -> None:
    # In float32, as TRL gathers them: seven times 0.7 and so on; all groups flat, as in a batch that is all solved.
    rewards = (torch.arange(1, 21) / 10).repeat_interleave(7)[:, None].repeat(1, 2)
    batch = Batch(rewards, torch.ones(2), 7, torch.ones(len(rewards), 4, dtype=torch.bool))
    assert not blended(mode, batch).any()


@pytest.mark.parametrize("scale", SCALES)
@quick
@given(batch=batches())
def test_perception_reaches_its_region_alone_or_all_of_a_response_without_one(scale: Scale, batch: Batch) -> None:
    batch = replace(batch, weights=batch.weights * doubles([0, 1, 0, 0])[: len(batch.weights)])
    found = blended("span", batch, scale)
    share = (normalized(batch.rewards, batch.size, scale, 0)[:, 1] * batch.weights[1]).nan_to_num(0)
    seen = batch.present[:, PERCEPTION]
    assert not found[seen][:, [i for i in range(len(REGIONS)) if i != PERCEPTION]].any()
    same(found[seen][:, PERCEPTION], share[seen])
    same(found[~seen], share[~seen, None].expand(-1, len(REGIONS)))


@pytest.mark.parametrize(
    ("credits", "reached"), [("outcome", "1011"), ("perception", "0100"), ("reasoning", "0010"), ("format", "1111")]
)
@pytest.mark.parametrize("present", ["1111", "1100", "1010", "0100", "0000"])
def test_whom_a_reward_reaches(credits: Any, reached: str, present: str) -> None:
    there = any(a == b == "1" for a, b in zip(reached, present, strict=True))
    expected = [float(c) for c in (reached if there else "1111")]
    have = torch.tensor([[c == "1" for c in present]] * 2)
    found = by_span(doubles([[1], [-1]]), doubles([1]), [Channel(credits)], have, 2, "none")
    same(found, [expected, [-one for one in expected]])


@pytest.mark.parametrize("scale", SCALES)
@quick
@given(batch=batches(), protect=st.sampled_from([0.0, 0.5, 2.0]), punish=st.sampled_from([0.0, 0.5, 2.0]))
def test_only_perception_of_failed_responses_moves(scale: Scale, batch: Batch, protect: float, punish: float) -> None:
    rest = (batch.channels, batch.size, scale, 0.0, protect, punish)
    shift = gate_failed(batch.rewards, batch.weights, *rest) - blended("sum", batch, scale)[:, None]
    outcome, seen = batch.rewards[:, 0], batch.rewards[:, 1]
    assert not shift[:, [i for i in range(len(REGIONS)) if i != PERCEPTION]].any()
    assert not shift[~((outcome < 0) & ~seen.isnan()), PERCEPTION].any()  # below the middle of -2 to 2
    assert (shift[(seen == 2), PERCEPTION] >= 0).all()
    assert (shift[(seen == -2), PERCEPTION] <= 0).all()
    limit = blended("sum", batch, scale).abs() * max(protect, punish)
    assert (shift[:, PERCEPTION].abs() <= limit + 1e-9).all()


@pytest.mark.parametrize("scale", SCALES)
@quick
@given(batch=batches(), cap=st.sampled_from([0.25, 0.5, 1.0]), level=st.integers(0, 8).map(lambda n: n / 8))
def test_a_prompt_s_gate_scales_outcome_and_reasoning(scale: Scale, batch: Batch, cap: float, level: float) -> None:
    batch.rewards[:, 1] = 4 * level - 2  # perceived alike, so that perception itself says nothing
    shares = (normalized(batch.rewards, batch.size, scale, 0) * batch.weights).nan_to_num(0)
    gated = shares[:, [k for k in (0, 2) if k < shares.size(1)]].sum(1)
    found = gate_prompt(batch.rewards, batch.weights, batch.channels, batch.size, scale, 0.0, cap)
    same(found, min(level, cap) * gated + shares[:, 3:].sum(1))


@quick
@given(st.lists(EIGHTHS, min_size=1, max_size=4), st.integers(0, 1000), st.sampled_from([0.0, 0.25, 1.0, 2.0]))
def test_marks_only_take(values: list[float], seed: int, penalty: float) -> None:
    wrong = torch.rand(len(values), 5, generator=torch.Generator().manual_seed(seed)) > 0.5
    found, before = penalize_span(doubles(values), wrong, penalty), doubles(values)[:, None].expand(-1, 5)
    assert (found[~wrong] == before[~wrong]).all()
    assert (found[wrong] == before[wrong] - penalty * before[wrong].abs()).all()
    if penalty == 1:
        assert (found[wrong] == torch.where(before > 0, 0, 2 * before)[wrong]).all()
