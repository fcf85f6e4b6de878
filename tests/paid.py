"""Rewards that a model with random weights earns something from. Source: none, they are for tests."""

from rlperc import Completion, reward


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def long(completion: Completion) -> float:
    return min(1.0, len(completion.text) / 40)


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def varied(completion: Completion) -> float:
    return min(1.0, len(set(completion.text)) / 16)
