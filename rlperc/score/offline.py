"""Coupling of the rewards of a scored file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlperc.errors import DataError, RecipeError
from rlperc.reward.contract import Reward
from rlperc.score.batches import Batch
from rlperc.score.choose import Candidate, choose
from rlperc.score.moments import Moments
from rlperc.score.roles import EXAMPLES, roles_of
from rlperc.score.tally import Scored

AT_ONCE = 4096
"""Completions that are taken in together."""


class Collected:
    """The scores of a file's groups: eight bytes for each."""

    def __init__(self, rewards: Sequence[Reward]) -> None:
        self.rewards = rewards
        self.names = [reward.name for reward in rewards]
        self.roles = roles_of(rewards)
        self.groups: list[NDArray[np.float64]] = []

    def add(self, batch: Batch, scored: list[Scored]) -> None:
        """Take in a batch. Raises DataError where the prompts are not known."""
        if batch.groups is None:
            why = "the rows do not say which completions belong together, and rewards are compared within a prompt"
            raise DataError("coupling", why, '"prompt_id": … in every row')
        values = np.array([[np.nan if value is None else value for value in one.scores] for one in scored], dtype=float).T
        self.groups += [values[group.start : group.stop] for group in batch.groups]

    def report(self) -> dict[str, Any]:
        """What `Moments` reports, over all groups; the weights are equal, since a file was not trained on."""
        if max(map(len, self.groups)) < 2:
            raise DataError("coupling", "no prompt has two completions, and rewards are compared within one", "several of each")
        moments = Moments(self.names, self.roles)
        for size in sorted({len(group) for group in self.groups}):
            alike = [group for group in self.groups if len(group) == size]
            at_once = max(1, AT_ONCE // size)
            for start in range(0, len(alike), at_once):
                moments.add(np.concatenate(alike[start : start + at_once]), size, [1.0] * len(self.names))
        return moments.report()

    def choose(self) -> list[Candidate]:
        """The surrogates, best first. Raises RecipeError where there are none, or nobody knows the truth."""
        if self.roles.perception is None:
            raise RecipeError("--choose", "none of the rewards knows what is in the image", "perception_exact among the rewards")
        if not self.roles.surrogates:
            raise RecipeError("--choose", "none of the rewards is a surrogate", "agreement or blind_solver among the rewards")
        return choose(self.groups, self.names, self.roles)


def report_text(report: dict[str, Any]) -> list[str]:
    """Lines for a terminal."""
    names, roles = report["rewards"], report["roles"]
    width = max(map(len, names))
    lines = [f"{report['groups']} groups; correlations within groups (over all completions):"]
    against = [(role, names.index(roles[role])) for role in ("outcome", "perception", "reasoning") if roles[role]]
    headings = [f"{role} {names[place]}" for role, place in against]
    lines.append("  ".join([" " * width, *headings]))
    for row, name in enumerate(names):
        cells = [f"{_shown(report['matrix'][row][k])} ({_shown(report['overall'][row][k])})" for _, k in against]
        aligned = [cell.ljust(len(heading)) for cell, heading in zip(cells, headings, strict=True)]
        lines.append("  ".join([name.ljust(width), *aligned]).rstrip())
    lines += ["", *(_line(name, report, roles) for name in names)]
    lines += null_text(report["null"])
    return lines + [f"no reward says {role}: such as {example}" for role, example in EXAMPLES.items() if roles[role] is None]


def null_text(null: dict[str, Any]) -> list[str]:
    """The outcome's coupling as rights and wrongs, beside what independence would give."""
    if not null:
        return []
    means = ", ".join(f"{role} {100 * null[role]:.1f} %" for role in ("outcome", "perception", "reasoning"))
    both = f"both by chance {100 * null['perception'] * null['reasoning']:.1f} %"
    lines = ["", f"right, of {null['n']} completions: {means}; {both}"]
    for where in ("within", "overall"):
        found = [
            f"with {role} {_shown(one['observed'])} (independent: {_shown(one['independent'])})"
            for role, one in null[where].items()
        ]
        lines.append(f"the outcome correlates {'within groups' if where == 'within' else 'overall'} {'; '.join(found)}")
    return lines


def training_text(report: dict[str, Any]) -> list[str]:
    """Lines for a report of a training, to stand below its tables."""
    return [*null_text(report["null"]), *alarm_text(report)]


def alarm_text(report: dict[str, Any]) -> list[str]:
    """The surrogates of a training that rose while the outcome did not."""
    return [
        f"the surrogate '{name}' rose by batch {batch} of completions, and the outcome did not"
        for name, batch in report["alarms"].items()
    ]


def _line(name: str, report: dict[str, Any], roles: dict[str, Any]) -> str:
    parts = [f"no spread in {100 * report['flat'][name]:.0f} % of groups"]
    if roles["outcome"] and name != roles["outcome"]:
        opposed = report["opposed"][report["rewards"].index(name)][report["rewards"].index(roles["outcome"])]
        parts.append(f"rescues {100 * report['rescued'][name]:.0f} %")
        parts.append(f"against the outcome in {'–' if opposed is None else f'{100 * opposed:.0f} %'} of those where both differ")
    if name in report["share"]:
        share = report["share"][name]
        opposing = ", which it lessens: it goes against the others" if share < -0.005 else ""
        parts.append(f"{100 * share:.0f} % of the variance of the plain sum{opposing}")
    return f"{name}: {', '.join(parts)}"


def _shown(value: float | None) -> str:
    return "  –  " if value is None else f"{value:+.2f}"
