import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlperc.score.coupling import Coupling
from rlperc.score.intervals import wilson


def test_wilson_worked_by_hand() -> None:
    # 8 of 10: centre (.8 + 3.8415/20) / (1 + .38415) = .71674, half 1.96/1.38415 * sqrt(.016 + .0096036) = .22658
    assert wilson(0.8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-4)
    assert wilson(0.0, 20)[0] == 0.0
    assert wilson(1.0, 20)[1] == 1.0
    assert wilson(0.5, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000), st.data())
def test_wilson_holds_its_fraction_and_narrows(count: int, data: st.DataObject) -> None:
    fraction = data.draw(st.integers(0, count)) / count
    low, high = wilson(fraction, count)
    assert 0.0 <= low <= fraction + 1e-12
    assert fraction - 1e-12 <= high <= 1.0
    wide_low, wide_high = wilson(fraction, max(1, count // 4))
    assert high - low <= wide_high - wide_low + 1e-12


def test_coupling_worked_by_hand() -> None:
    # Two groups of two. Within groups, the second reward moves with the first, and the third against it in one group.
    rewards = np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 0.0], [10.0, 5.0, 0.0], [11.0, 7.0, 0.0]])
    coupling = Coupling(["a", "b", "c"])
    matrix = coupling.add(rewards, group_size=2)
    # centred: a = ±.5 ±.5, b = ±1 ±1, c = ∓.5 and 0: r(a,c) = -.5 / sqrt(1 * .5)
    assert matrix[0, 1] == pytest.approx(1.0)
    assert matrix[0, 2] == pytest.approx(-np.sqrt(0.5))
    assert coupling.matrix() == pytest.approx(matrix)


def test_how_hard_a_prompt_is_does_not_count() -> None:
    hard_and_easy = np.array([[0.0, 0.1], [0.0, 0.2], [1.0, 0.8], [1.0, 0.9]])
    assert np.isnan(Coupling(["a", "b"]).add(hard_and_easy, group_size=2)[0, 1])


def test_a_skipped_row_takes_no_part() -> None:
    with_skip = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, np.nan]])
    assert Coupling(["a", "b"]).add(with_skip, group_size=3)[0, 1] == pytest.approx(1.0)


FLOATS = st.floats(-10, 10, width=32)


@given(arrays(np.float64, (12, 3), elements=FLOATS))
def test_coupling_is_numpys_correlation_of_what_differs_within_groups(rewards: np.ndarray) -> None:
    groups = rewards.reshape(-1, 4, 3)
    centred = (groups - groups.mean(1, keepdims=True)).reshape(-1, 3)
    matrix = Coupling(["a", "b", "c"]).add(rewards, group_size=4)
    for i in range(3):
        for j in range(3):
            scale = np.sqrt((centred[:, i] ** 2).sum() * (centred[:, j] ** 2).sum())
            if scale > 1e-6:
                assert matrix[i, j] == pytest.approx((centred[:, i] * centred[:, j]).sum() / scale, abs=1e-6)
                assert -1 - 1e-9 <= matrix[i, j] <= 1 + 1e-9
