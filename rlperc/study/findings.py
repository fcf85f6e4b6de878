"""What a study's runs show: each claim held against them, seed by seed, with what chance alone would give."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rlperc.study.measured import Coupling, Spread, Summaries, coupling_of, measure_of, spread_of, surrogates
from rlperc.study.plan import Aim, Choice, Claim, Coupled, Gain, Gap, Need, Study

Verdict = Literal["reproduced", "no harm seen", "not reproduced", "not testable at this scale", "one seed only", "not measured"]


@dataclass(frozen=True)
class Found:
    """What one case shows of a claim.

    Attributes:
        spread: what the claim is about, over seeds; None where no seed has all its runs.
        lacks: why it could not show it there, or "".
        notes: what belongs beside it.
    """

    spread: Spread | None
    lacks: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A claim, what every case shows of it, and what follows."""

    says: str
    published: str
    kind: str
    found: dict[str, Found]
    verdict: Verdict
    aim: str = ""
    reached: bool | None = None


def findings(study: Study, done: Summaries) -> list[Finding]:
    """Every claim of a study against the summaries of its runs."""
    return [_finding(claim, study, done) for claim in study.claims]


def _finding(claim: Claim, study: Study, done: Summaries) -> Finding:
    found = {}
    for case in study.cases:
        if not {*claim.runs, *(need.run for need in claim.needs)} <= set(study.runs_of(case)):
            continue
        needed = [(need, spread_of(study, done, case, need.run, need.measure)) for need in claim.needs]
        lacks = "; ".join(filter(None, (_lack(need, spread) for need, spread in needed)))
        spread, notes = _look(claim, study, done, case)
        if not lacks and any(spread is None for _, spread in needed):
            spread, notes = None, []
        found[case] = Found(spread, lacks, tuple(notes))
    tested = [one.spread for one in found.values() if one.spread is not None and not one.lacks]
    verdict: Verdict = "not measured"
    if tested:
        verdict = _verdict(claim.aim, tested)
    elif any(one.lacks for one in found.values()):
        verdict = "not testable at this scale"
    whole = all(one.spread is not None or one.lacks for one in found.values())
    reached = _reached(claim.aim, tested, whole) if tested else None
    return Finding(claim.says, claim.published, claim.kind, found, verdict, _aim_text(claim.aim), reached)


def _look(claim: Claim, study: Study, done: Summaries, case: str) -> tuple[Spread | None, list[str]]:
    match claim:
        case Coupled():
            return _coupling(claim, study, done, case)
        case Gap():
            return _gap(claim, study, done, case)
        case _:
            return _better(claim, study, done, case)


def _verdict(aim: Aim, tested: Sequence[Spread]) -> Verdict:
    """Reproduced: above 0 by more than chance in at least one case, and in none below it by more than chance.

    Where no more is hoped for than that it does no harm, the latter alone is said as what it is.
    """
    intervals = [one.interval for one in tested if one.interval is not None]
    if not intervals:
        return "one seed only"
    above, below = any(low > 0 for low, _ in intervals), any(high < 0 for _, high in intervals)
    if below:
        return "not reproduced"
    if above:
        return "reproduced"
    return "no harm seen" if aim == Aim(harmless=True) else "not reproduced"


def _reached(aim: Aim, tested: Sequence[Spread], whole: bool) -> bool | None:
    """Whether all that is hoped for is there; None where cases that are not measured yet, or more seeds, will tell."""
    means = [one.mean for one in tested]
    known = [one.interval for one in tested if one.interval is not None]
    asked: list[bool | None] = []
    if aim.once is not None:
        asked.append(max(means) >= aim.once or (False if whole else None))
    if aim.everywhere is not None:
        asked.append(min(means) >= aim.everywhere and (True if whole else None))
    if aim.harmless:
        asked.append(all(high >= 0 for _, high in known) and (True if whole and len(known) == len(tested) else None))
    if False in asked:
        return False
    return None if None in asked or not asked else True


def _aim_text(aim: Aim) -> str:
    parts = [
        "" if aim.once is None else f"≥ {aim.once:+g} once",
        "" if aim.everywhere is None else f"≥ {aim.everywhere:+g} everywhere",
        "nowhere significantly below 0" if aim.harmless else "",
    ]
    return ", ".join(filter(None, parts))


def _lack(need: Need, spread: Spread | None) -> str:
    if spread is None or 100 * need.at_least <= spread.mean <= 100 * need.at_most:
        return ""
    bound = f"at least {100 * need.at_least:g}" if spread.mean < 100 * need.at_least else f"at most {100 * need.at_most:g}"
    return f"{need.measure} of {need.run} is {spread.mean:.1f}, and would have to be {bound}"


# --- gains -------------------------------------------------------------------------------------------------------


def _better(claim: Gain | Choice, study: Study, done: Summaries, case: str) -> tuple[Spread | None, list[str]]:
    gains = {run: _differences(study, done, case, run, claim.over, claim.measure) for run in claim.tried}
    picked = _favoured(claim, study, done, case) if isinstance(claim, Choice) else _best_elsewhere(study, gains)
    if claim.over in picked.values():
        gains[claim.over] = _differences(study, done, case, claim.over, claim.over, claim.measure)
    seeds = [seed for seed in study.all_seeds if seed in picked and all(seed in gain for gain in gains.values())]
    if not seeds:
        return None, ["too few seeds have all of these runs: one cannot choose by itself"] if len(gains) > 1 else []
    spread, notes = Spread(tuple(gains[picked[seed]][seed] for seed in seeds)), []
    if len(gains) > 1:
        notes.append("seed by seed: " + ", ".join(picked[seed] for seed in seeds))
    if claim.share_of:
        whole = _differences(study, done, case, claim.share_of, claim.over, claim.measure)
        both = [(gains[picked[seed]][seed], whole[seed]) for seed in seeds if seed in whole]
        notes += _share(both, claim.share_of) if both else []
    return spread, notes


def _share(both: Sequence[tuple[float, float]], run: str) -> list[str]:
    """How much of another run's gain this one's is, both seed by seed; a share of what may be nothing means nothing."""
    part, whole = (Spread(values) for values in zip(*both, strict=True))
    if whole.interval is None:
        return []
    return [
        f"{100 * part.mean / whole.mean:.0f} % of what {run} gains"
        if whole.interval[0] > 0
        else f"{run} itself gains nothing beyond chance"
    ]


def _differences(study: Study, done: Summaries, case: str, run: str, over: str, measure: str) -> dict[int, float]:
    """Points by which a run is above another one, for each seed that has both."""
    found = {}
    for seed in study.all_seeds:
        one, other = (measure_of(done, case, name, seed, measure) for name in (run, over))
        if one is not None and other is not None:
            found[seed] = 100 * (one - other)
    return found


def _best_elsewhere(study: Study, gains: Mapping[str, Mapping[int, float]]) -> dict[int, str]:
    """For each seed the run that gained most with the others; of several runs a single seed cannot choose."""
    seeds = [seed for seed in study.all_seeds if all(seed in gain for gain in gains.values())]
    if len(gains) > 1 and len(seeds) == 1:
        return {}
    return {seed: max(gains, key=lambda run: sum(gains[run][other] for other in seeds if other != seed)) for seed in seeds}


def _favoured(claim: Choice, study: Study, done: Summaries, case: str) -> dict[int, str]:
    """For each seed the run whose reward moves most with true perception where it was asked; `over` where none moves with it."""
    found = {}
    for seed in study.all_seeds:
        moves = surrogates(done.get((case, claim.asked, seed)))
        known = {reward: moves[reward] for reward in claim.of if reward in moves}
        if known:
            best = max(known, key=lambda reward: known[reward])
            found[seed] = claim.of[best] if known[best] > 0 else claim.over
    return found


# --- couplings and gaps ------------------------------------------------------------------------------------------


def _coupling(claim: Coupled, study: Study, done: Summaries, case: str) -> tuple[Spread | None, list[str]]:
    found = [coupling_of(done.get((case, claim.run, seed)), claim.stage) for seed in study.all_seeds]
    known = [one for one in found if one is not None]
    if not known:
        missing = not any((case, claim.run, seed) in done for seed in study.all_seeds)
        return None, [] if missing else ["the outcome, or what it is correlated with, never varied within a group"]
    gaps = Spread(tuple(one.reasoning - one.perception for one in known))
    return gaps, [
        f"with reasoning {_mean(known, 'reasoning')}, with perception {_mean(known, 'perception')}",
        f"independence alone: {_mean(known, 'null_reasoning')} and {_mean(known, 'null_perception')}",
    ]


def _mean(found: Sequence[Coupling], name: str) -> str:
    values = [value for one in found if (value := getattr(one, name)) is not None]
    return f"{statistics.mean(values):+.2f}" if values else "–"


def _gap(claim: Gap, study: Study, done: Summaries, case: str) -> tuple[Spread | None, list[str]]:
    thinks, sees = (_differences(study, done, case, claim.of, claim.over, measure) for measure in ("a_r", "a_p"))
    seeds = [seed for seed in study.all_seeds if seed in thinks and seed in sees]
    if not seeds:
        return None, []
    means = (statistics.mean(gain[seed] for seed in seeds) for gain in (thinks, sees))
    notes = ["a_r {:+.1f}, a_p {:+.1f}".format(*means)]
    return Spread(tuple(thinks[seed] - sees[seed] for seed in seeds)), notes


def as_json(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as JSON has them."""
    return [asdict(one) | {"found": {case: _plain(what) for case, what in one.found.items()}} for one in found]


def _plain(found: Found) -> dict[str, Any]:
    spread = found.spread
    numbers: dict[str, Any] = {"values": [], "mean": None, "sd": None, "interval": None}
    if spread is not None:
        numbers = {"values": spread.values, "mean": spread.mean, "sd": spread.deviation, "interval": spread.interval}
    return {**numbers, "lacks": found.lacks, "notes": found.notes}
