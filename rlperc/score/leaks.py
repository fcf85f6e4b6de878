"""What an answer is worth that never saw the image: whether the questions of a world give it away."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from rlperc.reward.contract import Reward
from rlperc.words.response import Completion, Tags, write_response
from rlperc.words.response import read_response_once as read_response
from rlperc.worlds import Item

TRIED = 5
"""The most frequent answers, which are tried as constants, and the answers of so many other items, tried as guesses."""
KIND = ("kind", "attribute", "axis")
"""What of a task makes a kind of question, where it is named."""


class Leak(NamedTuple):
    """One kind of question. Fractions 0..1 of `items` held-out ones."""

    kind: str
    """As the task names it, or the question's text."""
    items: int
    answers: int
    """Different gold answers among them."""
    majority: float
    """Right with the best of the answers that were most frequent in other items: knows the question, and no image."""
    chance: float
    """Right with the gold answer of another item of this kind: knows how answers are spread, and nothing else."""


def leaks(known: Iterable[Item], held_out: Iterable[Item], reward: Reward) -> list[Leak]:
    """For each kind of question, how far a constant answer gets: the best on `held_out` of those most frequent in `known`.

    Args:
        known: of one split.
        held_out: of another.
        reward: verifies the answers.
    """
    constants = {kind: Counter(one.answer for one in items).most_common(TRIED) for kind, items in _by_kind(known).items()}
    found = []
    for kind, items in _by_kind(held_out).items():
        tried = [fmean(_right(reward, one, answer) for one in items) for answer, _ in constants.get(kind, [])]
        shifts = range(1, min(TRIED, len(items) - 1) + 1)
        guesses = [_right(reward, one, items[(i + shift) % len(items)].answer) for shift in shifts for i, one in enumerate(items)]
        answers = len({one.answer for one in items})
        found.append(Leak(kind, len(items), answers, max(tried, default=0.0), fmean(guesses) if guesses else 0.0))
    return sorted(found)


def _by_kind(items: Iterable[Item]) -> dict[str, Sequence[Item]]:
    found: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        task = json.loads(item.task)
        found[" ".join(task[word] for word in KIND if word in task) or item.question].append(item)
    return dict(found)


def _right(reward: Reward, item: Item, answer: str) -> float:
    columns = {"answer": item.answer, "perception": item.perception, **item.columns}
    score = reward.function(_answering(answer), **{name: columns[name] for name in reward.columns if name in columns})
    return float(getattr(score, "value", score) or 0.0)


def _answering(answer: str) -> Completion:
    return read_response(write_response("", "", answer), Tags())
