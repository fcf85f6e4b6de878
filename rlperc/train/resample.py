"""Dynamic sampling (DAPO, arXiv 2503.14476): groups that teach nothing give their place to other prompts.

Every process fills its own groups, and all of them draw as many, so that what they gather has one size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlperc.reward.contract import Ranges

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Drawn:
    """One process's completions, and the rewards of all processes.

    `rows`, each list in `generated`, in `marks` and each of `columns` have an entry for each of this process's completions;
    what is no list in `generated` (TRL's answer to `_generate`) belongs to no completion. `rewards`: (B of all processes, K).
    """

    rows: list[dict[str, Any]]
    generated: tuple[Any, ...]
    rewards: Tensor
    marks: list[Ranges]
    columns: Columns


@dataclass(frozen=True)
class Sharing:
    """Groups of so many completions, as many whole groups in each of so many processes; this is the one numbered so."""

    group_size: int
    processes: int
    process: int


def to_replace(dead: Tensor, processes: int) -> tuple[list[list[int]], int]:
    """The dead groups of each process, by their place in it, and how many groups every process should draw.

    Args:
        dead: which groups teach nothing, those of a process together. Shape: (groups,), boolean.
        processes: how many share them.
    """
    by_process = dead.view(processes, -1)
    places = [torch.nonzero(row).flatten().tolist() for row in by_process]
    return places, max(len(one) for one in places)


def fill(old: Drawn, new: Drawn, places: list[list[int]], alive: Tensor, group_size: int, process: int) -> Drawn:
    """Put new groups that differ in the places of dead ones.

    Args:
        old: what was drawn first.
        new: what was drawn now, as many groups in each process.
        places: the dead groups of each process.
        alive: which of the new groups differ, those of a process together. Shape: (new groups,), boolean.
        group_size: completions of one prompt.
        process: whose rows `old` and `new` hold.
    """
    rewards = old.rewards.view(len(places), -1, group_size, old.rewards.size(1)).clone()
    fresh = new.rewards.view(len(places), -1, group_size, new.rewards.size(1))
    moves: list[tuple[int, int]] = []
    for index, (dead, living) in enumerate(zip(places, alive.view(len(places), -1), strict=True)):
        pairs = list(zip(dead, torch.nonzero(living).flatten().tolist(), strict=False))
        for to, taken in pairs:
            rewards[index, to] = fresh[index, taken]
        if index == process:
            moves = pairs

    def moved(left: list[Any], right: list[Any]) -> list[Any]:
        whole = list(left)
        for to, taken in moves:
            whole[to * group_size : (to + 1) * group_size] = right[taken * group_size : (taken + 1) * group_size]
        return whole

    size = len(old.rows)
    generated = tuple(
        moved(left, right) if isinstance(left, list) and len(left) == size else left
        for left, right in zip(old.generated, new.generated, strict=True)
    )
    return replace(
        old,
        rows=moved(old.rows, new.rows),
        generated=generated,
        rewards=rewards.view_as(old.rewards),
        marks=moved(old.marks, new.marks),
        columns={name: moved(_column(old, name), _column(new, name)) for name in {**old.columns, **new.columns}},
    )


def _column(drawn: Drawn, name: str) -> list[Any]:
    """What a reward logged; Nones where it logged nothing this time."""
    return drawn.columns.get(name) or [None] * len(drawn.rows)


def draw_rows(count: int, available: int, seed: Sequence[int]) -> list[int]:
    """Indices of `count` rows, none twice where there are enough; the same for the same seed."""
    return [int(i) for i in np.random.default_rng(list(seed)).choice(available, size=count, replace=count > available)]


def draw_alive(
    rows: list[dict[str, Any]],
    draw: Callable[[list[dict[str, Any]]], Drawn],
    dead: Callable[[Tensor], Tensor],
    available: Sequence[dict[str, Any]],
    rounds: int,
    sharing: Sharing,
    seed: Sequence[int],
) -> tuple[Drawn, int]:
    """Draw completions, and again for rows drawn at random in the place of groups that teach nothing.

    Args:
        rows: of this process, each as often as its group is large.
        draw: completes and scores rows.
        dead: which groups teach nothing, from the rewards of all processes.
        available: the rows to draw from.
        rounds: at most; groups that are still dead then stay.
        sharing: how the groups lie among the processes.
        seed: the same gives the same rows.

    Returns:
        What was drawn, and how many completions each process drew again.
    """
    drawn, again = draw(rows), 0
    for round_ in range(rounds):
        places, count = to_replace(dead(drawn.rewards), sharing.processes)
        if not count:
            break
        chosen = draw_rows(count, len(available), (*seed, sharing.process, round_))
        fresh = draw([dict(row) for row in map(available.__getitem__, chosen) for _ in range(sharing.group_size)])
        drawn = fill(drawn, fresh, places, ~dead(fresh.rewards), sharing.group_size, sharing.process)
        again += len(fresh.rows)
    return drawn, again
