"""What is known of a whole scored file, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rlperc.score.intervals import Interval

SHOWN_REASONS = 3


@dataclass(frozen=True)
class RewardSummary:
    """One reward over a whole file.

    `mean` and its 95 % `interval` are over all scores, with those that `on_error: zero` gives. `reasons` are the 20
    most frequent ones, and `other_reasons` counts those beyond the first 1,000 texts. `zero_spread` of the
    `compared_groups`, those with at least two scores, have equal scores: no advantage comes of them. None where the
    prompts are not known.
    """

    mean: float | None
    interval: Interval | None
    values: int
    skips: int
    errors: int
    timeouts: int
    zero_spread: int | None
    compared_groups: int | None
    reasons: list[tuple[str, int]]
    other_reasons: int
    first_fault: str


@dataclass(frozen=True)
class Summary:
    """A file of completions, scored. `groups` is None where the prompts are not known.

    `unreadable` completions have a tag that is unclosed or repeated.
    """

    completions: int = 0
    unreadable: int = 0
    groups: int | None = None
    rewards: dict[str, RewardSummary] = field(default_factory=dict)


def summary_text(summary: Summary) -> str:
    """A line for each reward, their most frequent reasons, and what could not be read."""
    table = [_cells(name, one) for name, one in summary.rewards.items()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    for name, one in summary.rewards.items():
        lines += [f"{name}: {text}" for text in _remarks(one)]
    return "\n".join([*lines, _counted(summary)])


def gaps_text(summary: Summary) -> list[str]:
    """A line for each reward that left completions out, with the reasons for that, and what could not be read."""
    lines = []
    for name, one in summary.rewards.items():
        gaps = {"skipped": one.skips, "errors": one.errors, "timeouts": one.timeouts}
        if any(gaps.values()):
            counts = ", ".join(f"{count} {what}" for what, count in gaps.items() if count)
            lines.append(f"{name}: {'warning: it scored nothing: ' if not one.values else ''}{counts}")
        if one.first_fault:
            lines.append(f"{name}: the first error: {printable(one.first_fault)}")
    return [*lines, _counted(summary)]


def _counted(summary: Summary) -> str:
    groups = "" if summary.groups is None else f" of {summary.groups} prompts"
    return f"{summary.completions} completions{groups}, {summary.unreadable} unreadable (a tag is unclosed or repeated)"


def _cells(name: str, one: RewardSummary) -> list[str]:
    mean = "mean –" if one.mean is None else f"mean {one.mean:.4f}"
    interval = "" if one.interval is None else f" [{one.interval[0]:.4f}, {one.interval[1]:.4f}]"
    counts = [f"values {one.values}", f"skips {one.skips}", f"errors {one.errors}", f"timeouts {one.timeouts}"]
    spread = "" if one.zero_spread is None else f"zero spread {one.zero_spread} of {one.compared_groups} groups"
    return [name, mean + interval, *counts, spread]


def _remarks(one: RewardSummary) -> Iterator[str]:
    if not one.values:
        yield "warning: it scored nothing; every row is another reward's, or it failed"
    for text, count in one.reasons[:SHOWN_REASONS]:
        yield f"{count} x {printable(text)}"
    if one.other_reasons:
        yield f"{one.other_reasons} x a reason that is not among the first 1,000"
    if one.first_fault:
        yield f"the first error: {printable(one.first_fault)}"


def printable(text: str) -> str:
    """Text that a model or a reward wrote, fit for a terminal: no control characters, no lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
