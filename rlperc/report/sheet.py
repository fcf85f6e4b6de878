"""A contact sheet: some items of a world, each with its question and answer under its image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw

from rlperc.worlds import Item
from rlperc.worlds.styles import font_of

TILE, TEXT_LINES, LINE = 224, 4, 15
MARGIN = 12
LETTERS = 34
"""Of a line of text under a tile."""


def contact_sheet(items: Sequence[Item], columns: int = 4) -> Image.Image:
    """Draw items in rows. Small images grow by whole factors, so that their pixels stay what they are."""
    columns = max(1, min(columns, len(items)))
    width, height = TILE + MARGIN, TILE + TEXT_LINES * LINE + 2 * MARGIN
    rows = -(-len(items) // columns)
    sheet = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for number, item in enumerate(items):
        left, top = number % columns * width + MARGIN, number // columns * height + MARGIN
        tile = _fitted(item.image)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        for line, text in enumerate(_lines(item)):
            draw.text((left, top + TILE + 4 + line * LINE), text, fill="black", font=font_of("DejaVuSans", 12))
    return sheet


def _fitted(image: Image.Image) -> Image.Image:
    side = max(image.size)
    if 2 * side <= TILE:
        factor = TILE // side
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    scale = TILE / side
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def _lines(item: Item) -> list[str]:
    question = textwrap.wrap(item.question, LETTERS, max_lines=TEXT_LINES - 1, placeholder=" …")
    answer = f"→ {item.answer}"
    return [*question, answer if len(answer) <= LETTERS else f"{answer[: LETTERS - 2]} …"]
