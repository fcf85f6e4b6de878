import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlperc import reward
from rlperc.reward.contract import Reward, describe
from rlperc.score.coupling import Coupling
from rlperc.score.intervals import ClusteredMean, mean_interval, wilson
from rlperc.score.moments import Moments
from rlperc.score.roles import Roles
from rlperc.score.tally import Scored, Tally


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


def taken_in(groups: list[list[float]]) -> ClusteredMean:
    mean = ClusteredMean()
    for group in groups:
        mean.add(group)
    return mean


def test_the_variance_by_clusters_worked_by_hand() -> None:
    # Five values, mean 3/5. Residuals of the sums: 2 - 2*.6 = .8, 1 - 2*.6 = -.2, 0 - .6 = -.6; squares add up to 1.04.
    # var = 3/2 * 1.04 / 25 = .0624; by t of 2 degrees of freedom 4.30265 * sqrt(.0624) = 1.07480, which passes 0 and 1.
    values = taken_in([[1.0, 1.0], [0.0, 1.0], [], [0.0]])
    assert (values.clusters, values.count) == (3, 5)
    assert values.mean == pytest.approx(0.6)
    assert values.variance == pytest.approx(0.0624)
    assert mean_interval(values, 0.0, 1.0, clustered=True) == (0.0, 1.0)
    assert mean_interval(values, -2.0, 2.0, clustered=True) == pytest.approx((-0.47480, 1.67480), abs=1e-5)


def test_independent_values_in_other_ranges_have_students_interval() -> None:
    # 2, 4, 9: mean 5, s² = (9 + 1 + 16) / 2 = 13, 4.30265 * sqrt(13 / 3) = 8.95669
    values = taken_in([[2.0], [4.0], [9.0]])
    assert mean_interval(values, -9.0, 19.0, clustered=False) == pytest.approx((-3.95669, 13.95669), abs=1e-4)
    assert mean_interval(taken_in([[2.0]]), 0.0, 10.0, clustered=False) is None
    assert mean_interval(taken_in([]), 0.0, 1.0, clustered=False) is None


def test_fractions_that_never_vary_have_an_interval_all_the_same() -> None:
    values = taken_in([[1.0] * 8] * 20)
    assert mean_interval(values, 0.0, 1.0, clustered=True) == wilson(1.0, 20)
    assert mean_interval(taken_in([[1.0]] * 20), 0.0, 1.0, clustered=False) == wilson(1.0, 20)
    assert mean_interval(taken_in([[0.0, 1.0]] * 20), 0.0, 1.0, clustered=True) == wilson(0.5, 20)
    assert mean_interval(taken_in([[0.0, 1.0]]), 0.0, 1.0, clustered=True) == wilson(0.5, 1)


VALUES = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=6), min_size=2, max_size=12)


@given(VALUES, st.randoms(use_true_random=False), st.integers(2, 4))
def test_the_variance_by_clusters_is_that_of_the_residuals(groups: list[list[float]], random: object, times: int) -> None:
    flat = [value for group in groups for value in group]
    mean, count = np.mean(flat), len(flat)
    residuals = [sum(group) - mean * len(group) for group in groups]
    expected = len(groups) / (len(groups) - 1) * sum(r * r for r in residuals) / count**2
    values = taken_in(groups)
    assert values.mean == pytest.approx(mean, abs=1e-9)
    assert values.variance == pytest.approx(expected, abs=1e-9)
    random.shuffle(groups)  # type: ignore[attr-defined]
    assert taken_in(groups).variance == pytest.approx(expected, abs=1e-9)
    # Saying everything several times within a group says nothing new.
    repeated = taken_in([group * times for group in groups])
    assert (repeated.mean, repeated.variance) == pytest.approx((mean, expected), abs=1e-9)


@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=30))
def test_clusters_of_one_are_independent_values(flat: list[float]) -> None:
    assert taken_in([[value] for value in flat]).variance == pytest.approx(np.var(flat, ddof=1) / len(flat), abs=1e-9)


def test_large_values_that_are_alike_keep_their_digits() -> None:
    assert taken_in([[1e9 + value] for value in (2.0, 4.0, 9.0)]).variance == pytest.approx(13 / 3)
    too_large = taken_in([[-1.7e308, 1.7e308], [1.7e308, 1.7e308]])
    assert mean_interval(too_large, -np.inf, np.inf, clustered=True) is None


@reward()
def graded(completion: object) -> float:
    return 0.0


GRADED: Reward = describe(graded, "here")


def test_a_tally_worked_by_hand() -> None:
    tally = Tally(GRADED)
    scores = [1.0, 0.5, 0.5, 0.5, None, 0.25, None, None]
    statuses = ["value", "value", "value", "value", "skip", "value", "error", "timeout"]
    whys = ["", "half", "half", "half", "not ours", "little", "it raised", "too long"]
    groups = [range(0, 2), range(2, 4), range(4, 6), range(6, 8)]
    tally.add(Scored(scores, whys, statuses), groups, [f"line {i}" for i in range(8)])
    found = tally.summary(grouped=True)
    assert found.mean == pytest.approx(2.75 / 5)
    assert (found.values, found.skips, found.errors, found.timeouts) == (5, 1, 1, 1)
    # Of the four groups, two have two scores, and one of these twice the same.
    assert (found.zero_spread, found.compared_groups) == (1, 2)
    assert found.reasons[0] == ("half", 3)
    assert found.first_fault == "line 6: it raised"


def test_reasons_are_counted_in_bounded_memory() -> None:
    tally = Tally(GRADED)
    for start in range(0, 3000, 100):
        whys = ["often", *(f"{i} instead of 4" + "!" * 1000 for i in range(start, start + 100)), ""]
        tally.add(Scored([0.0] * 102, whys, ["value"] * 102), None, ["line"] * 102)
    found = tally.summary(grouped=False)
    assert found.reasons[0] == ("often", 30)
    assert len(found.reasons) == 20
    assert found.other_reasons == 3000 - 999
    assert max(len(text) for text, _ in found.reasons) == 200
    assert found.zero_spread is None


def moved(rewards: np.ndarray, group_size: int) -> np.ndarray:
    """Correlations of some rewards within groups."""
    moments = Moments("abc"[: rewards.shape[1]], Roles())
    moments.add(rewards, group_size)
    return moments.matrix()


def test_coupling_worked_by_hand() -> None:
    # Two groups of two. Within groups, the second reward moves with the first, and the third against it in one group.
    rewards = np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 0.0], [10.0, 5.0, 0.0], [11.0, 7.0, 0.0]])
    coupling = Coupling(["a", "b", "c"])
    matrix = coupling.add(rewards, group_size=2).matrix()
    # centred: a = ±.5 ±.5, b = ±1 ±1, c = ∓.5 and 0: r(a,c) = -.5 / sqrt(1 * .5)
    assert matrix[0, 1] == pytest.approx(1.0)
    assert matrix[0, 2] == pytest.approx(-np.sqrt(0.5))
    assert coupling.total.matrix() == pytest.approx(matrix)


def test_how_hard_a_prompt_is_does_not_count() -> None:
    hard_and_easy = np.array([[0.0, 0.1], [0.0, 0.2], [1.0, 0.8], [1.0, 0.9]])
    assert np.isnan(moved(hard_and_easy, 2)[0, 1])


def test_a_skipped_row_takes_no_part() -> None:
    with_skip = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, np.nan]])
    assert moved(with_skip, 3)[0, 1] == pytest.approx(1.0)


FLOATS = st.floats(-10, 10, width=32)


@given(arrays(np.float64, (12, 3), elements=FLOATS))
def test_coupling_is_numpys_correlation_of_what_differs_within_groups(rewards: np.ndarray) -> None:
    groups = rewards.reshape(-1, 4, 3)
    centred = (groups - groups.mean(1, keepdims=True)).reshape(-1, 3)
    matrix = moved(rewards, 4)
    for i in range(3):
        for j in range(3):
            scale = np.sqrt((centred[:, i] ** 2).sum() * (centred[:, j] ** 2).sum())
            if scale > 1e-6:
                assert matrix[i, j] == pytest.approx((centred[:, i] * centred[:, j]).sum() / scale, abs=1e-6)
                assert -1 - 1e-9 <= matrix[i, j] <= 1 + 1e-9
