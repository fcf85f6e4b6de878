"""Dynamic sampling: which groups are drawn again, and that all there is of a completion moves together."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.train.resample import Drawn, draw_rows, fill, to_replace

quick = settings(deadline=None, max_examples=60)


def drawn(names: list[list[str]], process: int) -> Drawn:
    """Completions by name, those of each process; a reward is a number made of the name."""
    mine = names[process]
    ids, texts = [[ord(c) for c in name] for name in mine], [f"text {name}" for name in mine]
    rewards = torch.tensor([[float(name[1:]), -float(name[1:])] for one in names for name in one], dtype=torch.float64)
    generated: tuple[Any, ...] = (ids, texts, None, {}, [])
    return Drawn([{"name": name} for name in mine], generated, rewards, [f"marks {name}" for name in mine], {"log": mine})


def agree(found: Drawn, names: list[list[str]], process: int) -> None:
    expected = drawn(names, process)
    assert torch.equal(found.rewards, expected.rewards)
    for part in ("rows", "generated", "marks", "columns"):
        assert getattr(found, part) == getattr(expected, part), part


def test_every_process_draws_as_many_as_the_neediest() -> None:
    # Two processes of three groups: the first has 0 and 2 dead, the second has 1.
    assert to_replace(torch.tensor([True, False, True, False, True, False]), 2) == ([[0, 2], [1]], 2)
    assert to_replace(torch.tensor([True, False, True, False, True, False]), 1) == ([[0, 2, 4]], 3)
    assert to_replace(torch.zeros(4, dtype=torch.bool), 2) == ([[], []], 0)
    assert to_replace(torch.ones(2, dtype=torch.bool), 2) == ([[0], [0]], 1)


@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_places_are_the_dead_ones(processes: int, groups: int, data: st.DataObject) -> None:
    dead = data.draw(st.lists(st.booleans(), min_size=processes * groups, max_size=processes * groups))
    places, count = to_replace(torch.tensor(dead), processes)
    for process, one in enumerate(places):
        assert one == [i for i in range(groups) if dead[process * groups + i]]
    assert count == max(map(len, places))


@pytest.mark.parametrize("process", [0, 1])
def test_new_groups_by_hand(process: int) -> None:
    # Groups of two. The first process lost its first and third; of its two new ones only the second lives.
    # The other lost its second and got two that live, of which it takes the first.
    old = [["a0", "a1", "a2", "a3", "a4", "a5"], ["b0", "b1", "b2", "b3", "b4", "b5"]]
    new = [["c10", "c11", "c12", "c13"], ["d14", "d15", "d16", "d17"]]
    alive = torch.tensor([False, True, True, True])
    before = drawn(old, process)
    found = fill(before, drawn(new, process), [[0, 2], [1]], alive, 2, process)
    agree(found, [["c12", "c13", "a2", "a3", "a4", "a5"], ["b0", "b1", "d14", "d15", "b4", "b5"]], process)
    agree(before, old, process)  # as it was


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.data())
def test_all_there_is_of_a_completion_moves_together(processes: int, size: int, groups: int, data: st.DataObject) -> None:
    def some(count: int) -> list[bool]:
        return data.draw(st.lists(st.booleans(), min_size=count, max_size=count))

    def named(letter: str, start: int, count: int) -> list[list[str]]:
        return [[f"{letter}{start + p * count * size + i}" for i in range(count * size)] for p in range(processes)]

    places, count = to_replace(torch.tensor(some(processes * groups)), processes)
    if not count:
        return
    alive = some(processes * count)
    old, new = named("o", 0, groups), named("n", 1000, count)
    expected: list[list[str]] = [list(one) for one in old]
    for process, dead in enumerate(places):
        living = [i for i in range(count) if alive[process * count + i]]
        for to, taken in zip(dead, living, strict=False):
            expected[process][to * size : (to + 1) * size] = new[process][taken * size : (taken + 1) * size]
    for process in range(processes):
        agree(fill(drawn(old, process), drawn(new, process), places, torch.tensor(alive), size, process), expected, process)


@given(st.integers(1, 20), st.integers(1, 20), st.lists(st.integers(0, 2**31), min_size=1, max_size=5))
def test_rows_are_drawn_once_where_there_are_enough(count: int, available: int, seed: list[int]) -> None:
    rows = draw_rows(count, available, seed)
    assert len(rows) == count
    assert set(rows) <= set(range(available))
    assert len(set(rows)) == count or count > available
    assert rows == draw_rows(count, available, tuple(seed))


def test_another_seed_draws_other_rows_and_all_get_their_turn() -> None:
    assert draw_rows(5, 10**6, [1, 2]) != draw_rows(5, 10**6, [1, 3])
    assert draw_rows(5, 10**6, [1, 2]) != draw_rows(5, 10**6, [2, 1])
    assert {row for seed in range(100) for row in draw_rows(2, 5, [seed])} == set(range(5))
    assert sorted(draw_rows(5, 5, [0])) == list(range(5))
