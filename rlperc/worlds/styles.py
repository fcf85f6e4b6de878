"""How worlds draw: fonts and papers, of which the test split has its own, so that a style cannot be learned by heart.

The fonts are those that matplotlib carries (DejaVu for training; Computer Modern and STIX for the test).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rlperc.worlds import Split

Floats = NDArray[np.float32]
Color = tuple[float, float, float]
"""Red, green and blue, 0..1."""


class Style(NamedTuple):
    """Of one image."""

    font: str
    paper: Color
    ink: Color
    line: Color
    """Of what is drawn beside text: rules, frames."""


SEEN_FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif")
HELD_OUT_FONTS = ("STIXGeneral", "STIXGeneralBol", "cmr10", "cmss10")
# Paper, ink, line.
SEEN_PAPERS: tuple[tuple[Color, Color, Color], ...] = (
    ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.4, 0.4, 0.4)),
    ((0.96, 0.93, 0.84), (0.15, 0.1, 0.35), (0.5, 0.45, 0.4)),
    ((0.88, 0.94, 1.0), (0.05, 0.15, 0.4), (0.4, 0.5, 0.65)),
    ((0.1, 0.1, 0.14), (0.95, 0.95, 0.9), (0.5, 0.5, 0.55)),
)
HELD_OUT_PAPERS: tuple[tuple[Color, Color, Color], ...] = (
    ((0.9, 1.0, 0.88), (0.3, 0.05, 0.05), (0.45, 0.55, 0.45)),
    ((1.0, 0.9, 0.9), (0.0, 0.25, 0.2), (0.6, 0.45, 0.45)),
    ((0.05, 0.15, 0.1), (1.0, 0.9, 0.6), (0.4, 0.55, 0.45)),
)
STYLES = ("seen", "held_out")


def draw_style(random: np.random.Generator, split: Split, style: str | None) -> Style:
    """A style for one image.

    Args:
        random: drawn from twice.
        split: `train` and `validation` have the seen styles, `test` those that are held out.
        style: `seen` or `held_out`, whatever the split; or None.
    """
    held_out = style == "held_out" or (style is None and split == "test")
    fonts, papers = (HELD_OUT_FONTS, HELD_OUT_PAPERS) if held_out else (SEEN_FONTS, SEEN_PAPERS)
    font = fonts[random.integers(len(fonts))]
    return Style(font, *papers[random.integers(len(papers))])


@functools.lru_cache(maxsize=4096)
def glyph(text: str, font: str, size: int) -> Floats:
    """How much ink a short text leaves in the middle of a square, 0..1.

    Args:
        text: a digit or a short word.
        font: of `SEEN_FONTS` or `HELD_OUT_FONTS`.
        size: side of the square in pixels; the text's height is about two thirds of it.

    Returns:
        Shape: (size, size). Shared: not to be written to.
    """
    square = Image.new("L", (size, size))
    chosen = font_of(font, round(0.8 * size))
    left, top, right, bottom = chosen.getbbox(text)  # fonts put their letters at other heights of a line
    # Whole pixels: between them Pillow cuts a row of the letter off.
    corner = round((size - left - right) / 2), round((size - top - bottom) / 2)
    ImageDraw.Draw(square).text(corner, text, fill=255, font=chosen)
    ink: Floats = np.asarray(square, dtype=np.float32) / np.float32(255)
    ink.flags.writeable = False
    return ink


@functools.lru_cache(maxsize=256)
def font_of(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font by its file's name, its size in pixels."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)


def filled(height: int, width: int, color: Color) -> Floats:
    """A canvas of one colour. Shape: (height, width, 3)."""
    return np.full((height, width, 3), color, dtype=np.float32)


def blend_in(canvas: Floats, ink: Floats, color: Color) -> None:
    """Lay ink of a colour over a part of a canvas, in place. Shapes: (height, width, 3) and (height, width)."""
    for channel, level in enumerate(color):  # three times as fast as all at once
        canvas[..., channel] += ink * (np.float32(level) - canvas[..., channel])


def to_image(canvas: Floats, random: np.random.Generator, noise: float) -> Image.Image:
    """The canvas with normal noise of a standard deviation, in units of the full range, as an RGB image."""
    if noise:
        canvas = canvas + np.float32(noise) * _normal(random, canvas.size).reshape(canvas.shape)
    return Image.fromarray((canvas.clip(0.0, 1.0) * 255).astype(np.uint8), "RGB")


def _normal(random: np.random.Generator, count: int) -> Floats:
    """Normal values from a table of 65,536 quantiles: four times as fast, and no eye tells them apart."""
    return _quantiles().take(np.frombuffer(random.bytes(2 * count), dtype=np.uint16))


@functools.cache
def _quantiles() -> Floats:
    from scipy.special import ndtri

    found: Floats = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)
    return found
