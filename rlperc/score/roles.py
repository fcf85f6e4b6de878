"""Which of some rewards is the outcome, and which say whether a response saw right and thought right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rlperc.reward.contract import Reward

EXAMPLES = {"outcome": "answer_number", "perception": "perception_exact", "reasoning": "answer_follows"}
"""Rewards that would do, for the roles that correlations are taken with."""


class Roles(NamedTuple):
    """Places among the rewards. A response is right by a reward that is at the upper end of its range.

    `perception` knows the truth (it reads one of the columns `LABELS`), `reasoning` is one that credits reasoning, such as
    `answer_follows`; `surrogates` credit perception and know no truth.
    """

    outcome: int | None = None
    perception: int | None = None
    reasoning: int | None = None
    surrogates: tuple[int, ...] = ()
    highs: tuple[float, ...] = ()
    """The upper end of each reward's range."""

    def named(self, names: Sequence[str]) -> dict[str, Any]:
        """As JSON has it."""
        single = {"outcome": self.outcome, "perception": self.perception, "reasoning": self.reasoning}
        found = {role: None if place is None else names[place] for role, place in single.items()}
        return {**found, "surrogates": [names[place] for place in self.surrogates]}


def roles_of(rewards: Sequence[Reward | None]) -> Roles:
    """The roles of some rewards; None is one of which nothing is known.

    Of several that know the truth, `perception_exact` comes first, then what reads p*: what is measured is whether all was seen.
    """
    places = range(len(rewards))
    known = {k: reward for k in places if (reward := rewards[k]) is not None}
    seeing = [k for k, reward in known.items() if reward.credits == "perception"]
    labelled = [k for k in seeing if known[k].is_labelled]
    labelled.sort(key=lambda k: (known[k].name != "perception_exact", "perception" not in known[k].columns))
    return Roles(
        outcome=next((k for k, reward in known.items() if reward.credits == "outcome"), None),
        perception=labelled[0] if labelled else None,
        reasoning=next((k for k, reward in known.items() if reward.credits == "reasoning"), None),
        surrogates=tuple(k for k in seeing if k not in labelled),
        highs=tuple(reward.range[1] if reward is not None else float("inf") for reward in rewards),
    )
