"""Floor 1: synthetic tasks with exact ground truth. numpy, Pillow and scikit-learn; never torch.

A world is a module with `ABOUT`, with `items(count, seed, split, **knobs)`, which yields `Item`s, and with
`solve(task, perception)`, which answers a task from a stated perception alone.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from rlperc.errors import RecipeError, did_you_mean
from rlperc.words.response import Tags, write_response
from rlperc.words.structure import canonical, read_json, read_stated

if TYPE_CHECKING:
    from PIL import Image

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
WORLDS = ("digits", "scenes", "graph_coloring", "sudoku")


@dataclass(frozen=True)
class Item:
    """One question over one image.

    `answer` and `perception` are true, and `perception` is p* as canonical JSON. `stated`, `think` and `concluded` are
    the three spans of a teacher's response; a teacher may misread, where the world has that knob. `task` is the
    question in formal form, for the world's solver. `columns` holds what else the world's rewards ask for.
    """

    image: Image.Image
    question: str
    answer: str
    perception: str
    stated: str
    think: str
    concluded: str
    task: str
    columns: Mapping[str, Any] = field(default_factory=dict)

    def response(self, tags: Tags | None = None) -> str:
        """The teacher's response in the tagged form."""
        return write_response(self.stated, self.think, self.concluded, tags)


@dataclass(frozen=True)
class About:
    """What a world is, for whoever shows it to a model and judges what that says."""

    summary: str
    """One line."""
    perception: str
    """What p* looks like, as a model is asked for it: "the grid as a JSON list of rows"."""
    answer: str
    """What an answer looks like, likewise."""
    answer_reward: str
    """The reward that verifies an answer."""
    perception_reward: str
    """The reward that holds a stated perception against p*: partial credit, and 1 for all of it."""
    settings: Mapping[str, Mapping[str, Any]]
    """Knobs that belong together, by name; `small` is what a tiny model learns in minutes."""
    unordered: int = 0
    """Levels of p* whose items may stand in any order: 1 for a list of objects, 2 for one of edges, which are lists too."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The world's own columns: name to type, as `datasets` names it."""


class World(Protocol):
    """What a world module offers."""

    ABOUT: About

    def items(self, count: int, seed: int, split: Split, **knobs: Any) -> Iterator[Item]:
        """Yield `count` items, the same ones for the same arguments; of fewer, the first of these.

        Raises:
            RecipeError: a knob is out of range, before the first item.
        """

    def solve(self, task: dict[str, Any], perception: Any) -> str | None:
        """Answer from the stated perception, or None where it does not describe an image of this world."""

    def columns(self, task: dict[str, Any], answer: str) -> dict[str, Any]:
        """The world's own columns, of a task that `solve` answered so. Only in a world that has any."""


def load_world(name: str) -> World:
    """Import a world by name. Raises RecipeError for an unknown one."""
    if name not in WORLDS:
        raise RecipeError(f"the world '{name}'", "rlperc has no world of that name", did_you_mean(name, WORLDS))
    return cast(World, importlib.import_module(f"rlperc.worlds.{name}"))


def knobs_of(name: str) -> dict[str, Any]:
    """A world's knobs and their defaults."""
    parameters = inspect.signature(load_world(name).items).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def knobs_explained(name: str) -> dict[str, str]:
    """What each knob of a world does, as the docstring of its `items` says; nothing under `python -OO`."""
    _, _, arguments = (inspect.getdoc(load_world(name).items) or "").partition("Args:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE)
    return {knob: " ".join(text.split()) for knob, text in found if knob in knobs_of(name)}


def resolve(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that somebody asks for: those of the setting, if `setting` names one, and over them the others given.

    Raises:
        RecipeError: the world has no such knob, or no such setting.
    """
    known, settings = knobs_of(name), load_world(name).ABOUT.settings
    chosen = str(given["setting"]) if "setting" in given else None
    if chosen is not None and chosen not in settings:
        raise RecipeError(
            f"the setting '{chosen}' of the world '{name}'", "it has none of that name", did_you_mean(chosen, settings)
        )
    for knob in given:
        if knob not in (*known, "setting"):
            raise RecipeError(f"the knob '{knob}' of the world '{name}'", "it has none of that name", did_you_mean(knob, known))
    base = {} if chosen is None else settings[chosen]
    return {**base, **{knob: value for knob, value in given.items() if knob != "setting"}}


def make_items(name: str, count: int, seed: int, split: Split, knobs: Mapping[str, Any]) -> Iterator[Item]:
    """Yield items of a world; `knobs` may name a `setting`. Raises RecipeError for what the world does not have."""
    return load_world(name).items(count, seed, split, **resolve(name, knobs))


def solve(task: str, perception: str) -> str | None:
    """Answer a task, as its world wrote it, from a perception a model stated; None where that cannot be read.

    Raises ValueError for a task that no world wrote; `perception` is untrusted and never raises.
    """
    formal = read_json(task)
    if not isinstance(formal, dict) or formal.get("world") not in WORLDS:
        raise ValueError(f"not a task of a known world: {task!r}")
    return load_world(formal["world"]).solve(formal, read_stated(perception))


def in_order(task: str | None, perception: str) -> str:
    """A perception with what the task's world lets stand in any order sorted, so that equal ones are written alike.

    As it was where there is nothing to sort, or no world's task. `perception` is untrusted and never raises.
    """
    formal = read_json(task) if task else None
    if not isinstance(formal, dict) or formal.get("world") not in WORLDS:
        return perception
    levels = load_world(formal["world"]).ABOUT.unordered
    stated = read_stated(perception) if levels else None
    try:
        return perception if stated is None else canonical(_sorted(stated, levels))
    except RecursionError:  # nested deeper than what is on the stack allows to write
        return perception


def _sorted(value: Any, levels: int) -> Any:
    return sorted((_sorted(one, levels - 1) for one in value), key=canonical) if levels and isinstance(value, list) else value


def restate(task: str, perception: str) -> tuple[str, dict[str, Any]] | None:
    """What would be right if a stated perception were true: the reward that verifies answers, and the columns it reads.

    None where the perception cannot be read. Raises ValueError as `solve`.
    """
    answer = solve(task, perception)
    if answer is None:
        return None
    formal = json.loads(task)
    world = load_world(formal["world"])
    own = world.columns(formal, answer) if world.ABOUT.columns else {}
    return world.ABOUT.answer_reward, {"answer": answer, "perception": canonical(read_stated(perception)), **own}
