"""Learning curves as SVG text, drawn by matplotlib, to stand inside a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rlperc.report.numbers import MEASURES

Point = tuple[float, float]
COLORS = {"a": "#1b6ca8", "a_p": "#c8553d", "a_r": "#5a8f4e"}


def curve_plot(points: Sequence[dict[str, Any]]) -> str:
    """`a`, `a_p` and `a_r` over steps, with their intervals as bands."""
    figure, axes = _axes("percent", width=6.4)
    for name, color in COLORS.items():
        found = [point for point in points if point.get(name) is not None]
        if not found:
            continue
        steps = [point["step"] for point in found]
        axes.plot(steps, [100 * p[name] for p in found], color=color, marker="o", ms=3, label=f"{name}: {MEASURES[name]}")
        low, high = ([100 * p[f"{name}_interval"][end] for p in found] for end in (0, 1))
        axes.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return _svg(figure)


def lines_plot(lines: dict[str, list[Point]], label: str) -> str:
    """Any values over steps."""
    figure, axes = _axes(label, width=6.4)
    for name, points in lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1.2)
    if len(lines) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return _svg(figure)


def _axes(label: str, width: float) -> tuple[Any, Any]:
    # A second of imports that only pages need.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
