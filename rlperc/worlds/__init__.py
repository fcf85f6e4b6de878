"""Floor 1: synthetic tasks with exact ground truth. numpy, Pillow and scikit-learn; never torch.

A world is a module with `items(count, seed, split, **knobs)`, which yields `Item`s, and
`solve(task, perception)`, which answers a task from a stated perception alone.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from rlperc.errors import RecipeError, did_you_mean
from rlperc.words.response import Tags, write_response
from rlperc.words.structure import read_json, read_stated

if TYPE_CHECKING:
    from PIL import Image

Split = Literal["train", "validation", "test"]
WORLDS = ("digits",)


@dataclass(frozen=True)
class Item:
    """One question over one image.

    `answer` and `perception` are true, and `perception` is p* as canonical JSON. `stated`, `think` and `concluded` are
    the three spans of a teacher's response; a teacher may misread, where the world has that knob. `task` is the
    question in formal form, for the world's solver.
    """

    image: Image.Image
    question: str
    answer: str
    perception: str
    stated: str
    think: str
    concluded: str
    task: str

    def response(self, tags: Tags | None = None) -> str:
        """The teacher's response in the tagged form."""
        return write_response(self.stated, self.think, self.concluded, tags)


class World(Protocol):
    """What a world module offers."""

    def items(self, count: int, seed: int, split: Split, **knobs: Any) -> Iterator[Item]:
        """Yield `count` items, the same ones for the same arguments."""

    def solve(self, task: dict[str, Any], perception: Any) -> str | None:
        """Answer from the stated perception, or None where it does not describe an image of this world."""


def load_world(name: str) -> World:
    """Import a world by name. Raises RecipeError for an unknown one."""
    if name not in WORLDS:
        raise RecipeError(f"the world '{name}'", "rlperc has no world of that name", did_you_mean(name, WORLDS))
    return cast(World, importlib.import_module(f"rlperc.worlds.{name}"))


def check_knobs(name: str, knobs: dict[str, Any]) -> None:
    """Refuse a knob the world does not have. Raises RecipeError."""
    known = [
        parameter.name
        for parameter in inspect.signature(load_world(name).items).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for knob in knobs:
        if knob not in known:
            raise RecipeError(f"the knob '{knob}' of the world '{name}'", "it has none of that name", did_you_mean(knob, known))


def solve(task: str, perception: str) -> str | None:
    """Answer a task, as its world wrote it, from a perception a model stated; None where that cannot be read.

    Raises ValueError for a task that no world wrote; `perception` is untrusted and never raises.
    """
    formal = read_json(task)
    if not isinstance(formal, dict) or formal.get("world") not in WORLDS:
        raise ValueError(f"not a task of a known world: {task!r}")
    return load_world(formal["world"]).solve(formal, read_stated(perception))
