"""Boxes and points, and the coordinate frame they are written in.

Coordinates are continuous: x grows to the right, y downwards, the top left corner of the image is (0, 0) and its bottom
right corner is (width, height). A box has the area (x1 - x0) * (y1 - y0), without the + 1 of inclusive pixel indices.
Whatever lies outside the image keeps its coordinates: nothing is clipped, swapped or repaired, so that a wrong box stays wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from rlperc.errors import DataError, RecipeError, did_you_mean
from rlperc.words.structure import MAX_CHARACTERS, read_stated

# Pixels of the original image; of the image as the processor resized it (Qwen2.5-VL writes these); 0 to 1; 0 to 1000
# (Qwen2-VL, Qwen3-VL and InternVL).
Frame = Literal["pixels", "resized", "unit", "thousand"]
# Pixels of the original image for one unit of a frame, along x and along y.
Scale = tuple[float, float]

MAX_ITEMS = 200
MAX_COORDINATE = 1e9
_BOX_KEYS = ("bbox_2d", "bbox", "box")
_POINT_KEYS = ("point_2d", "point")
_PAIR = re.compile(r"\(\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*,\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*\)[\s,;]*", re.ASCII)


class Point(NamedTuple):
    """A place in an image."""

    x: float
    y: float


class Box(NamedTuple):
    """A box from its top left corner (x0, y0) to its bottom right corner (x1, y1), with what it is said to hold."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str | None = None


@dataclass(frozen=True)
class Unreadable:
    """Text or a value that holds no boxes, points or mask, and why."""

    why: str


Place = TypeVar("Place", Box, Point)


def pixel_scale(frame: str, image_size: Sequence[float] | None, resized_size: Sequence[float] | None = None) -> Scale:
    """How many pixels of the original image one unit of `frame` is, along x and along y.

    Args:
        frame: one of `Frame`.
        image_size: [width, height] of the original image in pixels; every frame but "pixels" needs it.
        resized_size: [width, height] that the processor really resized the image to; the frame "resized" needs it.

    Raises:
        RecipeError: there is no such frame.
        DataError: a size that the frame needs is missing, or is not two positive numbers.
    """
    if frame not in get_args(Frame):
        raise RecipeError(f"the frame '{frame}'", "it is no coordinate frame", did_you_mean(str(frame), get_args(Frame)))
    if frame == "pixels":
        return 1.0, 1.0
    width, height = read_size(image_size, "image_size", frame)
    if frame == "resized":
        resized_width, resized_height = read_size(resized_size, "resized_size", frame)
        return width / resized_width, height / resized_height
    return (width, height) if frame == "unit" else (width / 1000, height / 1000)


def read_size(size: Sequence[float] | None, column: str, frame: str) -> tuple[float, float]:
    """A size column as (width, height). Raises DataError where the row has none or it is no size."""
    if isinstance(size, list | tuple) and len(size) == 2 and all(_is_number(side) and side > 0 for side in size):
        return float(size[0]), float(size[1])
    why = f"the row has no `{column}`" if size is None else f"the row's `{column}` is not two positive numbers"
    raise DataError(f"coordinates in the frame '{frame}'", why, f"a column `{column}` with [width, height] in pixels")


def to_pixels(place: Place, scale: Scale) -> Place:
    """A box or a point in pixels of the original image; `scale` is that of the frame it is written in."""
    x, y = scale
    if isinstance(place, Box):
        return Box(place.x0 * x, place.y0 * y, place.x1 * x, place.y1 * y, place.label)
    return Point(place.x * x, place.y * y)


def read_boxes(text: str) -> list[Box] | Unreadable:
    """Read the boxes a model wrote, in the frame it wrote them in, and nothing beside them.

    The text is JSON, with or without a ```json fence: `[x0, y0, x1, y1]`, an object with that under `bbox_2d`, `bbox` or
    `box` and perhaps a text `label`, or a list of either; `[]` states that there is none. Or it is one or more
    `(x0,y0),(x1,y1)` as Qwen2-VL writes them. Zero and negative extents are read as they stand: see `box_fault`.
    """
    corners = _read_pairs(text)
    if corners is None:
        value = stated_value(text)
        return value if isinstance(value, Unreadable) else boxes_of(value)
    if len(corners) % 2:
        return Unreadable("a box has one corner instead of two")
    if len(corners) // 2 > MAX_ITEMS:
        return Unreadable(f"more than {MAX_ITEMS} boxes")
    return [Box(*first, *second) for first, second in zip(corners[::2], corners[1::2], strict=True)]


def read_points(text: str) -> list[Point] | Unreadable:
    """Read the points a model wrote, in the frame it wrote them in, and nothing beside them.

    The text is JSON, with or without a ```json fence: `[x, y]`, an object with that under `point_2d` or `point`, an object
    `{"x": …, "y": …}`, or a list of these; `[]` states that there is none. Or it is one or more `(x, y)`.
    """
    points = _read_pairs(text)
    if points is None:
        value = stated_value(text)
        return value if isinstance(value, Unreadable) else points_of(value)
    return points if len(points) <= MAX_ITEMS else Unreadable(f"more than {MAX_ITEMS} points")


def boxes_of(value: Any, limit: float = MAX_ITEMS) -> list[Box] | Unreadable:
    """The boxes in a value from JSON or from a column, in the forms of `read_boxes`."""
    boxes: list[Box] = []
    items = _items(value)
    if len(items) > limit:
        return Unreadable(f"more than {limit:g} boxes")
    for item in items:
        label = item.get("label") if isinstance(item, dict) else None
        if label is not None and not isinstance(label, str):
            return Unreadable("a label is not text")
        numbers = _coordinates(_under(item, _BOX_KEYS, "box"), 4, "box")
        if isinstance(numbers, Unreadable):
            return numbers
        x0, y0, x1, y1 = numbers
        boxes.append(Box(x0, y0, x1, y1, label))
    return boxes


def points_of(value: Any, limit: float = MAX_ITEMS) -> list[Point] | Unreadable:
    """The points in a value from JSON or from a column, in the forms of `read_points`."""
    points: list[Point] = []
    items = _items(value)
    if len(items) > limit:
        return Unreadable(f"more than {limit:g} points")
    for item in items:
        spelt_out = isinstance(item, dict) and "x" in item and "y" in item and not any(key in item for key in _POINT_KEYS)
        pair = [item["x"], item["y"]] if spelt_out else _under(item, _POINT_KEYS, "point")
        numbers = _coordinates(pair, 2, "point")
        if isinstance(numbers, Unreadable):
            return numbers
        x, y = numbers
        points.append(Point(x, y))
    return points


def gold_boxes(value: Any, scale: Scale) -> list[Box] | None:
    """The boxes of a gold column in pixels of the original image, or None where one of them is not a box with an area."""
    boxes = boxes_of(value, math.inf)
    if isinstance(boxes, Unreadable) or any(box_fault(box) for box in boxes):
        return None
    return [to_pixels(box, scale) for box in boxes]


def box_fault(box: Box) -> str:
    """What keeps a box from covering anything: `inverted box` or `box without area`; empty where it is sound."""
    if box.x1 < box.x0 or box.y1 < box.y0:
        return "inverted box"
    return "box without area" if box.x1 == box.x0 or box.y1 == box.y0 else ""


def iou(left: Box, right: Box) -> float:
    """Intersection over union of two boxes in the same frame, 0 to 1. A box with a `box_fault` overlaps nothing: 0."""
    if box_fault(left) or box_fault(right):
        return 0.0
    width = min(left.x1, right.x1) - max(left.x0, right.x0)
    height = min(left.y1, right.y1) - max(left.y0, right.y0)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    union = (left.x1 - left.x0) * (left.y1 - left.y0) + (right.x1 - right.x0) * (right.y1 - right.y0) - shared
    return shared / union if union > 0 else 0.0  # extents so small that their product is 0


def in_box(point: Point, box: Box) -> bool:
    """Whether a point lies in a box or on its border."""
    return box.x0 <= point.x <= box.x1 and box.y0 <= point.y <= box.y1


def in_polygon(point: Point, outline: Sequence[float]) -> bool:
    """Whether a point lies in the polygon [x, y, x, y, …] by the even-odd rule; on its border either may hold."""
    inside = False
    xs, ys = outline[0::2], outline[1::2]
    for i in range(len(xs)):
        x0, y0, x1, y1 = xs[i - 1], ys[i - 1], xs[i], ys[i]
        if (y0 > point.y) != (y1 > point.y) and point.x < x0 + (point.y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def stated_value(text: str) -> Any:
    """The JSON value a model wrote, as `read_stated` reads it, or Unreadable where there is none."""
    if len(text) > MAX_CHARACTERS:
        return Unreadable(f"more than {MAX_CHARACTERS} characters")
    value = read_stated(text)
    if value is None:
        return Unreadable("not JSON" if any(character.isalnum() or character in "[{" for character in text) else "nothing stated")
    return value


def _read_pairs(text: str) -> list[Point] | None:
    """Read `(x, y), (x, y) …` and nothing else; None where the text is something else."""
    if len(text) > MAX_CHARACTERS:
        return None
    for token in ("<|box_start|>", "<|box_end|>"):
        text = text.replace(token, " ")
    text = text.strip()
    if not text.startswith("("):
        return None
    pairs: list[Point] = []
    position = 0
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None:
            return None
        pairs.append(Point(float(found[1]), float(found[2])))
        position = found.end()
    return pairs


def _items(value: Any) -> list[Any]:
    """A list of lists or objects as it is; anything else is one item."""
    is_many = isinstance(value, list | tuple) and all(isinstance(item, list | tuple | dict) for item in value)
    return list(value) if is_many else [value]


def _under(item: Any, keys: tuple[str, ...], kind: str) -> Any | Unreadable:
    """What an object holds under exactly one of `keys`; anything but an object is returned as it is."""
    if not isinstance(item, dict):
        return item
    present = [key for key in keys if key in item]
    if len(present) > 1:
        return Unreadable(f"an object with two {kind} keys")
    return item[present[0]] if present else Unreadable(f"an object without a {kind}")


def _coordinates(value: Any, count: int, kind: str) -> list[float] | Unreadable:
    """`count` finite numbers. `true` is no number, though Python thinks so."""
    if isinstance(value, Unreadable):
        return value
    if not isinstance(value, list | tuple):
        return Unreadable(f"a {kind} is not a list of numbers")
    if len(value) != count:
        return Unreadable(f"a {kind} has {len(value)} numbers instead of {count}")
    if not all(map(_is_number, value)):
        return Unreadable(f"a {kind} has a coordinate that is no number up to {MAX_COORDINATE:g}")
    return [float(number) for number in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_COORDINATE
