"""Numbers as people read them, shared by the page, the terminal and the card."""

from __future__ import annotations

from typing import Any

MEASURES = {
    "a": "end to end",
    "a_p": "perception",
    "a_p_partial": "perception with partial credit",
    "a_r": "reasoning given true perception",
    "a_o": "the answer follows from the own perception, right or wrong",
    "blind_none": "end to end without an image",
    "blind_blank": "with a grey one",
    "blind_other": "with another row's",
}
MODELS = {
    "random": "random weights",
    "start": "the model as given",
    "before": "the model that enters RL",
    "after": "the final model",
}
STATUSES = ("value", "skip", "error", "timeout", "nan", "inf")


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f}"


def with_interval(measured: dict[str, Any], name: str) -> str:
    """`71.2 [68.3, 73.9]`, with the number of rows where these are not all; a dash where it was not measured."""
    if measured.get(name) is None:
        return "–"
    low, high = measured[f"{name}_interval"]
    rows = f", {measured[f'{name}_rows']} rows" if f"{name}_rows" in measured else ""
    return f"{percent(measured[name])} [{percent(low)}, {percent(high)}]{rows}"


def measured(summary: dict[str, Any]) -> list[str]:
    """The measures that any model has. Partial credit where it says more than none does."""
    models = summary["eval"].values()
    found = [name for name in MEASURES if any(one.get(name) is not None for one in models)]
    partial = any(one.get("a_p_partial") != one.get("a_p") for one in models)
    return [name for name in found if partial or name != "a_p_partial"]


def table(summary: dict[str, Any]) -> list[list[str]]:
    """The measurements: a header with the models, then a line for each measure; nothing where no model was measured."""
    models = summary["eval"]
    if not models:
        return []
    lines = [[name, *(with_interval(found, name) for found in models.values())] for name in measured(summary)]
    return [["", *models], *lines, ["rows", *(str(found["n"]) for found in models.values())]]


def change_table(changes: dict[str, Any]) -> list[list[str]]:
    """What became of each measure on the same rows: points with their interval, rows that rose and fell, and chance."""
    lines = []
    for name, change in changes.items():
        points = f"{100 * change['difference']:+.1f}"
        if change["interval"]:
            low, high = change["interval"]
            points += f" [{100 * low:+.1f}, {100 * high:+.1f}]"
        lines.append([name, points, str(change["rose"]), str(change["fell"]), f"{change['p']:.2g}"])
    return [["measure", "points", "rose", "fell", "p"], *lines]


def coupling_table(coupling: dict[str, Any]) -> list[list[str]]:
    """Within-group correlations of every reward (lines) with every reward (columns, numbered)."""
    names = coupling["rewards"]
    lines = [
        [f"{number} {name}", *("–" if value is None else f"{value:.2f}" for value in row)]
        for number, (name, row) in enumerate(zip(names, coupling["matrix"], strict=True), start=1)
    ]
    return [["reward", *(str(number) for number in range(1, len(names) + 1))], *lines]


CREDIT = (
    "no spread: groups in which it tells no completions apart; rescues: groups in which the outcome has no spread and it has; "
    "opposes: completions on the other side of their group's mean than by the outcome, of those where both differ from it; "
    "variance: its part of that of the sum that was trained on"
)


def credit_table(coupling: dict[str, Any]) -> list[list[str]]:
    """What each reward (lines) decides in the groups, in percent; `CREDIT` says what the columns are."""
    names, outcome = coupling["rewards"], coupling["roles"]["outcome"]
    opposed = dict(zip(names, coupling["opposed"][names.index(outcome)], strict=True)) if outcome else {}
    lines = []
    for name in names:
        beside = (coupling["rescued"][name], opposed[name]) if outcome and name != outcome else (None, None)
        shares = coupling["flat"][name], *beside, coupling["share"].get(name)
        lines.append([name, *("–" if share is None else f"{100 * share:.0f}" for share in shares)])
    return [["reward", "no spread", "rescues", "opposes", "variance"], *lines]


def rewards_table(tallies: dict[str, Any]) -> list[list[str]]:
    """What came of every completion, for each reward of a stage; the statuses that occurred."""
    statuses = [status for status in STATUSES if any(tally["counts"].get(status) for tally in tallies.values())]
    lines = [
        [name, *(str(tally["counts"].get(status, 0)) for status in statuses), f"{tally['seconds']:.1f}"]
        for name, tally in tallies.items()
    ]
    return [["reward", *statuses, "seconds"], *lines]


def faults_table(tallies: dict[str, Any]) -> list[list[str]]:
    """Why the rewards of a stage failed, and how often; no lines but the header where none did."""
    lines = [[name, str(times), why] for name, tally in tallies.items() for why, times in tally["faults"].items()]
    return [["reward", "times", "because"], *lines]


def legend(summary: dict[str, Any]) -> str:
    """What the table's words stand for."""
    meanings = {
        **{name: MEASURES[name] for name in measured(summary)},
        **{label: MODELS[label] for label in summary["eval"] if label in MODELS},
    }
    return "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items())
