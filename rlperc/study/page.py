"""A study's page and its `study.json`, from what its runs left; all of it can be made again at any time."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlperc.recipe.environment import environment
from rlperc.recipe.folder import RunFolder
from rlperc.report.numbers import MEASURES
from rlperc.report.page import template
from rlperc.report.plots import Point, lines_plot
from rlperc.study.findings import Finding, Found, as_json, findings
from rlperc.study.jobs import Job
from rlperc.study.measured import Spread, Summaries, spread_of
from rlperc.study.plan import Choice, Coupled, Measure, Study
from rlperc.study.plots import bars, choices, couplings, curve

TABLED: tuple[Measure, ...] = ("a", "a_p", "a_p_partial", "a_r", "a_o")


def write_study(
    study: Study, file: Path, folder: RunFolder, jobs: Sequence[Job], at_once: int, command: str, tiny: bool = False
) -> list[Finding]:
    """Write `study.json` and `report.html` into the study's folder.

    Args:
        study: as its file says it.
        file: that one.
        folder: the study's.
        jobs: all of its jobs, done or not.
        at_once: how many ran together.
        command: what makes it again.
        tiny: whether it was only tried, so that its numbers mean nothing.
    """
    done: dict[tuple[str, str, int], dict[str, Any]] = {}
    for job in jobs:
        summary = job.summary()
        if summary is not None:
            done[job.case, job.run, job.seed] = summary
    found, tables = findings(study, done), _tables(study, done)
    seconds = sum(summary["seconds"] for summary in done.values())
    plain = {
        "done": len(done),
        "planned": len(jobs),
        "seeds": study.seeds,
        "more_seeds": study.more_seeds,
        "seconds": seconds,
        "claims": as_json(found),
    }
    folder.write_json(folder.path / "study.json", plain | {"runs": tables})
    page = template("study.html").render(
        name=file.stem,
        about=study.about,
        done=len(done),
        planned=len(jobs),
        seeds=_seeds(study),
        processes=sorted({summary.get("processes", 1) for summary in done.values()}),
        tiny=tiny,
        seconds=seconds,
        jobs=at_once,
        overview=_overview(found, list(study.cases)),
        findings=[_shown(one) for one in found],
        tables=tables,
        legend="; ".join(f"{name}: {MEASURES[name]}" for name in TABLED),
        command=command,
        source=file.read_text(encoding="utf-8"),
        sources=_sources(study, file.parent),
        versions="\n".join(f"{name} {version}" for name, version, _ in environment()),
        **_plots(study, done, jobs),
    )
    folder.write(folder.report, page)
    return found


def _seeds(study: Study) -> str:
    more = (f"with {recipe} also {', '.join(map(str, seeds))}" for recipe, seeds in study.more_seeds.items())
    return "; ".join([", ".join(map(str, study.seeds)), *more])


def _sources(study: Study, beside: Path) -> dict[str, str]:
    """Every recipe's text, by its file as the study names it."""
    files = {file for case in study.cases.values() for file in case.recipes.values()}
    return {os.path.relpath(file, beside): file.read_text(encoding="utf-8") for file in sorted(files)}


def _plots(study: Study, done: Summaries, jobs: Sequence[Job]) -> dict[str, Any]:
    present = {case: {run for of, run, _ in done if of == case} for case in study.cases}
    coupled = [claim for claim in study.claims if isinstance(claim, Coupled)]
    chosen = [claim for claim in study.claims if isinstance(claim, Choice)]
    return {
        "bars": {
            title: {case: bars(study, done, case, runs) for case, there in present.items() if there & set(runs)}
            for title, runs in study.bars.items()
        },
        "curves": {
            over: [
                (case, curve(study, done, case, one))
                for one in study.curves
                for case, there in present.items()
                if one.over == over and there & set(one.runs) and set(one.runs) <= set(study.runs_of(case))
            ]
            for over in dict.fromkeys(one.over for one in study.curves)
        },
        "couplings": [couplings(study, done, claim) for claim in coupled if any(claim.run in runs for runs in present.values())],
        "choices": [(c, choices(study, done, c, one)) for one in chosen for c, there in present.items() if one.asked in there],
        "weights": {case: lines_plot(found, "λ") for case in study.cases if (found := _weights(done, jobs, case))},
    }


def _weights(done: Summaries, jobs: Sequence[Job], case: str) -> dict[str, list[Point]]:
    """λ over the steps of every run that chose one: means over seeds."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        if job.case == case and (case, job.run, job.seed) in done:
            for entry in RunFolder(job.folder).read_metrics("train"):
                if "reweight/lambda" in entry:
                    found[job.run][entry["step"]].append(entry["reweight/lambda"])
    means = {run: [(float(step), statistics.mean(of)) for step, of in sorted(steps.items())] for run, steps in found.items()}
    return {run: points for run, points in means.items() if len({value for _, value in points}) > 1}


def _tables(study: Study, done: Summaries) -> dict[str, list[list[str]]]:
    """For each case a line for every run."""
    tables = {}
    for case in study.cases:
        lines = []
        for run in study.runs:
            found = [spread_of(study, done, case, run, name) for name in TABLED]
            seconds = [done[case, run, seed]["seconds"] for seed in study.all_seeds if (case, run, seed) in done]
            if seconds:
                cells = ["–" if one is None else _with_deviation(one) for one in found]
                lines.append([run, *cells, str(len(seconds)), f"{statistics.mean(seconds):.0f}"])
        tables[case] = [["run", *TABLED, "seeds", "seconds"], *lines]
    return tables


def _overview(found: Sequence[Finding], cases: Sequence[str]) -> list[list[str]]:
    """A line for each claim: what follows, what every case shows, what was published."""
    lines = []
    for one in found:
        shown = ["" if case not in one.found else _at_a_glance(one.found[case], one.kind) for case in cases]
        lines.append([one.says, one.verdict, *shown, one.published])
    return [["claim", "", *cases, "published"], *lines]


def _at_a_glance(found: Found, kind: str) -> str:
    return "not testable" if found.lacks else _numbers(found, kind)[0]


def _shown(finding: Finding) -> dict[str, Any]:
    table = [["", "mean (sd)", "95 %", "seed by seed"]]
    table += [[case, *_numbers(found, finding.kind)] for case, found in finding.found.items()]
    notes = [f"{case}: {said}" for case, found in finding.found.items() if (said := _said(found))]
    fields = ("says", "published", "verdict", "aim", "reached")
    return {name: getattr(finding, name) for name in fields} | {"table": table, "notes": notes}


def _said(found: Found) -> str:
    return "; ".join([*found.notes, *([f"not testable: {found.lacks}"] if found.lacks else [])])


def _numbers(found: Found, kind: str) -> list[str]:
    if found.spread is None:
        return ["–", "", ""]
    digits = 2 if kind == "coupling" else 1
    interval = found.spread.interval
    within = "one seed" if interval is None else f"[{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
    values = ", ".join(f"{value:+.{digits}f}" for value in found.spread.values)
    return [_with_deviation(found.spread, f"+.{digits}f"), within, values]


def _with_deviation(spread: Spread, form: str = ".1f") -> str:
    deviation = spread.deviation
    return f"{spread.mean:{form}}" + ("" if deviation is None else f" ({deviation:{form.lstrip('+')}})")


def lines_of(found: Sequence[Finding]) -> list[str]:
    """Claims and verdicts for a terminal."""
    lines = []
    for one in found:
        lines.append(f"{one.verdict.upper()}: {one.says} (published {one.published})")
        for case, what in one.found.items():
            lines.append("  " + "  ".join(filter(None, [case, *_numbers(what, one.kind), _said(what)])))
    return lines
