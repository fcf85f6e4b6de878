"""Which label-free reward to train on: the one that moves with true perception within groups, before anything is trained.

arXiv 2605.29496 finds that a surrogate's correlation with perception tells which one helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlperc.score.roles import Roles

Floats = NDArray[np.float64]
RESAMPLES = 2000
ENOUGH = 10
"""Groups in which both vary, below which nothing is said."""
SEED = 0


class Candidate(NamedTuple):
    """One surrogate, or several added up, each in units of its spread within groups.

    `correlation` is with the reward that knows the truth, within groups, with a 95 % interval by bootstrap over groups;
    `known_above` is below the true correlations of all candidates at once, in 97.5 % of such files; `above_next` is the share
    of resamples in which it is above the next candidate. None where one never varies.
    """

    names: tuple[str, ...]
    correlation: float | None
    interval: tuple[float, float] | None
    known_above: float | None = None
    above_next: float | None = None


def choose(groups: Sequence[Floats], names: Sequence[str], roles: Roles) -> list[Candidate]:
    """All surrogates, pairs of them and all together, the best first.

    Args:
        groups: rewards of each prompt's completions, NaN where one has no opinion. Shape of each: (completions, rewards).
        names: of the rewards.
        roles: which know the truth, and which are surrogates.
    """
    if roles.perception is None:
        return []
    centred = [group - np.nansum(group, 0) / np.maximum((~np.isnan(group)).sum(0), 1) for group in groups]
    tried: list[tuple[int, ...]] = [(place,) for place in roles.surrogates]
    tried += combinations(roles.surrogates, 2)
    tried += [roles.surrogates] if len(roles.surrogates) > 2 else []
    sums = {places: _sums(centred, places, roles.perception) for places in tried}
    drawn = _resampled(sums)
    lows = _known_above(sums, drawn)
    ranked = sorted(sums, key=lambda places: -float(np.nan_to_num(_r(sums[places].sum(0)), nan=-2)))
    return [
        _candidate(tuple(names[place] for place in places), sums[places], drawn[places], lows.get(places), drawn.get(after))
        for places, after in zip(ranked, [*ranked[1:], ()], strict=True)
    ]


def _resampled(sums: dict[tuple[int, ...], Floats]) -> dict[tuple[int, ...], Floats]:
    """Correlations of each candidate in the same resamples of the groups. Shape of each: (RESAMPLES,)."""
    random, found = np.random.default_rng(SEED), {places: np.empty(RESAMPLES) for places in sums}
    for row in range(RESAMPLES):
        count = len(next(iter(sums.values())))
        drawn = random.integers(count, size=count)
        for places, values in found.items():
            values[row] = _r(sums[places][drawn].sum(0))
    return found


def _known_above(sums: dict[tuple[int, ...], Floats], drawn: dict[tuple[int, ...], Floats]) -> dict[tuple[int, ...], float]:
    """A lower end for each candidate that is chosen from, by the bootstrap of the largest of their standardised errors.

    Of sixteen candidates that are all noise, one by one, some interval would lie above 0 in every fifth file.
    """
    found = {places: r for places, one in sums.items() if _is_enough(one) and not np.isnan(r := float(_r(one.sum(0))))}
    if not found:
        return {}
    errors = {places: max(float(np.nanstd(drawn[places])), 1e-9) for places in found}
    largest = np.fmax.reduce([(drawn[places] - r) / errors[places] for places, r in found.items()])
    most = float(np.nanquantile(largest, 0.975))
    return {places: r - most * errors[places] for places, r in found.items()}


def _is_enough(sums: Floats) -> bool:
    return bool((sums[:, 1:] > 0).all(1).sum() >= ENOUGH)


def _candidate(
    names: tuple[str, ...], sums: Floats, drawn: Floats, known_above: float | None, following: Floats | None
) -> Candidate:
    found, known = _r(sums.sum(0)), drawn[~np.isnan(drawn)]
    if np.isnan(found):
        return Candidate(names, None, None)
    if not _is_enough(sums):
        return Candidate(names, float(found), None)
    low, high = np.quantile(known, (0.025, 0.975))
    above = None if following is None or np.isnan(following).all() else float((drawn > following).mean())
    return Candidate(names, float(found), (float(low), float(high)), known_above, above)


def _sums(groups: Sequence[Floats], places: tuple[int, ...], truth: int) -> Floats:
    """For each group what the correlation is made of: Σ xy, Σ x², Σ y². Shape: (groups, 3)."""
    columns = [np.concatenate([group[:, place] for group in groups]) for place in places]
    spread = [np.sqrt(np.nansum(column**2) / max(1, (~np.isnan(column)).sum())) for column in columns]
    found = np.zeros((len(groups), 3))
    for row, group in enumerate(groups):
        x = sum((group[:, place] / one for place, one in zip(places, spread, strict=True) if one > 0), np.zeros(len(group)))
        both = ~np.isnan(x) & ~np.isnan(group[:, truth])
        if both.sum() > 1:
            x, y = x[both] - x[both].mean(), group[both, truth] - group[both, truth].mean()
            found[row] = (x * y).sum(), (x * x).sum(), (y * y).sum()
    return found


def _r(sums: Floats) -> Any:
    scale = np.sqrt(sums[..., 1] * sums[..., 2])
    return np.where(scale > 1e-12, sums[..., 0] / np.maximum(scale, 1e-300), np.nan)


def choice_text(candidates: Sequence[Candidate]) -> list[str]:
    """The candidates, and what follows from them."""
    lines = []
    for one in candidates:
        within = "" if one.interval is None else f" [{one.interval[0]:+.2f}, {one.interval[1]:+.2f}]"
        few = f", in fewer than {ENOUGH} groups: not chosen from" if one.correlation is not None and one.interval is None else ""
        shown = (
            "it, or true perception, never varies within a group"
            if one.correlation is None
            else f"{one.correlation:+.2f}{within}{few}"
        )
        lines.append(f"{' + '.join(one.names)}: {shown}")
    best = next((one for one in candidates if one.known_above is not None and one.known_above > 0), None)
    if best is None:
        many = f", since {len(candidates)} were looked at" if len(candidates) > 1 else ""
        return [*lines, f"none of them is known to move with what is seen{many}: choose none"]
    sure = (
        ""
        if best.above_next is None
        else f"; above the next one that is chosen from in {100 * best.above_next:.0f} % of resamples"
    )
    return [*lines, f"the data favour {' + '.join(best.names)}{sure}"]
