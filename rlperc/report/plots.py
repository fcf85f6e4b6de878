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
    figure, plot = axes("percent", width=6.4)
    for name, color in COLORS.items():
        found = [point for point in points if point.get(name) is not None]
        if not found:
            continue
        steps = [point["step"] for point in found]
        plot.plot(steps, [100 * p[name] for p in found], color=color, marker="o", ms=3, label=f"{name}: {MEASURES[name]}")
        low, high = ([100 * p[f"{name}_interval"][end] for p in found] for end in (0, 1))
        plot.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return svg(figure)


def lines_plot(lines: dict[str, list[Point]], label: str) -> str:
    """Any values over steps."""
    figure, plot = axes(label, width=6.4)
    for name, points in lines.items():
        plot.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1.2)
    if len(lines) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return svg(figure)


def axes(label: str, width: float) -> tuple[Any, Any]:
    """A figure and its axes, over steps.

    Args:
        label: of what goes upwards.
        width: in inches.
    """
    # A second of imports that only pages need.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 2.8), layout="constrained")
    plot = figure.add_subplot()
    plot.set_xlabel("step", fontsize=9)
    plot.set_ylabel(label, fontsize=9)
    plot.tick_params(labelsize=8)
    plot.grid(alpha=0.25)
    plot.spines[["top", "right"]].set_visible(False)
    return figure, plot


def svg(figure: Any) -> str:
    """The figure as text that stands in a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
