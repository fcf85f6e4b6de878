"""Drawing scenes: shapes on paper, with what makes them harder to see.

Pictures of the held-out style also have outlines, a woven paper, and hues that lean the other way.
"""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from rlperc.worlds.scene_questions import COLORS, SIDES, Object
from rlperc.worlds.styles import HELD_OUT_FONTS, Floats, Style, blend_in, filled, to_image

# Share of a place.
EXTENTS = {"small": 0.42, "medium": 0.62, "large": 0.84}
# Hue in degrees, saturation, value: all can be told from each other and from every paper.
HUES = {
    "red": (0, 0.87, 0.88),
    "blue": (222, 0.8, 0.92),
    "green": (128, 0.8, 0.62),
    "yellow": (55, 0.92, 0.95),
    "purple": (276, 0.7, 0.68),
    "orange": (28, 0.95, 0.97),
    "cyan": (186, 0.8, 0.84),
    "pink": (328, 0.5, 0.97),
}
LEAN = 6.0  # degrees of hue
TINTS = 16  # of each color
# Of an object's middle from that of its place, where its neighbour is drawn over it: less than half, so that the place shows.
MAX_SHIFT = 0.3
# Of a figure, on each side of a bar.
END = 0.15
FINER = 4  # pixels of a mask before it is reduced, per pixel


class Drawing(NamedTuple):
    """How scenes are drawn: the knobs of that name."""

    grid: int
    cell: int
    jitter: float
    occlusion: float
    clutter: int
    noise: float


@dataclass
class _Figure:
    """An object's picture. `middle` and `home` are (down, right) in pixels: its middle, and that of its place."""

    shape: str
    size: int
    color: Floats
    middle: list[float]
    home: tuple[float, float]
    over: bool = False
    bar: tuple[int, int, int, int] | None = None
    """Top, left, height and width from the corner of the figure."""

    @property
    def corner(self) -> tuple[int, int]:
        return round(self.middle[0] - self.size / 2), round(self.middle[1] - self.size / 2)


def draw(random: np.random.Generator, scene: Sequence[Object], drawing: Drawing, style: Style) -> Image.Image:
    """The picture of a scene, `grid * cell` pixels square."""
    side = drawing.grid * drawing.cell
    held_out = style.font in HELD_OUT_FONTS
    canvas = filled(side, side, style.paper)
    # Drawn first what is always drawn, so that clutter and noise move nothing.
    weave, figures = random.integers(WEAVES), _figures(random, scene, drawing, held_out)
    if held_out:
        canvas += _weaves(side)[weave]
    if drawing.clutter:
        blend_in(canvas, _strokes(random, drawing), style.line)
    # Those that lie over a neighbour come last.
    for figure in sorted(figures, key=lambda one: one.over):
        _lay(canvas, figure, style, halo=max(1, drawing.cell // 24), outlined=held_out)
    return to_image(canvas, random, drawing.noise)


def _lay(canvas: Floats, figure: _Figure, style: Style, halo: int, outlined: bool) -> None:
    top, left = figure.corner
    if figure.over:
        # Else two of one color would be one shape.
        _blend_at(canvas, _halo(figure.shape, figure.size, halo), style.paper, top - halo, left - halo)
    _blend_at(canvas, mask(figure.shape, figure.size), figure.color, top, left)
    if outlined:
        _blend_at(canvas, _edge(figure.shape, figure.size), style.ink, top, left)
    if figure.bar:
        down, right, high, wide = figure.bar
        y, x = max(0, top + down), max(0, left + right)
        canvas[y : top + down + high, x : left + right + wide] = style.line


def _blend_at(canvas: Floats, ink: Floats, color: Any, top: int, left: int) -> None:
    """Lay ink on the canvas, of which a halo may be partly outside."""
    y, x = max(0, top), max(0, left)
    part = canvas[y : top + ink.shape[0], x : left + ink.shape[1]]
    blend_in(part, ink[y - top :, x - left :][: part.shape[0], : part.shape[1]], color)


# --- where things are --------------------------------------------------------------------------------------------


def _figures(random: np.random.Generator, scene: Sequence[Object], drawing: Drawing, held_out: bool) -> list[_Figure]:
    jitter = (drawing.jitter * (random.random((len(scene), 2)) - 0.5)).tolist()
    tints = random.integers(TINTS, size=len(scene)).tolist()
    palette, cell = _palette(held_out), drawing.cell
    figures = []
    for thing, (down, right), tint in zip(scene, jitter, tints, strict=True):
        size = pixels(thing["size"], cell)
        room = cell - size
        home = (thing["row"] - 0.5) * cell, (thing["column"] - 0.5) * cell
        color = palette[COLORS.index(thing["color"]), tint]
        figures.append(_Figure(thing["shape"], size, color, [home[0] + room * down, home[1] + room * right], home))
    if drawing.occlusion:
        _occlude(random, {(thing["row"], thing["column"]): one for thing, one in zip(scene, figures, strict=True)}, drawing)
    return figures


def pixels(size: str, cell: int) -> int:
    """How high and how wide an object of a size is."""
    return round(EXTENTS[size] * cell)


def _occlude(random: np.random.Generator, figures: dict[tuple[int, int], _Figure], drawing: Drawing) -> None:
    """Cover about every other figure, by a neighbour that is not part of such a pair yet, or else by a bar."""
    free = set(figures)
    draws = random.random((len(figures), 4)).tolist()
    for (place, figure), (chance, share, choice, along) in zip(figures.items(), draws, strict=True):
        if chance < 0.5 or place not in free:
            continue
        # Nothing is covered from below: of a triangle that hides the base, and with it the size.
        down, right = SIDES[("left", "right", "above")[int(3 * choice)]]
        beside = (place[0] + down, place[1] + right)
        # At least half of what the knob allows, or it would hardly be seen.
        covered = drawing.occlusion * (1 + share) / 2
        free.discard(place)
        if beside in free:
            free.discard(beside)
            _pull_together(figure, figures[beside], axis=int(down == 0), covered=covered, cell=drawing.cell)
        else:
            figure.bar = _bar(figure.shape, figure.size, covered, along)


def _pull_together(under: _Figure, over: _Figure, axis: int, covered: float, cell: int) -> None:
    """Move two figures along an axis until one covers a share of the other, or as far as both stay in their places."""
    apart = over.middle[axis] - under.middle[axis]
    toward = math.copysign(1, apart)
    too_far = (abs(apart) - (under.size + over.size) / 2 + covered * under.size) / 2
    for figure, sign in ((under, toward), (over, -toward)):
        room = MAX_SHIFT * cell - sign * (figure.middle[axis] - figure.home[axis])
        figure.middle[axis] += sign * max(0.0, min(too_far, room))
    over.over = True


def _bar(shape: str, size: int, covered: float, along: float) -> tuple[int, int, int, int]:
    """A bar across the inside of a figure, over a share of its ink: both its ends stay to be seen, and its size with them."""
    lies = along < 0.5
    ink = np.cumsum(mask(shape, size).sum(axis=int(lies)))
    start = round((END + (0.5 - 2 * END) * (2 * along % 1)) * size)
    end = int(np.searchsorted(ink, ink[start - 1] + covered * ink[-1]))
    thick = min(end, round((1 - END) * size)) - start
    return (start, -1, thick, size + 2) if lies else (-1, start, size + 2, thick)


# --- masks, colors and papers ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def mask(shape: str, size: int) -> Floats:
    """How much of each pixel a shape covers, 0..1. Shape: (size, size). Shared: not to be written to."""
    return _reduced(_drawn(shape, size, 0))


@functools.lru_cache(maxsize=1024)
def _halo(shape: str, size: int, width: int) -> Floats:
    """The shape and what is within `width` pixels of it. Shape: (size + 2 * width, size + 2 * width)."""
    return _reduced(_drawn(shape, size, width).filter(ImageFilter.MaxFilter(2 * FINER * width + 1)))


@functools.lru_cache(maxsize=1024)
def _edge(shape: str, size: int) -> Floats:
    """An outline within the shape, as thick as leaves a small star its color. Shape: (size, size)."""
    inner = _drawn(shape, size, margin=1).filter(ImageFilter.MinFilter(2 * max(1, FINER * size // 28) + 1))
    return mask(shape, size) - _reduced(inner.crop((FINER, FINER, FINER * (size + 1), FINER * (size + 1))))


def _reduced(finer: Image.Image) -> Floats:
    return np.asarray(finer.reduce(FINER), dtype=np.float32) / np.float32(255)


def _drawn(shape: str, size: int, margin: int) -> Image.Image:
    finer = Image.new("L", (FINER * (size + 2 * margin),) * 2)
    low, extent = FINER * margin, FINER * size - 1
    pen = ImageDraw.Draw(finer)
    if shape == "circle":
        pen.ellipse((low, low, low + extent, low + extent), fill=255)
    else:
        pen.polygon([(low + extent * x, low + extent * y) for x, y in _corners(shape)], fill=255)
    return finer


def _corners(shape: str) -> list[tuple[float, float]]:
    """Of a shape in the unit square, (right, down)."""
    match shape:
        case "square":
            return [(0, 0), (1, 0), (1, 1), (0, 1)]
        case "triangle":
            return [(0.5, 0), (1, 1), (0, 1)]
        case "diamond":
            return [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)]
        case "cross":
            a, b = 0.33, 0.67
            return [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
        case _:
            return _star()


def _star() -> list[tuple[float, float]]:
    """Five points, fitted to the unit square."""
    turns = [(math.pi * i / 5, 0.42 if i % 2 else 1.0) for i in range(10)]
    points = [(radius * math.sin(turn), -radius * math.cos(turn)) for turn, radius in turns]
    (left, right), (top, bottom) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    return [((x - left) / (right - left), (y - top) / (bottom - top)) for x, y in points]


@functools.cache
def _palette(held_out: bool) -> Floats:
    """The tints of each color. Shape: (len(COLORS), TINTS, 3)."""
    random = np.random.default_rng(0)
    lean = LEAN if held_out else -LEAN
    tints = [
        [
            colorsys.hsv_to_rgb((hue + lean * random.random()) / 360 % 1, saturation, value * random.uniform(0.94, 1.03))
            for _ in range(TINTS)
        ]
        for hue, saturation, value in map(HUES.__getitem__, COLORS)
    ]
    return np.asarray(tints, dtype=np.float32)


WEAVES = 16


@functools.lru_cache(maxsize=16)
def _weaves(side: int) -> Floats:
    """Waves of several directions and lengths, to be added to a paper. Shape: (WEAVES, side, side, 1)."""
    random = np.random.default_rng(0)
    down, right = np.mgrid[:side, :side].astype(np.float32)
    waves = []
    for _ in range(WEAVES):
        turn, length = random.uniform(0, math.pi), random.uniform(4, 9)
        waves.append(np.sin((down * math.sin(turn) + right * math.cos(turn)) * 2 * math.pi / length))
    return np.float32(0.05) * np.stack(waves)[..., None].astype(np.float32)


def _strokes(random: np.random.Generator, drawing: Drawing) -> Floats:
    """Thin lines of three points each. Shape: (side, side)."""
    side = drawing.grid * drawing.cell
    picture = Image.new("L", (side, side))
    pen = ImageDraw.Draw(picture)
    starts = random.random((drawing.clutter, 1, 2)) * side
    points = starts + (random.random((drawing.clutter, 3, 2)) - 0.5) * 3 * drawing.cell
    for line in points.tolist():
        pen.line([tuple(point) for point in line], fill=255, width=max(1, drawing.cell // 32))
    return np.asarray(picture, dtype=np.float32) / np.float32(255)
