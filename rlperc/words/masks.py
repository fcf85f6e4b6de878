"""Masks as COCO writes them, run-length encoded or as polygons, on a grid of pixels.

A pixel belongs to a polygon where its centre lies inside by the even-odd rule, and to a mask of several polygons where it
belongs to any. pycocotools traces outlines a little differently, so single pixels along a slanted border may differ from
its masks; run-length encodings are read exactly. Nothing here runs C code on what a model wrote but numpy's, and only
after it was checked and bounded.

Source of the formats: https://cocodataset.org/#format-data and `common/maskApi.c` of the COCO API.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlperc.errors import DataError
from rlperc.words.geometry import MAX_COORDINATE, Point, Scale, Unreadable, in_polygon, stated_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# About an 8K picture: a grid takes 32 MiB at a byte a pixel, and filling polygons some four times that.
MAX_PIXELS = 2**25
# Columns that the edges of a mask's polygons may span together: a few hundred times around a large picture.
MAX_CROSSINGS = 1_000_000


@dataclass(frozen=True)
class Rle:
    """A run-length encoded mask: where runs of 0 and 1 end, in turn and from 0, down the columns, left to right."""

    height: int
    width: int
    ends: Sequence[int]


@dataclass(frozen=True)
class Polygons:
    """A mask as outlines, each [x, y, x, y, …], in a frame of `rlperc.words.geometry`."""

    outlines: list[list[float]]


Mask = Rle | Polygons


def read_mask(text: str) -> Mask | Unreadable:
    """Read the mask a model wrote as JSON, with or without a ```json fence.

    `{"size": [height, width], "counts": …}`, with a list of counts or COCO's compressed text; or polygons, `[[x, y, x,
    y, …], …]`; or one polygon as a list of points, `[[x, y], …]`. `[]` states an empty mask.
    """
    value = stated_value(text)
    return value if isinstance(value, Unreadable) else mask_of(value)


def mask_of(value: Any) -> Mask | Unreadable:
    """The mask in a value from JSON or from a column, in the forms of `read_mask`."""
    if isinstance(value, dict):
        return _rle_of(value)
    if not isinstance(value, list | tuple) or not all(isinstance(part, list | tuple) for part in value):
        return Unreadable("a mask is neither run-length encoded nor polygons")
    if not all(_is_number(number) for part in value for number in part):
        return Unreadable(f"a polygon has a coordinate that is no number up to {MAX_COORDINATE:g}")
    outlines = [[float(number) for number in part] for part in value]
    if outlines and all(len(part) == 2 for part in outlines):
        outlines = [[number for part in outlines for number in part]]
    if any(len(outline) < 6 or len(outline) % 2 for outline in outlines):
        return Unreadable("a polygon needs at least three points")
    return Polygons(outlines)


def mask_to_pixels(mask: Mask, scale: Scale) -> Mask:
    """A mask in pixels of the original image. A run-length encoding has a grid of its own, so no frame applies to it."""
    if isinstance(mask, Rle):
        return mask
    return Polygons([[number * scale[i % 2] for i, number in enumerate(outline)] for outline in mask.outlines])


def rasterize(mask: Mask, height: int, width: int) -> NDArray[np.bool_] | Unreadable:
    """Draw a mask on a grid of `height` x `width` pixels.

    A run-length encoding spans the whole image however coarse its grid is: one of another size is stretched, each
    pixel taking the value at its centre. Polygons are in pixels of this grid; what lies outside is cut off.

    Returns:
        A boolean array of shape (height, width), or Unreadable where the outlines are too long (`MAX_CROSSINGS`).

    Raises:
        DataError: the grid has more than `MAX_PIXELS` pixels.
    """
    if height * width > MAX_PIXELS:
        raise DataError(
            f"a mask of {width} x {height} pixels",
            f"masks have at most {MAX_PIXELS} pixels",
            "the image and its masks made smaller",
        )
    return _fill(mask.outlines, height, width) if isinstance(mask, Polygons) else _unroll(mask, height, width)


def mask_iou(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of the same shape, 0 to 1; 0 where both are empty."""
    import numpy as np

    union = int(np.count_nonzero(left | right))
    return int(np.count_nonzero(left & right)) / union if union else 0.0


def in_mask(point: Point, mask: Mask) -> bool:
    """Whether a point lies in a mask of the same frame; a run-length encoding is that of the original image's pixels."""
    if isinstance(mask, Polygons):
        return any(in_polygon(point, outline) for outline in mask.outlines)
    if not (0 <= point.x < mask.width and 0 <= point.y < mask.height):
        return False
    place = int(point.x) * mask.height + int(point.y)
    return bisect.bisect_right(mask.ends, place) % 2 == 1


def _rle_of(value: dict[str, Any]) -> Rle | Unreadable:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(_is_count(side) and side > 0 for side in size):
        return Unreadable("a run-length encoding has no size [height, width]")
    height, width = size
    if height * width > MAX_PIXELS:
        return Unreadable(f"a mask of more than {MAX_PIXELS} pixels")
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if isinstance(counts, str):
        counts = _decompress(counts)
    if not isinstance(counts, list | tuple) or not all(map(_is_count, counts)):
        return Unreadable("the counts of a run-length encoding are not run lengths")
    ends = list(itertools.accumulate(counts))
    if not ends or ends[-1] != height * width:
        return Unreadable("the counts of a run-length encoding do not add up to its size")
    return Rle(height, width, ends)


def _decompress(text: str) -> list[int] | None:
    """Read COCO's compressed counts, or None where the text is not that.

    A number is written in groups of 5 bits, lowest first, each as the character 48 + group, + 32 where more follow; the
    highest bit is the sign. From the fourth on, a number is the difference to the count two before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 40:
            return None
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts if shift == 0 else None


def _unroll(mask: Rle, height: int, width: int) -> NDArray[np.bool_]:
    import numpy as np

    runs = np.arange(len(mask.ends)) % 2 == 1
    grid: NDArray[np.bool_] = np.repeat(runs, np.diff(mask.ends, prepend=0)).reshape(mask.width, mask.height).T
    if grid.shape == (height, width):
        return grid
    rows = (2 * np.arange(height) + 1) * mask.height // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.width // (2 * width)
    stretched: NDArray[np.bool_] = grid[rows[:, None], columns]
    return stretched


def _fill(outlines: list[list[float]], height: int, width: int) -> NDArray[np.bool_] | Unreadable:
    """Fill outlines column by column: in each, the pixels between the 1st and 2nd edge, the 3rd and 4th, and so on."""
    import numpy as np

    edges = [
        (part, outline[i - 2], outline[i - 1], outline[i], outline[i + 1])
        for part, outline in enumerate(outlines)
        for i in range(0, len(outline), 2)
    ]
    part, xa, ya, xb, yb = np.array(edges, dtype=np.float64).reshape(-1, 5).T
    x0, y0, x1, y1 = np.where(xa <= xb, (xa, ya, xb, yb), (xb, yb, xa, ya))
    # The columns whose centres an edge passes: first to last - 1.
    first, last = (np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64) for x in (x0, x1))
    spans = last - first
    if spans.sum() > MAX_CROSSINGS:
        return Unreadable("the outlines of the mask are too long")
    edge = np.repeat(np.arange(len(spans)), spans)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(spans) - spans, spans) + first[edge]
    y = y0[edge] + (column + 0.5 - x0[edge]) * ((y1 - y0)[edge] / (x1 - x0)[edge])
    row = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    # Closed outlines cross each column an even number of times, so in order every other crossing enters.
    crossings = np.sort((part[edge].astype(np.int64) * width + column) * (height + 1) + row) % (width * (height + 1))
    depth = np.zeros(width * (height + 1), dtype=np.int16)
    np.add.at(depth, crossings[0::2], 1)
    np.subtract.at(depth, crossings[1::2], 1)
    filled: NDArray[np.bool_] = np.cumsum(depth, dtype=np.int16, out=depth).reshape(width, height + 1).T[:height] > 0
    return filled


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_COORDINATE


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
