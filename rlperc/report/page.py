"""A run as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
from collections import defaultdict
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from rlperc.recipe.folder import RunFolder
from rlperc.report.numbers import (
    CREDIT,
    MODELS,
    change_table,
    coupling_table,
    credit_table,
    faults_table,
    legend,
    rewards_table,
    table,
)
from rlperc.report.plots import Point, curve_plot, lines_plot
from rlperc.score.offline import training_text


def template(name: str) -> Template:
    """A page's template. What it is given is escaped: model output is untrusted text."""
    return Environment(loader=PackageLoader("rlperc.report"), autoescape=True, undefined=StrictUndefined).get_template(name)


def write_page(folder: RunFolder) -> None:
    """Write `report.html` from the run's folder."""
    summary = folder.read_summary()
    page = template("page.html").render(
        summary=summary,
        models=MODELS,
        table=table(summary),
        legend=legend(summary),
        changes={before: change_table(found) for before, found in summary.get("changes", {}).items()},
        coupling={stage: (coupling_table(found), credit_table(found)) for stage, found in summary["coupling"].items()},
        credit=CREDIT,
        remarks={stage: training_text(found) for stage, found in summary["coupling"].items()},
        rewards={stage: (rewards_table(found), faults_table(found)) for stage, found in summary["rewards"].items()},
        curves={stage: curve_plot(points) for stage, points in _by_stage(summary["curve"]).items()},
        plots=_training_plots(folder),
        samples=[_with_pictures(folder, sample) for sample in summary.get("samples", [])],
        recipe=folder.recipe.read_text(encoding="utf-8"),
        versions=folder.versions.read_text(encoding="utf-8"),
    )
    folder.write(folder.report, page)


def _by_stage(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    stages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        stages[entry["stage"]].append(entry)
    return stages


def _training_plots(folder: RunFolder) -> dict[str, list[str]]:
    """For each stage: its loss, or its rewards where it has any, and then what became of them as credit."""
    plots = {}
    for stage, entries in _by_stage(folder.read_metrics("train")).items():
        rewards = _lines(entries, lambda name: name.startswith("rewards/") and name.endswith("/mean"))
        shorter = {name.split("/")[1]: points for name, points in rewards.items()}
        found = [lines_plot(shorter, "mean reward")] if shorter else []
        if not found and (loss := _lines(entries, lambda name: name == "loss")):
            found = [lines_plot(loss, "loss")]
        found += _credit_plots(entries)
        if found:
            plots[stage] = found
    return plots


def _credit_plots(entries: list[dict[str, Any]]) -> list[str]:
    """Groups without spread, weights where they follow a schedule, what PPO's critic explains; of supervised stages, λ."""
    flat = _lines(entries, lambda name: name.startswith("blend/zero_spread"))
    weights = _lines(entries, lambda name: name.startswith("blend/weight/"))
    critic = _lines(entries, lambda name: name == "ppo/explained_variance")
    flat = {name.removeprefix("blend/zero_spread").strip("/") or "all": points for name, points in flat.items()}
    shared = _lines(entries, lambda name: name in ("reweight/lambda", "reweight/share"))
    shared = {name.removeprefix("reweight/"): points for name, points in shared.items()}
    moving = {name.split("/")[2]: points for name, points in weights.items() if len({value for _, value in points}) > 1}
    apart = _lines(entries, lambda name: name == "sampling/sampling_logp_difference/mean")
    kinds = (
        (flat, "share of groups without spread"),
        (moving, "weight"),
        (shared, "perception's part of the loss"),
        (critic, "explained variance of the returns"),
        (apart, "vLLM from the trainer, nats"),
    )
    return [lines_plot(lines, label) for lines, label in kinds if lines]


def _lines(entries: list[dict[str, Any]], wanted: Any) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = defaultdict(list)
    for entry in entries:
        for name, value in entry.items():
            if wanted(name):
                lines[name].append((entry["step"], value))
    return lines


def _with_pictures(folder: RunFolder, sample: dict[str, Any]) -> dict[str, Any]:
    pictures = [base64.b64encode((folder.path / file).read_bytes()).decode() for file in sample["images"]]
    return {**sample, "pictures": pictures}
