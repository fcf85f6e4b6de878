"""Scenes made for a question and for an answer that was drawn before them.

Within each kind of question each answer is as likely as the others, whatever else the question says: nothing is rejected
that could tilt them. The other objects of a scene often share a trait with what is asked for, so that no trait alone tells.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from rlperc.worlds.scene_questions import PLACE, SIDES, matches

# No count is asked for beyond this.
MOST = 9

Look = dict[str, Any]
Asked = tuple[dict[str, Any], list[Look]]  # (what the task asks, the objects in reading order)
Cell = tuple[int, int]  # (row, column), from 1
T = TypeVar("T")
Random = np.random.Generator


class Space(NamedTuple):
    """What scenes may hold."""

    grid: int
    fewest: int
    most: int
    looks: list[Look]
    """All ways an object may look."""
    described: dict[tuple[str, ...], list[Look]]
    """All descriptions, by the keys they give; a key of which there is but one value tells nothing and is in none."""

    @property
    def telling(self) -> list[str]:
        """What objects differ by."""
        return [keys[0] for keys in self.described if len(keys) == 1]

    @property
    def cells(self) -> list[Cell]:
        """All places."""
        return [(row, column) for row in range(1, self.grid + 1) for column in range(1, self.grid + 1)]


Template = Callable[[Random, Space], Asked]


def space_of(grid: int, objects: tuple[int, int], words: Mapping[str, Sequence[str]]) -> Space:
    """What scenes may hold: how many objects at least and at most, and the words in use for each of `LOOKS`."""
    looks = _combinations(words, tuple(words))
    telling = [key for key in words if len(words[key]) > 1]
    subsets = itertools.chain(*(itertools.combinations(telling, length) for length in range(1, len(telling) + 1)))
    return Space(grid, *objects, looks, {keys: _combinations(words, keys) for keys in subsets})


def _combinations(words: Mapping[str, Sequence[str]], keys: tuple[str, ...]) -> list[Look]:
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(words[key] for key in keys))]


def templates(space: Space, hops: int) -> list[Template]:
    """The kinds of question of so many steps that have more than one answer in this space."""
    if hops == 1:
        direct: list[Template] = [_look_at, _count, _exists]
        return [*direct, _where] if space.grid > 1 else direct
    steps = hops - 2
    made: list[Template] = [functools.partial(_look_beside, steps=steps + 1), functools.partial(_alike, steps=steps)]
    if len(_line_counts(space, steps)) > 1:
        made.append(functools.partial(_in_line, steps=steps))
    if hops == 2 and any(_pairs(space, key) for key in space.telling):
        made.append(_same)
    if _pairs(space):
        made.append(_side if hops == 2 else _more)
    return made


# --- drawing at random -------------------------------------------------------------------------------------------


def _pick(random: Random, options: Sequence[T]) -> T:
    return options[int(random.integers(len(options)))]


def _between(random: Random, low: int, high: int) -> int:
    return int(random.integers(low, high + 1))


def _some(random: Random, options: Sequence[T], count: int) -> list[T]:
    """So many of the options, none twice."""
    return [options[i] for i in random.permutation(len(options))[:count].tolist()]


def _dressed(random: Random, looks: Sequence[Look], count: int, *near: Look) -> list[Look]:
    """So many looks, any of them twice or more; about half share a trait with one of the descriptions, if any can."""
    alike = [look for of in near for look in looks if not of.items().isdisjoint(look.items())]
    pool = [*looks, *alike * (len(looks) // (len(alike) + 1))]
    return [pool[i] for i in random.integers(len(pool), size=count).tolist()] if count else []


def _scene(looks: Sequence[Look], cells: Sequence[Cell]) -> list[Look]:
    placed = [{**look, "row": row, "column": column} for look, (row, column) in zip(looks, cells, strict=True)]
    return sorted(placed, key=lambda thing: (thing["row"], thing["column"]))


def _like(looks: Sequence[Look], of: Look) -> list[Look]:
    return [look for look in looks if matches(look, of)]


def _unlike(looks: Sequence[Look], of: Look) -> list[Look]:
    return [look for look in looks if not matches(look, of)]


def _described(random: Random, space: Space, without: str = "") -> Look:
    """A description that does not give one of the keys."""
    return _pick(random, space.described[_pick(random, [keys for keys in space.described if without not in keys])])


def _pairs(space: Space, without: str = "") -> list[tuple[str, ...]]:
    """By which keys two descriptions may differ and still leave looks for the other objects."""
    return [keys for keys, options in space.described.items() if without not in keys and len(options) > 2]


def _two(random: Random, space: Space, without: str = "") -> tuple[Look, Look]:
    """Two descriptions by the same keys, so that nothing is both."""
    one, other = _some(random, space.described[_pick(random, _pairs(space, without))], 2)
    return one, other


def _path(random: Random, space: Space, steps: int) -> tuple[list[str], list[Cell]]:
    """Sides to go to and the places on the way, which are all different; any start is as likely as any other."""
    sides = [_pick(random, list(SIDES))] if steps else []
    for _ in range(steps - 1):
        down, right = SIDES[sides[-1]]
        turns = [side for side, (d, r) in SIDES.items() if d * down + r * right == 0]
        sides.append(_pick(random, turns + sides[-1:] * (space.grid > steps)))
    offsets = list(itertools.accumulate((SIDES[side] for side in sides), lambda a, b: (a[0] + b[0], a[1] + b[1]), initial=(0, 0)))
    row, column = (_between(random, 1 - min(axis), space.grid - max(axis)) for axis in zip(*offsets, strict=True))
    return sides, [(row + down, column + right) for down, right in offsets]


def _others(random: Random, space: Space, path: Sequence[Cell], count: int) -> list[Cell]:
    """The path, and places beside it until there are so many."""
    return [*path, *_some(random, [cell for cell in space.cells if cell not in path], count - len(path))]


# --- one step ----------------------------------------------------------------------------------------------------


def _look_at(random: Random, space: Space) -> Asked:
    count = _between(random, space.fewest, space.most)
    cells = _some(random, space.cells, count)
    task = {"kind": "attribute", "attribute": _pick(random, space.telling), "of": dict(zip(PLACE, cells[0], strict=True))}
    return task, _scene(_dressed(random, space.looks, count), cells)


def _where(random: Random, space: Space) -> Asked:
    of, count = _described(random, space), _between(random, space.fewest, space.most)
    looks = [*_dressed(random, _like(space.looks, of), 1), *_dressed(random, _unlike(space.looks, of), count - 1, of)]
    task = {"kind": "attribute", "attribute": _pick(random, PLACE), "of": of}
    return task, _scene(looks, _some(random, space.cells, count))


def _count(random: Random, space: Space) -> Asked:
    of, seen = _described(random, space), _between(random, 0, min(MOST, space.most))
    return {"kind": "count", "of": of}, _with(random, space, of, seen)


def _exists(random: Random, space: Space) -> Asked:
    of, seen = _described(random, space), _between(random, 0, 1)
    return {"kind": "exists", "of": of}, _with(random, space, of, seen)


def _with(random: Random, space: Space, of: Look, seen: int) -> list[Look]:
    """A scene in which so many objects are as described."""
    count = _between(random, max(space.fewest, seen), space.most)
    looks = [*_dressed(random, _like(space.looks, of), seen), *_dressed(random, _unlike(space.looks, of), count - seen, of)]
    return _scene(looks, _some(random, space.cells, count))


# --- two steps and three -----------------------------------------------------------------------------------------


def _look_beside(random: Random, space: Space, steps: int) -> Asked:
    key = _pick(random, space.telling)
    of = _pick(random, space.described[_pick(random, [keys for keys in space.described if keys != (key,)])])
    sides, path = _path(random, space, steps)
    count = _between(random, space.fewest, space.most)
    value = _pick(random, sorted({look[key] for look in space.looks}))
    rest = _unlike(space.looks, of)
    looks = [
        *_dressed(random, _like(space.looks, of), 1),
        *_dressed(random, rest, steps - 1, of),
        *_dressed(random, _like(rest, {key: value}), 1),
        *_dressed(random, rest, count - steps - 1, of),
    ]
    task = {"kind": "attribute", "attribute": key, "of": of, "steps": sides}
    return task, _scene(looks, _others(random, space, path, count))


def _line_counts(space: Space, steps: int) -> list[tuple[int, int, int]]:
    """What may be the number of others in a line, each with the fewest and the most objects that a scene then has."""
    outside = space.grid * (space.grid - 1) - steps
    ranges = [
        (seen, max(space.fewest, 1 + steps + seen), min(space.most, 1 + steps + seen + outside)) for seen in range(space.grid)
    ]
    return [(seen, low, high) for seen, low, high in ranges if low <= high]


def _in_line(random: Random, space: Space, steps: int) -> Asked:
    """How many others are in the row or column of an object, or of the one beside it in another row or column."""
    of, (sides, path) = _described(random, space), _path(random, space, steps)
    axis = _pick(random, (0, 1)) if not sides else int(sides[0] in ("left", "right"))
    seen, low, high = _pick(random, _line_counts(space, steps))
    count = _between(random, low, high)
    free = [cell for cell in space.cells if cell not in path]
    line = [cell for cell in free if cell[axis] == path[-1][axis]]
    outside = [cell for cell in free if cell[axis] != path[-1][axis]]
    cells = [*path, *_some(random, line, seen), *_some(random, outside, count - len(path) - seen)]
    looks = [*_dressed(random, _like(space.looks, of), 1), *_dressed(random, _unlike(space.looks, of), count - 1, of)]
    return _steps({"kind": "like", "attribute": PLACE[axis], "of": of}, sides), _scene(looks, cells)


def _alike(random: Random, space: Space, steps: int) -> Asked:
    """How many others look like an object, or like the one beside it, in one respect."""
    key = _pick(random, space.telling)
    of, (sides, path) = _described(random, space, without=key), _path(random, space, steps)
    seen = _between(random, 0, min(MOST, space.most - 1 - steps))
    count = _between(random, max(space.fewest, 1 + steps + seen), space.most)
    rest = _unlike(space.looks, of)
    found = _dressed(random, _like(space.looks, of), 1)
    value = {key: found[0][key]}
    if steps:
        found += _dressed(random, rest if seen else _unlike(rest, value), 1)
        value = {key: found[1][key]}
    more = seen - sum(matches(look, value) for look in found[:-1])
    looks = [
        *found,
        *_dressed(random, _like(rest, value), more, of),
        *_dressed(random, _unlike(rest, value), count - len(found) - more, of),
    ]
    return _steps({"kind": "like", "attribute": key, "of": of}, sides), _scene(looks, _others(random, space, path, count))


def _steps(task: dict[str, Any], sides: list[str]) -> dict[str, Any]:
    return {**task, "steps": sides} if sides else task


def _same(random: Random, space: Space) -> Asked:
    key = _pick(random, [key for key in space.telling if _pairs(space, key)])
    of, other = _two(random, space, without=key)
    count = _between(random, space.fewest, space.most)
    (one,) = _dressed(random, _like(space.looks, of), 1)
    agree = _pick(random, (_like, _unlike))
    looks = [
        one,
        *_dressed(random, agree(_like(space.looks, other), {key: one[key]}), 1),
        *_dressed(random, _unlike(_unlike(space.looks, of), other), count - 2, of, other),
    ]
    return {"kind": "same", "attribute": key, "of": of, "and": other}, _scene(looks, _some(random, space.cells, count))


def _side(random: Random, space: Space) -> Asked:
    of, other = _two(random, space)
    side, count = _pick(random, list(SIDES)), _between(random, space.fewest, space.most)
    axis = int(side in ("left", "right"))
    first, second = _some(random, range(1, space.grid + 1), 2)
    across = random.integers(1, space.grid + 1, size=2).tolist()
    pair = [(line, place) if axis == 0 else (place, line) for line, place in zip((first, second), across, strict=True)]
    looks = [
        *_dressed(random, _like(space.looks, of), 1),
        *_dressed(random, _like(space.looks, other), 1),
        *_dressed(random, _unlike(_unlike(space.looks, of), other), count - 2, of, other),
    ]
    return {"kind": "side", "side": side, "of": of, "and": other}, _scene(looks, _others(random, space, pair, count))


def _more(random: Random, space: Space) -> Asked:
    of, other = _two(random, space)
    count = _between(random, space.fewest, space.most)
    fewer = _between(random, 0, min(MOST - 1, (count - 1) // 2))
    more = _between(random, fewer + 1, min(MOST, count - fewer))
    # Yes, and no in two ways: the other is more, or there are as many of both.
    one, two = _pick(random, ((more, fewer), (more, fewer), (fewer, more), (fewer, fewer)))
    looks = [
        *_dressed(random, _like(space.looks, of), one),
        *_dressed(random, _like(space.looks, other), two),
        *_dressed(random, _unlike(_unlike(space.looks, of), other), count - one - two, of, other),
    ]
    return {"kind": "more", "of": of, "and": other}, _scene(looks, _some(random, space.cells, count))
