"""Claims that choose between runs, and claims about what rewards move with; with numbers worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import CLAIMS, GAIN, found_in, measured, moves, one, outcomes, summary, values

from rlperc.score.coupling import Coupling
from rlperc.score.roles import Roles
from rlperc.study.measured import surrogates

ZERO, UP = [0, 0, 0], [10, 11, 12]


# --- one of several ------------------------------------------------------------------------------------------------------


def test_of_several_runs_the_other_seeds_choose() -> None:
    """Gains of x: 30, 0, 0; of y: 5, 5, 5. The best of each seed itself would make 30, 5, 5.

    Without seed 0 x has 0 + 0 and y 5 + 5: y, which gains 5. Without seed 1 or 2 x has 30 and y 10: x, which gains 0.
    """
    claim = GAIN | {"of": ["x", "y"]}
    finding = one(claim, measured(plain=[10, 10, 10], x=[40, 10, 10], y=[15, 15, 15]), runs="plain x y")
    assert values(finding) == [5, 0, 0]
    assert found_in(finding).notes == ("seed by seed: y, x, x",)


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=9, max_size=9), st.integers(0, 2), st.integers(0, 100), st.booleans())
def test_what_a_seed_gains_itself_never_chooses_its_run(percents: list[int], seed: int, other: int, first: bool) -> None:
    def chosen() -> list[str]:
        done = measured(plain=percents[:3], x=percents[3:6], y=percents[6:])
        finding = one(GAIN | {"of": ["x", "y"]}, done, runs="plain x y")
        return found_in(finding).notes[0].removeprefix("seed by seed: ").split(", ")

    before = chosen()
    percents[(3 if first else 6) + seed] = other
    assert chosen()[seed] == before[seed]


def test_of_several_runs_all_have_to_be_done() -> None:
    claim = GAIN | {"of": ["x", "y"]}
    assert values(one(claim, measured(plain=ZERO, x=UP, y=[5, None, 7]), runs="plain x y")) == [10, 12]
    assert one(claim, measured(plain=ZERO, x=UP), runs="plain x y").verdict == "not measured"


def test_one_seed_cannot_choose_among_several_runs() -> None:
    claim, runs = GAIN | {"of": ["x", "y"]}, "plain x y"
    assert one(claim, measured(plain=[0], x=[3], y=[9]), runs=runs, seeds=1).verdict == "not measured"
    assert one(claim, measured(plain=ZERO, x=[3, 4, None], y=[9, None, 9]), runs=runs).verdict == "not measured"
    assert values(one(GAIN | {"of": ["x"]}, measured(plain=[0], x=[3]), runs=runs, seeds=1)) == [3]


def test_a_share_of_what_another_run_gains() -> None:
    """11 on average, of 22."""
    claim, runs = GAIN | {"share_of": "labels"}, "plain fixed labels"
    finding = one(claim, measured(plain=ZERO, fixed=UP, labels=[20, 22, 24]), runs=runs)
    assert found_in(finding).notes == ("50 % of what labels gains",)
    for labels in ([8, 9, 9], [-20, 9, 40]):  # a loss, and a mean gain of 0.7 that is chance
        found = found_in(one(claim, measured(plain=[9] * 3, fixed=UP, labels=labels), runs=runs))
        assert found.notes == ("labels itself gains nothing beyond chance",)


def test_a_share_is_of_what_the_same_seeds_gain() -> None:
    """Of the surrogate two seeds are done: 5 of 10 points, though the labels gain 60 with the other. One seed shows nothing."""
    claim, runs = GAIN | {"share_of": "labels"}, "plain fixed labels"
    finding = one(claim, measured(plain=ZERO, fixed=[5, 5, None], labels=[10, 10, 60]), runs=runs)
    assert found_in(finding).notes == ("50 % of what labels gains",)
    assert found_in(one(claim, measured(plain=ZERO, fixed=[5, None, None], labels=[10, 60, 60]), runs=runs)).notes == ()


# --- the surrogate that correlations favour ------------------------------------------------------------------------------

CHOICE = CLAIMS["choice"] | {"of": {"vote": "x", "blind": "y"}, "over": "plain", "asked": "probe"}
RUNS = "plain x y probe"


def asked(*couplings: dict[str, Any]) -> dict[Any, Any]:
    return {("one", "probe", seed): {**summary(), "coupling": found} for seed, found in enumerate(couplings)}


def test_the_reward_that_moves_most_with_perception_is_chosen_seed_by_seed() -> None:
    """Not the one that gains most, nor `other`, which moves more and has no run; -0.5 moves less than 0.1."""
    done = measured(plain=ZERO, x=[1, 2, 3], y=[10, 20, 30])
    done |= asked(moves(vote=0.3, blind=0.2, other=0.9), moves(vote=0.2, blind=0.3), moves(vote=0.1, blind=-0.5))
    finding = one(CHOICE, done, runs=RUNS)
    assert values(finding) == [1, 20, 3]
    assert found_in(finding).notes == ("seed by seed: x, y, x",)


def test_a_reward_that_never_varied_is_not_chosen_and_a_seed_without_any_is_left_out() -> None:
    done = measured(plain=ZERO, x=[1, 2, 3], y=[10, 20, 30])
    done |= asked(moves(vote=0.1, blind=None), moves(vote=None, blind=None), moves(vote=0.1, blind=0.2))
    assert values(one(CHOICE, done, runs=RUNS)) == [1, 30]


def test_where_no_reward_moves_with_perception_none_is_chosen_and_nothing_gained() -> None:
    done = measured(plain=[5, 5, 5], x=[1, 2, 3], y=[10, 20, 30])
    done |= asked(moves(vote=-0.1, blind=-0.2), moves(vote=0.2, blind=0.3), moves(vote=0.0, blind=None))
    finding = one(CHOICE, done, runs=RUNS)
    assert values(finding) == [0, 15, 0]
    assert found_in(finding).notes == ("seed by seed: plain, y, plain",)


def test_where_nobody_was_asked_nothing_is_chosen() -> None:
    done = measured(plain=ZERO, x=UP, y=UP)
    assert one(CHOICE, done, runs=RUNS).verdict == "not measured"
    blind = {"warm": {**moves(vote=0.3, blind=0.2)["warm"], "roles": {"perception": None}}}
    assert one(CHOICE, done | asked(blind, blind, blind), runs=RUNS).verdict == "not measured"


def test_what_moves_with_perception_is_read_from_a_real_coupling() -> None:
    """Two groups of four. Within both, `vote` is what was seen and `blind` its opposite; `flat` never varies."""
    seen = np.array([1.0, 1.0, 0.0, 0.0] * 2)
    coupling = Coupling(["outcome", "seen", "vote", "blind", "flat"], Roles(0, 1, None, (2, 3, 4), (1.0,) * 5))
    coupling.add(np.stack([seen, seen, 2 * seen, -seen, 0 * seen], axis=1), 4)
    found = surrogates({**summary(), "coupling": {"reason": coupling.report()}})
    assert found == {"outcome": pytest.approx(1), "vote": pytest.approx(1), "blind": pytest.approx(-1)}


# --- couplings and gaps --------------------------------------------------------------------------------------------------

COUPLING = CLAIMS["coupling"] | {"run": "plain", "stage": "warm"}


def trained(*couplings: dict[str, Any]) -> dict[Any, Any]:
    return {("one", "plain", seed): {**summary(a=0.5), "coupling": found} for seed, found in enumerate(couplings)}


def test_a_coupling_is_a_difference_of_correlations_beside_what_independence_gives() -> None:
    """.8 - .3, .7 - .3, .75 - .25: .5, .4, .5, on average .466667, sd .057735, half width .143422."""
    done = trained(outcomes(0.8, 0.3, (0.6, 0.4)), outcomes(0.7, 0.3, (0.5, 0.4)), outcomes(0.75, 0.25, (0.4, None)))
    finding = one(COUPLING, done)
    assert values(finding) == [0.5, 0.4, 0.5]
    spread = found_in(finding).spread
    assert spread is not None
    assert spread.interval == pytest.approx((0.323245, 0.610088), abs=1e-5)
    assert finding.verdict == "reproduced"
    assert found_in(finding).notes == (
        "with reasoning +0.75, with perception +0.28",
        "independence alone: +0.50 and +0.40",
    )


def test_an_outcome_that_moves_with_perception_speaks_against_it() -> None:
    assert one(COUPLING, trained(*[outcomes(0.2, 0.7)] * 3)).verdict == "not reproduced"


def test_a_coupling_that_was_not_measured_is_left_out() -> None:
    done = trained(outcomes(0.8, 0.3, (None, None)), outcomes(None, 0.3), outcomes(0.8, None))
    finding = one(COUPLING, done)
    assert values(finding) == [0.5]
    assert found_in(finding).notes[1] == "independence alone: – and –"
    assert one(COUPLING, trained({}, moves())).verdict == "not measured"  # no RL stage, and no reward that credits reasoning
    other = {"see": outcomes(0.8, 0.3)["warm"]}
    assert one(COUPLING, trained(other)).verdict == "not measured"  # another stage's


def test_a_gap_is_what_reasoning_gains_less_what_perception_gains() -> None:
    """a_r: +20, +22, +24; a_p: +1, +2, +3: 19, 20, 21. Seed 3 has no a_p."""
    start = {"a_r": [30, 30, 30, 30], "a_p": [50, 50, 50, None]}
    after = {"a_r": [50, 52, 54, 90], "a_p": [51, 52, 53, 60]}
    finding = one(CLAIMS["gap"] | {"of": "fixed", "over": "plain"}, measured(plain=start, fixed=after), seeds=4)
    assert values(finding) == [19, 20, 21]
    assert found_in(finding).notes == ("a_r +22.0, a_p +2.0",)
    assert finding.verdict == "reproduced"
