"""Claims against summaries, with numbers worked by hand. No training: summaries are written here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import GAIN, found_in, measured, one, study_of, values

from rlperc.study.findings import findings
from rlperc.study.measured import Spread, spread_of
from rlperc.study.plan import Study

ZERO = [0, 0, 0]
Values = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=1, max_size=6)


# --- numbers over seeds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "mean", "deviation", "half"),
    [
        # Deviations -1, 0, 1: 2 / (3 - 1) = 1. t(.975; 2) = 4.302653: 4.302653 * 1 / sqrt(3).
        ((1, 2, 3), 2, 1, 2.484138),
        # Deviations -1, 1: 2 / 1, sqrt(2). t(.975; 1) = 12.706205: 12.706205 * sqrt(2) / sqrt(2).
        ((4, 6), 5, 1.414214, 12.706205),
        # Deviations -2, 0, 0, 2: 8 / 3, sqrt(2.666667) = 1.632993. t(.975; 3) = 3.182446: 3.182446 * 1.632993 / 2.
        ((2, 4, 4, 6), 4, 1.632993, 2.598457),
        ((7, 7), 7, 0, 0),
    ],
)
def test_mean_deviation_and_students_interval(of: tuple[float, ...], mean: float, deviation: float, half: float) -> None:
    spread = Spread(of)
    assert (spread.mean, spread.deviation) == (mean, pytest.approx(deviation, abs=1e-6))
    assert spread.interval == pytest.approx((mean - half, mean + half), abs=1e-5)


def test_a_single_value_has_no_interval() -> None:
    assert (Spread((3.0,)).mean, Spread((3.0,)).deviation, Spread((3.0,)).interval) == (3.0, None, None)


@settings(deadline=None)  # the first interval imports scipy
@given(Values, st.floats(-100, 100, allow_subnormal=False))
def test_an_interval_lies_around_its_mean_and_moves_with_it(of: list[float], shift: float) -> None:
    spread, moved = Spread(tuple(of)), Spread(tuple(value + shift for value in of))
    assert min(of) - 1e-9 <= spread.mean <= max(of) + 1e-9
    assert moved.mean == pytest.approx(spread.mean + shift, abs=1e-9)
    if spread.interval is None or moved.interval is None:
        assert len(of) == 1
        return
    low, high = spread.interval
    assert low <= spread.mean <= high
    assert high - spread.mean == pytest.approx(spread.mean - low, abs=1e-9)
    assert moved.interval == pytest.approx((low + shift, high + shift), abs=1e-6)


def test_a_measure_is_in_percent_over_the_seeds_that_are_done() -> None:
    done = measured(plain={"a_r": [50, None, 70]})
    assert spread_of(study_of(), done, "one", "plain", "a_r") == Spread((50.0, 70.0))
    assert spread_of(study_of(), done, "one", "plain", "a_p") is None
    assert spread_of(study_of(), done, "one", "fixed", "a_r") is None


# --- gains and verdicts --------------------------------------------------------------------------------------------------


def test_a_gain_is_the_difference_seed_by_seed() -> None:
    """Seeds lie 10 points apart, gains 1: 10, 11, 12. Mean 11, sd 1, 11 -+ 2.484138."""
    finding = one(GAIN, measured(plain=[10, 20, 30], fixed=[20, 31, 42]))
    assert values(finding) == [10, 11, 12]
    spread = found_in(finding).spread
    assert spread is not None
    assert spread.interval == pytest.approx((8.515862, 13.484138), abs=1e-5)
    assert finding.verdict == "reproduced"
    assert found_in(finding).notes == ()


def test_seeds_that_only_some_runs_have_count_for_those() -> None:
    study = study_of(GAIN, more_seeds={"sft": [3, 4]})
    (finding,) = findings(study, measured(plain=[10, 20, 30, 40, 50], fixed=[20, 31, 42, 50, None]))
    assert values(finding) == [10, 11, 12, 10]


def test_the_measure_of_a_gain_can_be_another() -> None:
    done = measured(plain={"a": ZERO, "a_p": [1, 2, 3]}, fixed={"a": ZERO, "a_p": [5, 6, 7]})
    assert values(one(GAIN | {"measure": "a_p"}, done)) == [4, 4, 4]


# 10, 11, 12 is above 0 by more than chance and its negative below. -1, 0, 1 is neither; nor is 1, 5, 9: 5 -+ 9.94.
UP, DOWN, NEITHER, FEW = [10, 11, 12], [-10, -11, -12], [-1, 0, 1], [1, 5, 9]


@pytest.mark.parametrize(
    ("cases", "verdict"),
    [
        ([UP], "reproduced"),
        ([DOWN], "not reproduced"),
        ([NEITHER], "not reproduced"),
        ([FEW], "not reproduced"),
        ([UP, NEITHER], "reproduced"),
        ([UP, DOWN], "not reproduced"),
        ([DOWN, UP, UP], "not reproduced"),
        ([NEITHER, FEW], "not reproduced"),
        ([UP, []], "reproduced"),
        ([[], []], "not measured"),
    ],
)
def test_reproduced_is_above_chance_somewhere_and_below_it_nowhere(cases: list[list[float]], verdict: str) -> None:
    done: dict[Any, Any] = {}
    for place, gains in enumerate(cases):
        done |= measured(f"c{place}", plain=[50] * len(gains), fixed=[50 + gain for gain in gains])
    assert one(GAIN, done, cases=" ".join(f"c{place}" for place in range(len(cases)))).verdict == verdict


@settings(deadline=None)
@given(st.permutations(range(4)), st.lists(st.integers(0, 100), min_size=8, max_size=8))
def test_which_seed_is_which_makes_no_difference_to_a_gain_and_turned_round_it_is_a_loss(
    order: Sequence[int], percents: list[int]
) -> None:
    plain, fixed = percents[:4], percents[4:]
    finding = one(GAIN, measured(plain=plain, fixed=fixed), seeds=4)
    other = one(GAIN, measured(plain=[plain[k] for k in order], fixed=[fixed[k] for k in order]), seeds=4)
    assert (other.verdict, sorted(values(other))) == (finding.verdict, sorted(values(finding)))
    turned = one(GAIN | {"of": "plain", "over": "fixed"}, measured(plain=plain, fixed=fixed), seeds=4)
    assert values(turned) == [-value for value in values(finding)]
    assert "not reproduced" in (finding.verdict, turned.verdict)


def test_one_seed_is_never_enough() -> None:
    finding = one(GAIN | {"aim": {"once": 5}}, measured(plain=[0], fixed=[90]), seeds=1)
    assert (values(finding), finding.verdict, finding.reached) == ([90], "one seed only", True)
    spread = found_in(finding).spread
    assert spread is not None
    assert spread.interval is None


def test_a_case_with_one_seed_leaves_the_word_to_those_with_more() -> None:
    for gains, verdict in ((UP, "reproduced"), (NEITHER, "not reproduced")):
        done = measured("one", plain=[50], fixed=[10]) | measured("two", plain=[50] * 3, fixed=[50 + gain for gain in gains])
        assert one(GAIN, done, cases="one two").verdict == verdict


def test_only_seeds_that_both_runs_have_done_count() -> None:
    finding = one(GAIN, measured(plain=[10, None, 30], fixed=[11, 90, 33]))
    assert values(finding) == [1, 3]
    finding = one(GAIN, measured(plain=[10, None, None], fixed=[None, 90, 33]))
    assert (found_in(finding).spread, finding.verdict, finding.reached) == (None, "not measured", None)


def test_cases_in_which_a_run_is_not_made_are_left_out() -> None:
    """In `two` there is no recipe of the run that the claim is over."""
    cases = {"one": {"recipes": {"sft": "s.yaml", "rl": "r.yaml"}}, "two": {"recipes": {"rl": "r.yaml"}}}
    runs = {"plain": {"recipe": "sft", "stages": ["warm"]}, "fixed": {"recipe": "rl", "stages": ["reason"]}}
    done = measured("one", plain=ZERO, fixed=UP) | measured("two", fixed=DOWN)
    study = Study.model_validate({"about": "", "seeds": [0, 1, 2], "cases": cases, "runs": runs, "claims": [GAIN]})
    (finding,) = findings(study, done)
    assert list(finding.found) == ["one"]
    assert finding.verdict == "reproduced"


# --- what a claim needs --------------------------------------------------------------------------------------------------

NEEDS = GAIN | {"needs": [{"run": "plain", "measure": "a_r", "at_least": 0.5, "at_most": 0.8}]}


@pytest.mark.parametrize(
    ("reasons", "lacks"),
    [
        ([40, 50, 60], ""),  # 50.0 is at least 50
        ([80, 80, 80], ""),
        ([40, 50, 59], "a_r of plain is 49.7, and would have to be at least 50"),
        ([80, 80, 83], "a_r of plain is 81.0, and would have to be at most 80"),
    ],
)
def test_a_claim_is_not_testable_where_what_it_needs_does_not_hold(reasons: list[float], lacks: str) -> None:
    done = measured(plain={"a": ZERO, "a_r": reasons}, fixed=UP)
    finding = one(NEEDS | {"aim": {"once": 1}}, done)
    assert found_in(finding).lacks == lacks
    assert values(finding) == UP  # it is shown all the same
    assert finding.verdict == ("not testable at this scale" if lacks else "reproduced")
    assert finding.reached is (None if lacks else True)


def test_where_it_is_not_testable_it_speaks_neither_for_nor_against() -> None:
    def in_(case: str, gains: list[float], reasons: float) -> dict[Any, Any]:
        return measured(case, plain={"a": [50] * 3, "a_r": [reasons] * 3}, fixed=[50 + gain for gain in gains])

    claim = NEEDS | {"aim": {"everywhere": 0, "harmless": True}}
    finding = one(claim, in_("one", UP, 60) | in_("two", DOWN, 10), cases="one two")
    assert (finding.verdict, finding.reached) == ("reproduced", True)
    finding = one(claim, in_("one", UP, 10) | in_("two", DOWN, 60), cases="one two")
    assert (finding.verdict, finding.reached) == ("not reproduced", False)


def test_what_a_claim_needs_has_to_be_measured() -> None:
    finding = one(NEEDS, measured(plain={"a": ZERO}, fixed=UP))
    assert (found_in(finding).spread, found_in(finding).lacks, finding.verdict) == (None, "", "not measured")


def test_several_needs_are_all_said() -> None:
    needs = [{"run": "plain", "measure": "a_r", "at_least": 0.5}, {"run": "fixed", "measure": "a", "at_most": 0.05}]
    done = measured(plain={"a": ZERO, "a_r": ZERO}, fixed=UP)
    lacks = found_in(one(GAIN | {"needs": needs}, done)).lacks
    assert [part.split(" is ")[0] for part in lacks.split("; ")] == ["a_r of plain", "a of fixed"]


# --- aims ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aim", "reached", "text"),
    [
        ({}, None, ""),
        ({"once": 10.9}, True, "≥ +10.9 once"),
        ({"once": 11.1}, False, "≥ +11.1 once"),
        ({"everywhere": -0.1}, True, "≥ -0.1 everywhere"),
        ({"everywhere": 0.1}, False, "≥ +0.1 everywhere"),
        ({"harmless": True}, True, "nowhere significantly below 0"),
        ({"once": 10.9, "everywhere": 0.1}, False, "≥ +10.9 once, ≥ +0.1 everywhere"),
        ({"once": 10.9, "harmless": True}, True, "≥ +10.9 once, nowhere significantly below 0"),
    ],
)
def test_aims_are_held_against_the_means_of_all_cases(aim: dict[str, Any], reached: bool | None, text: str) -> None:
    """Means: 11 in one, 0 in two."""
    done = measured("one", plain=ZERO, fixed=UP) | measured("two", plain=[50] * 3, fixed=[49, 50, 51])
    finding = one(GAIN | {"aim": aim}, done, cases="one two")
    assert (finding.reached, finding.aim) == (reached, text)


@pytest.mark.parametrize(
    ("aim", "reached"),
    [
        ({"once": 10.9}, True),
        ({"once": 11.1}, None),
        ({"everywhere": 10.9}, None),
        ({"everywhere": 11.1}, False),
        ({"harmless": True}, None),
        ({"once": 11.1, "everywhere": 11.1}, False),
        ({"once": 10.9, "everywhere": 10.9}, None),
    ],
)
def test_a_case_that_is_not_measured_yet_may_still_decide(aim: dict[str, Any], reached: bool | None) -> None:
    """The mean of one is 11; two has not run."""
    finding = one(GAIN | {"aim": aim}, measured("one", plain=ZERO, fixed=UP), cases="one two")
    assert finding.reached is reached


def test_one_seed_does_not_tell_whether_there_is_harm() -> None:
    done = measured("one", plain=ZERO, fixed=UP) | measured("two", plain=[50], fixed=[40])
    assert one(GAIN | {"aim": {"harmless": True}}, done, cases="one two").reached is None


# -5 -+ 9.94 is below 0 by chance, -11 -+ 2.48 by more.
@pytest.mark.parametrize(
    ("gains", "reached", "verdict"),
    [
        (UP, True, "reproduced"),
        ([-1, -5, -9], True, "no harm seen"),
        (DOWN, False, "not reproduced"),
        ([-40], None, "one seed only"),
    ],
)
def test_where_no_harm_is_all_that_is_hoped_for_none_that_is_seen_is_said_so(
    gains: list[float], reached: bool, verdict: str
) -> None:
    done = measured(plain=[50] * len(gains), fixed=[50 + gain for gain in gains])
    finding = one(GAIN | {"aim": {"harmless": True}}, done)
    assert (finding.reached, finding.verdict) == (reached, verdict)


def test_where_more_is_hoped_for_it_is_not() -> None:
    done = measured(plain=[50, 50, 50], fixed=[49, 45, 41])
    assert one(GAIN | {"aim": {"harmless": True, "once": -9}}, done).verdict == "not reproduced"
