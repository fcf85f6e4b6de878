"""A study's plots, as SVG text: what runs come to, how it hangs on λ or α, and how rewards move with what is seen."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rlperc.report.plots import COLORS, axes, svg
from rlperc.study.measured import Coupling, Spread, Summaries, coupling_of, measure_of, spread_of, surrogates
from rlperc.study.plan import Choice, Coupled, Curve, Measure, Study

SHOWN: tuple[Measure, ...] = ("a", "a_p", "a_r")


def bars(study: Study, done: Summaries, case: str, runs: Sequence[str]) -> str:
    """`a`, `a_p` and `a_r` of those runs that the case has, side by side: means over seeds, with standard deviations."""
    runs = [run for run in runs if run in study.runs_of(case)]
    figure, plot = axes("percent", width=max(4.0, 0.75 * len(runs) + 1.6))
    for offset, name in enumerate(SHOWN):
        found = [(place, spread) for place, run in enumerate(runs) if (spread := spread_of(study, done, case, run, name))]
        _bars(plot, found, -0.26 + 0.26 * offset, 0.24, COLORS[name], name)
    plot.set_xticks(range(len(runs)), runs, rotation=30, ha="right", rotation_mode="anchor")
    plot.set_xlabel("")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return svg(figure)


def _bars(plot: Any, found: Sequence[tuple[int, Spread]], offset: float, width: float, color: str, label: str) -> None:
    places, means = [place + offset for place, _ in found], [spread.mean for _, spread in found]
    deviations = [spread.deviation or 0.0 for _, spread in found]
    plot.bar(places, means, width, yerr=deviations, color=color, label=label, error_kw={"lw": 0.8, "alpha": 0.7})


def curve(study: Study, done: Summaries, case: str, asked: Curve) -> str:
    """Measures over a number that runs differ in; dashed what they are compared with."""
    figure, plot = axes("percent", width=4.6)
    plot.set_xlabel(asked.over.replace("$", r"\$"), fontsize=9)
    placed = {run: place for run, place in asked.runs.items() if place is not None}
    for name in SHOWN:
        known = [(place, s) for run, place in placed.items() if (s := spread_of(study, done, case, run, name))]
        found = sorted(known, key=lambda one: one[0])
        means, places = [spread.mean for _, spread in found], [place for place, _ in found]
        deviations = [spread.deviation or 0.0 for _, spread in found]
        plot.errorbar(places, means, deviations, color=COLORS[name], marker="o", ms=3.5, lw=1.3, capsize=2, label=name)
        for run in asked.runs.keys() - placed.keys():
            if other := spread_of(study, done, case, run, name):
                plot.axhline(other.mean, color=COLORS[name], ls="--", lw=0.9, label=f"{name}, {run}")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return svg(figure)


def couplings(study: Study, done: Summaries, claim: Coupled) -> str:
    """The outcome's correlation with reasoning and with perception in every case, and what independence would give."""
    cases = [case for case in study.cases if claim.run in study.runs_of(case)]
    figure, plot = axes("correlation within groups", width=max(4.0, 1.6 * len(cases) + 1.6))
    seen = [[coupling_of(done.get((case, claim.run, seed)), claim.stage) for seed in study.all_seeds] for case in cases]
    known = {place: [one for one in of if one is not None] for place, of in enumerate(seen) if any(of)}
    for offset, (name, color) in enumerate((("reasoning", COLORS["a_r"]), ("perception", COLORS["a_p"]))):
        for place, found in known.items():
            _coupling_bar(plot, found, name, place - 0.2 + 0.4 * offset, color, name if place == min(known) else "")
    plot.set_xticks(range(len(cases)), cases)
    plot.set_xlabel("")
    if known:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return svg(figure)


def _coupling_bar(plot: Any, known: Sequence[Coupling], name: str, x: float, color: str, label: str) -> None:
    values = [getattr(one, name) for one in known]
    nulls = [value for one in known if (value := getattr(one, f"null_{name}")) is not None]
    spread = Spread(tuple(values))
    plot.bar(x, spread.mean, 0.36, yerr=spread.deviation or 0.0, color=color, label=label or None, error_kw={"lw": 0.8})
    if nulls:
        mark = "independence alone" if label == "perception" else None
        plot.hlines(statistics.mean(nulls), x - 0.18, x + 0.18, color="black", ls=":", lw=1.4, label=mark)


def choices(study: Study, done: Summaries, case: str, claim: Choice) -> str:
    """Each surrogate's correlation with true perception before training, and what training on it gained: a point a seed."""
    figure, plot = axes(f"points of {claim.measure} over {claim.over}", width=4.6)
    plot.set_xlabel("correlation with true perception, before", fontsize=9)
    plot.axhline(0, color="black", lw=0.6)
    for color, (reward, run) in enumerate(claim.of.items()):
        points = [point for seed in study.all_seeds if (point := _choice(done, case, claim, reward, run, seed))]
        plot.scatter([x for x, _ in points], [y for _, y in points], s=22, color=f"C{color}", label=reward)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return svg(figure)


def _choice(done: Summaries, case: str, claim: Choice, reward: str, run: str, seed: int) -> tuple[float, float] | None:
    moves = surrogates(done.get((case, claim.asked, seed))).get(reward)
    one, over = (measure_of(done, case, name, seed, claim.measure) for name in (run, claim.over))
    return None if moves is None or one is None or over is None else (moves, 100 * (one - over))
