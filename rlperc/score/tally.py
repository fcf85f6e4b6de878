"""What is counted while scores stream by. Its size does not depend on how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rlperc.reward.contract import Reward
from rlperc.score.intervals import ClusteredMean, mean_interval
from rlperc.score.summary import RewardSummary

# Distinct reasons kept for each reward; those that first appear later are counted together.
MOST_REASONS = 1000
LONGEST_REASON = 200
TOP_REASONS = 20
Groups = Sequence[Sequence[int]]


class Scored(NamedTuple):
    """What one reward made of a batch, as it stands in the file: a list each, in order."""

    scores: list[float | None]
    whys: list[str]
    statuses: list[str]


class Tally:
    """One reward, counted."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self._statuses: Counter[str] = Counter()
        self._scores = ClusteredMean()
        self._compared = self._zero_spread = 0
        self._reasons: Counter[str] = Counter()
        self._other_reasons = 0
        self._first_fault = ""

    def add(self, scored: Scored, groups: Groups | None, places: Sequence[str]) -> None:
        """Count a batch.

        Args:
            scored: what the reward made of it.
            groups: the places of each prompt's completions; None where the prompts are not known.
            places: where each completion stands in its file, for a person.
        """
        self._statuses.update(scored.statuses)
        self._count_reasons(scored.whys)
        if not self._first_fault:
            faults = (i for i, status in enumerate(scored.statuses) if status in ("error", "timeout"))
            first = next(faults, None)
            self._first_fault = "" if first is None else f"{places[first]}: {scored.whys[first][:LONGEST_REASON]}"
        scores = scored.scores
        if groups is None:
            for score in scores:
                if score is not None:
                    self._scores.add((score,))
            return
        for group in groups:
            values = [score for i in group if (score := scores[i]) is not None]
            self._scores.add(values)
            self._compared += len(values) > 1
            self._zero_spread += len(values) > 1 and min(values) == max(values)

    def summary(self, *, grouped: bool) -> RewardSummary:
        """Everything counted so far."""
        low, high = self.reward.range
        return RewardSummary(
            mean=self._scores.mean,
            interval=mean_interval(self._scores, low, high, clustered=grouped),
            values=self._statuses["value"],
            skips=self._statuses["skip"],
            errors=self._statuses["error"],
            timeouts=self._statuses["timeout"],
            zero_spread=self._zero_spread if grouped else None,
            compared_groups=self._compared if grouped else None,
            reasons=self._reasons.most_common(TOP_REASONS),
            other_reasons=self._other_reasons,
            first_fault=self._first_fault,
        )

    def _count_reasons(self, whys: Sequence[str]) -> None:
        for why, count in Counter(whys).items():
            text = why[:LONGEST_REASON]
            if not text:
                continue
            if text in self._reasons or len(self._reasons) < MOST_REASONS:
                self._reasons[text] += count
            else:
                self._other_reasons += count
