"""Questions about scenes in formal form: their text, the reasoning that answers them, and the solver.

A scene is a list of objects in reading order, each with a color, a shape, a size and a place. A task says whom it is about
by what they look like or where they are, `{"color":"red","shape":"star"}`, and may go from there to the place beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
Scene = Sequence[Object]
Task = Mapping[str, Any]
Solved = tuple[str, str]  # (reasoning, answer)

# The first ones are the farthest apart.
COLORS = ("red", "blue", "green", "yellow", "purple", "orange", "cyan", "pink")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star")
SIZES = ("small", "medium", "large")
# In the order in which they are said: "the large red star".
LOOKS: dict[str, tuple[str, ...]] = {"size": SIZES, "color": COLORS, "shape": SHAPES}
PLACE = ("row", "column")
# Rows and columns from a place to the one beside it.
SIDES = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}
_SAID = {"left": "left of", "right": "right of", "above": "above", "below": "below"}


class NoAnswerError(LookupError):
    """The scene does not have what the question is about, or has it more than once."""


def matches(thing: Object, of: Mapping[str, Any]) -> bool:
    """Whether an object is as described."""
    return of.items() <= thing.items()


# --- the text ----------------------------------------------------------------------------------------------------


def question(task: Task) -> str:
    """The question as a model is asked it."""
    return f"Grid of {task['grid']} by {task['grid']}. {_asked(task)}"


def _asked(task: Task) -> str:
    of, attribute = task["of"], task.get("attribute")
    match task["kind"]:
        case "attribute" if attribute in PLACE:
            return f"In which {attribute} is {_referred(task)}?"
        case "attribute":
            return f"What {attribute} is {_referred(task)}?"
        case "count":
            return f"How many {_named(of, plural=True)} are there?"
        case "exists":
            return f"Is there any {_named(of)}?"
        case "like" if attribute in PLACE:
            return f"How many other objects are in the same {attribute} as {_referred(task)}?"
        case "like":
            return f"How many other objects have the same {attribute} as {_referred(task)}?"
        case "same":
            return f"Is the {_named(of)} the same {attribute} as the {_named(task['and'])}?"
        case "side":
            return f"Is the {_named(of)} {_SAID[task['side']]} the {_named(task['and'])}?"
        case _:
            return f"Are there more {_named(of, plural=True)} than {_named(task['and'], plural=True)}?"


def _named(of: Mapping[str, Any], *, plural: bool = False) -> str:
    """`large red star`; `red object`; `red crosses`."""
    noun = of.get("shape", "object")
    ending = ("es" if noun.endswith("s") else "s") if plural else ""
    return " ".join([*(of[key] for key in ("size", "color") if key in of), noun + ending])


def _referred(task: Task) -> str:
    """`the object directly right of the large star`."""
    of = task["of"]
    known = f"the object in row {of['row']}, column {of['column']}" if "row" in of else f"the {_named(of)}"
    for side in task.get("steps", ()):
        known = f"the object directly {_SAID[side]} {known}"
    return known


# --- the reasoning -----------------------------------------------------------------------------------------------


def work_out(task: Task, scene: Scene) -> Solved:
    """The reasoning, written out step by step, and the answer.

    Raises:
        NoAnswerError: the object that the question is about is missing or not the only one.
    """
    of, attribute = task["of"], task.get("attribute", "")
    match task["kind"]:
        case "attribute":
            return _attribute(attribute, *_follow(task, scene))
        case "count":
            steps, (seen,) = _tally(scene, [of], of)
            return "\n".join(steps), str(seen)
        case "exists":
            return _exists(of, scene)
        case "like":
            return _like(attribute, scene, *_follow(task, scene))
        case "same":
            return _same(attribute, [of, task["and"]], scene)
        case "side":
            return _side(task["side"], [of, task["and"]], scene)
        case _:
            steps, (more, fewer) = _tally(scene, [of, task["and"]], of)
            said = _yes(more > fewer)
            return "\n".join([*steps, f"{more} > {fewer}: {said}"]), said


def _follow(task: Task, scene: Scene) -> tuple[list[str], Object]:
    """Find the object that a task refers to, and say how."""
    of, steps = task["of"], []
    thing = _only(scene, of)
    if "row" not in of:
        steps.append(f"{_named(of)}: {_place(thing)}")
    for side in task.get("steps", ()):
        down, right = SIDES[side]
        thing = _only(scene, {"row": thing["row"] + down, "column": thing["column"] + right})
        steps.append(f"{_SAID[side]} it: {_place(thing)}")
    return steps, thing


def _only(scene: Scene, of: Mapping[str, Any]) -> Object:
    found = [thing for thing in scene if matches(thing, of)]
    if len(found) != 1:
        raise NoAnswerError
    return found[0]


def _place(thing: Object) -> str:
    return f"row {thing['row']} column {thing['column']}"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _attribute(attribute: str, steps: list[str], thing: Object) -> Solved:
    value = str(thing[attribute])
    # Where it is has been said when it was found.
    said = [] if attribute in PLACE else [f"{_place(thing)}: {value}"]
    return "\n".join(steps + said), value


def _tally(scene: Scene, wanted: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> tuple[list[str], list[int]]:
    """Count the objects that are as described, of each description; each step names the place and the keys that matter."""
    counts, steps = [0] * len(wanted), []
    shown = [key for key in LOOKS if key in keys]
    for thing in scene:
        counts = [count + matches(thing, of) for count, of in zip(counts, wanted, strict=True)]
        steps.append(f"{_seen(thing, shown)}: {', '.join(map(str, counts))}")
    return steps, counts


def _seen(thing: Object, shown: Iterable[str]) -> str:
    return " ".join([_place(thing), *(thing[key] for key in shown)])


def _exists(of: Mapping[str, Any], scene: Scene) -> Solved:
    steps, said = [], "no"
    for thing in scene:
        said = _yes(matches(thing, of))
        steps.append(f"{_seen(thing, [key for key in LOOKS if key in of])}: {said}")
        if said == "yes":
            break
    return "\n".join(steps), said


def _like(attribute: str, scene: Scene, steps: list[str], thing: Object) -> Solved:
    if attribute in LOOKS:
        steps.append(f"{_place(thing)}: {thing[attribute]}")
    others = [other for other in scene if other is not thing]
    counted, (seen,) = _tally(others, [{attribute: thing[attribute]}], [attribute])
    return "\n".join(steps + counted), str(seen)


def _same(attribute: str, pair: Sequence[Mapping[str, Any]], scene: Scene) -> Solved:
    values = [_only(scene, of)[attribute] for of in pair]
    said = _yes(values[0] == values[1])
    steps = [f"{_named(of)}: {value}" for of, value in zip(pair, values, strict=True)]
    return "\n".join([*steps, f"{values[0]}, {values[1]}: {said}"]), said


def _side(side: str, pair: Sequence[Mapping[str, Any]], scene: Scene) -> Solved:
    axis = _axis(side)
    one, other = (_only(scene, of)[axis] for of in pair)
    before = side in ("left", "above")
    said = _yes(one < other if before else one > other)
    steps = [f"{_named(of)}: {axis} {value}" for of, value in zip(pair, (one, other), strict=True)]
    return "\n".join([*steps, f"{one} {'<' if before else '>'} {other}: {said}"]), said


def _axis(side: str) -> str:
    return "column" if side in ("left", "right") else "row"


# --- what a model states -----------------------------------------------------------------------------------------


def solve(task: Task, perception: Any) -> str | None:
    """Answer a task from a stated scene; None where it is no scene, or does not have what is asked about just once.

    What the question does not need may be missing, or be anything.
    """
    scene = _read_scene(perception, _needed(task), task["grid"])
    if scene is None:
        return None
    try:
        return work_out(task, scene)[1]
    except NoAnswerError:
        return None


def _needed(task: Task) -> set[str]:
    """Which keys of the objects an answer takes."""
    keys = {*task["of"], *task.get("and", {})}
    if "attribute" in task:
        keys.add(task["attribute"])
    if task.get("steps"):
        keys.update(PLACE)
    if "side" in task:
        keys.add(_axis(task["side"]))
    return keys


def _read_scene(perception: Any, needed: set[str], grid: int) -> Scene | None:
    """The objects in reading order with the needed keys, and blanks for the others; None where that cannot be."""
    # No image is empty, and no place holds two objects.
    if not isinstance(perception, list) or not 1 <= len(perception) <= grid * grid:
        return None
    blank = {**dict.fromkeys(LOOKS, ""), **dict.fromkeys(PLACE, 0)}
    scene = []
    for thing in perception:
        if not isinstance(thing, dict) or not all(_valid(key, thing.get(key), grid) for key in needed):
            return None
        scene.append({**blank, **{key: thing[key] for key in needed}})
    if needed.issuperset(PLACE) and len({(thing["row"], thing["column"]) for thing in scene}) < len(scene):
        return None
    return sorted(scene, key=lambda thing: (thing["row"], thing["column"]))


def _valid(key: str, value: Any, grid: int) -> bool:
    if key in PLACE:
        return type(value) is int and 1 <= value <= grid
    return type(value) is str and value in LOOKS[key]
