"""PPO's arithmetic against its definitions, written out in plain loops."""

import math
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlperc.train.gae import gae, moments, pay_at, value_losses, whiten

EIGHTHS = st.integers(-16, 16).map(lambda n: n / 8)
SHARES = st.sampled_from([0.0, 0.3, 0.95, 1.0])
quick = settings(deadline=None, max_examples=60)


def doubles(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def same(found: Tensor, expected: Any, within: float = 1e-9) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=within, rtol=0)


@st.composite
def responses(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values, and a mask of ragged lengths, empty ones too; what lies behind an end is anything."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    grid = st.lists(st.lists(EIGHTHS, min_size=width, max_size=width), min_size=rows, max_size=rows).map(doubles)
    lengths = torch.tensor(draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows)))
    return draw(grid), draw(grid), (torch.arange(width) < lengths[:, None]).long()


def defined(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> list[list[float]]:
    """A_t = sum over l of (gamma lam)^l delta_(t+l), with delta_t = r_t + gamma V_(t+1) - V_t and V = 0 behind the end."""
    advantages = []
    for row, length in enumerate(mask.sum(1).tolist()):
        r, v = rewards[row, :length].tolist(), [*values[row, :length].tolist(), 0.0]
        delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
        found = [sum((gamma * lam) ** step * delta[t + step] for step in range(length - t)) for t in range(length)]
        advantages.append(found + [0.0] * (mask.size(1) - length))
    return advantages


def test_gae_by_hand() -> None:
    # gamma = lam = 1/2: deltas 0 + 1/2 * 2 - 1 = 0, 0 + 1/2 * 4 - 2 = 0, 1 - 4 = -3; each passes on a quarter.
    rewards, values, mask = doubles([[0, 0, 1, 9]]), doubles([[1, 2, 4, 9]]), torch.tensor([[1, 1, 1, 0]])
    advantages, returns = gae(rewards, values, mask, 0.5, 0.5)
    same(advantages, [[-3 / 16, -3 / 4, -3, 0]])
    same(returns, [[13 / 16, 5 / 4, 1, 0]])


@quick
@given(responses(), SHARES, SHARES)
def test_gae_is_its_definition(batch: tuple[Tensor, Tensor, Tensor], gamma: float, lam: float) -> None:
    rewards, values, mask = batch
    expected = doubles(defined(*batch, gamma, lam))
    advantages, returns = gae(*batch, gamma, lam)
    same(advantages, expected)
    same(returns, (expected + values) * mask)
    single, _ = gae(rewards.float() / 16, values.float() / 16, mask, gamma, lam)
    same(single.double(), expected / 16, 1e-6)


@quick
@given(responses(), SHARES)
def test_the_ends_of_lambda(batch: tuple[Tensor, Tensor, Tensor], gamma: float) -> None:
    rewards, values, mask = batch
    inside = rewards * mask
    # gamma = lam = 1: what is still to come, less the value. Its returns do not know the values at all.
    to_come = [[sum(row[t:]) for t in range(len(row))] for row in inside.tolist()]
    advantages, returns = gae(*batch, 1.0, 1.0)
    same(advantages, (doubles(to_come) - values) * mask)
    same(returns, doubles(to_come) * mask)
    # lam = 0: one step's surprise.
    for row, (r, v, m) in enumerate(zip(rewards.tolist(), values.tolist(), mask.tolist(), strict=True)):
        after = [v[t + 1] if t + 1 < len(v) and m[t + 1] else 0.0 for t in range(len(v))]
        expected = [(r[t] + gamma * after[t] - v[t]) * m[t] for t in range(len(v))]
        same(gae(*batch, gamma, 0.0)[0][row], expected)


@quick
@given(responses(), responses(), SHARES, SHARES, st.integers(0, 3))
def test_padding_never_matters(
    batch: tuple[Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor], gamma: float, lam: float, more: int
) -> None:
    rewards, values, mask = batch
    noise = torch.full_like(rewards, float(other[0].sum()) + 1000)
    padded = [torch.cat([torch.where(mask.bool(), one, noise), noise[:, :1].expand(-1, more)], 1) for one in (rewards, values)]
    wider = torch.cat([mask, mask.new_zeros(len(mask), more)], 1)
    for found, expected in zip(gae(padded[0], padded[1], wider, gamma, lam), gae(*batch, gamma, lam), strict=True):
        same(found[:, : mask.size(1)], expected)
        assert not found[:, mask.size(1) :].any()
        assert not found[wider == 0].any()
    same(moments(padded[0], wider), moments(rewards, mask))
    # Nor does a neighbour's row.
    for row in range(len(mask)):
        alone = gae(rewards[row : row + 1], values[row : row + 1], mask[row : row + 1], gamma, lam)[0]
        same(alone[0], gae(*batch, gamma, lam)[0][row])


def test_whitening_by_hand() -> None:
    # 1, 3, 5 and 7: mean 4, squares 9 + 1 + 1 + 9 = 20, deviation sqrt(20 / 4).
    values, mask = doubles([[1, 3, 99], [5, 7, 99]]), torch.tensor([[1, 1, 0], [1, 1, 0]])
    totals = moments(values, mask)
    assert totals.tolist() == [4, 16, 84]
    same(whiten(values, mask, totals), [[n / math.sqrt(5) for n in (-3, -1, 0)], [n / math.sqrt(5) for n in (1, 3, 0)]], 1e-7)


@quick
@given(responses(), responses())
def test_two_processes_whiten_as_one(left: tuple[Tensor, Tensor, Tensor], right: tuple[Tensor, Tensor, Tensor]) -> None:
    totals = moments(left[0], left[2]) + moments(right[0], right[2])
    everyone = [*left[0][left[2].bool()].tolist(), *right[0][right[2].bool()].tolist()]
    mean = statistics.mean(everyone) if everyone else 0.0
    spread = statistics.pstdev(everyone) if everyone else 0.0
    for values, _, mask in (left, right):
        found = whiten(values, mask, totals)
        expected = [(one - mean) / (spread + 1e-8) if spread else 0.0 for one in values.flatten().tolist()]
        same(found, doubles(expected).view_as(values) * mask, 1e-6)
        assert not found[mask == 0].any()


def test_moments_stay_exact_in_half_precision() -> None:
    # 2049 has no place in float16, whose next numbers there are 2048 and 2050.
    ones = torch.ones(1, 2049, dtype=torch.float16)
    assert moments(ones, torch.ones(1, 2049, dtype=torch.long)).tolist() == [2049, 2049, 2049]


def test_pay_by_hand() -> None:
    rewards, places = doubles([[1, 2, 4], [8, 16, 32]]), torch.tensor([[0, 2, 2], [1, 1, 1]])
    assert pay_at(rewards, places, 3).tolist() == [[1, 0, 6], [0, 56, 0]]


@quick
@given(st.data())
def test_pay_is_its_definition(data: st.DataObject) -> None:
    rows, count, width = (data.draw(st.integers(1, 4)) for _ in range(3))
    size = rows * count
    rewards = doubles(data.draw(st.lists(EIGHTHS, min_size=size, max_size=size))).view(rows, count)
    places = torch.tensor(data.draw(st.lists(st.integers(0, width - 1), min_size=size, max_size=size))).view(rows, count)
    expected = [[0.0] * width for _ in range(rows)]
    for row in range(rows):
        for k in range(count):
            expected[row][places[row, k]] += float(rewards[row, k])
    same(pay_at(rewards, places, width), expected)


@pytest.mark.parametrize(
    ("value", "target", "loss", "gradient", "clipped"),
    [
        # The old value is 1/2, and 1/4 to either side of it the value is followed.
        (0.625, 1.5, 0.3828125, -0.875, False),  # within: half of 7/8 squared
        (0.75, 1.5, 0.28125, -0.75, False),  # at the edge itself: half of 3/4 squared
        (1.25, 1.5, 0.28125, 0.0, True),  # beyond, towards the return: that of 3/4, which is held
        (1.25, 1.125, 0.0703125, 0.0, True),  # past the return, yet nearer than the edge: half of 3/8 squared, held
        (1.25, 0.875, 0.0703125, 0.375, False),  # past the return and farther than the edge: its own 3/8
        (1.25, 1.0, 0.03125, 0.125, False),  # as far as the edge: half of the gradient of 1/4
        (1.25, -0.5, 1.53125, 1.75, False),  # beyond, away from the return: its own 7/4
        (-0.25, -0.5, 0.28125, 0.0, True),  # beyond, downwards: the edge is 1/4, and 3/4 off
    ],
)
def test_the_value_loss_by_hand(value: float, target: float, loss: float, gradient: float, clipped: bool) -> None:
    values = doubles([[value]]).requires_grad_()
    losses, held = value_losses(values, doubles([[0.5]]), doubles([[target]]), 0.25)
    losses.sum().backward()
    assert (losses.item(), values.grad.item(), held.item()) == (loss, gradient, clipped)


@quick
@given(EIGHTHS, EIGHTHS, EIGHTHS, st.integers(1, 8).map(lambda n: n / 8))
def test_when_a_value_gets_no_gradient(value: float, old: float, target: float, reach: float) -> None:
    """It is right, or it has left the reach of the old value and is nearer the return than the edge it left at."""
    values = doubles([[value]]).requires_grad_()
    losses, clipped = value_losses(values, doubles([[old]]), doubles([[target]]), reach)
    losses.sum().backward()
    edge = min(max(value, old - reach), old + reach)
    assert losses.item() == max((value - target) ** 2, (edge - target) ** 2) / 2
    held = abs(value - old) > reach and abs(value - target) < abs(edge - target)
    assert clipped.item() == held
    assert (values.grad.item() == 0) == (held or value == target)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_within_reach_counts_as_clipped(dtype: torch.dtype) -> None:
    dice = torch.Generator().manual_seed(0)
    values, old, returns = 0.1 * torch.randn(3, 50, 20, dtype=dtype, generator=dice)
    _, clipped = value_losses(values, old, returns, 0.2)
    assert not clipped[(values - old).abs() < 0.199].any()
