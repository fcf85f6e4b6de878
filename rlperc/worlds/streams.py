"""Random numbers of which no knob shifts another's: who makes a picture harder to see changes nothing else in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rlperc.worlds import SPLITS, Split


class Streams(NamedTuple):
    """Generators of one item."""

    content: np.random.Generator
    """What there is to see, and what is asked about it."""
    brush: np.random.Generator
    """How it is drawn."""
    teacher: np.random.Generator
    """What the teacher of `response` makes of it."""


def streams(count: int, seed: int, split: Split) -> Iterator[Streams]:
    """Those of each item, whatever the items before it drew."""
    root = np.random.default_rng([seed, SPLITS.index(split)])
    for _ in range(count):
        yield Streams(*root.spawn(3))
