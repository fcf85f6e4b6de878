"""One mask, by how well it covers the gold mask: intersection over union (IoU) in pixels.

Source: COCO mask evaluation and its formats, https://cocodataset.org/#detection-eval and https://cocodataset.org/#format-data.
"""

from typing import Any

from rlperc import Completion, Score, reward
from rlperc.errors import DataError
from rlperc.words import masks as words
from rlperc.words.geometry import Frame, Unreadable, pixel_scale, read_size
from rlperc.words.response import Where, stated_text


@reward(range=(0.0, 1.0), credits="perception", imports=("numpy",))
def mask_iou(
    completion: Completion,
    masks: list[Any] | None,
    image_size: list[float] | None = None,
    resized_size: list[float] | None = None,
    *,
    frame: Frame,
    gold_frame: Frame = "pixels",
    span: Where = "perception",
) -> Score | None:
    """IoU of the stated mask with the one mask in the column `masks`, on the pixels of the original image.

    A mask is run-length encoded, {"size": [height, width], "counts": list or text}, or polygons, [[x, y, x, y, …], …]. A
    run-length encoding spans the whole image on a grid of its own, so that `frame` says how polygons are meant; a stated
    grid of another size is stretched. The image's size is that of a run-length encoded gold mask, else `image_size`. Where
    `masks` is [] nothing is there, and only stating [] is right. A row with several masks is skipped. For `frame` and
    the size columns see `box_iou`.
    """
    if masks is None or len(masks) > 1:
        return None
    scale = pixel_scale(frame, image_size, resized_size)
    gold_scale = pixel_scale(gold_frame, image_size, resized_size)
    text = stated_text(completion, span)
    stated = Unreadable(f"no {span}") if text is None else words.read_mask(text)
    if not masks:
        return _nothing_there(stated)
    gold = words.mask_of(masks[0])
    if isinstance(gold, Unreadable):
        return None
    height, width = _grid(gold, image_size)
    wanted = words.rasterize(words.mask_to_pixels(gold, gold_scale), height, width)
    if isinstance(wanted, Unreadable) or not wanted.any():
        return None
    if isinstance(stated, Unreadable):
        return Score(0.0, why=stated.why)
    drawn = words.rasterize(words.mask_to_pixels(stated, scale), height, width)
    if isinstance(drawn, Unreadable):
        return Score(0.0, why=drawn.why)
    overlap = words.mask_iou(drawn, wanted)
    return Score(overlap, why="" if overlap == 1.0 else f"IoU {overlap:.2f}")


def _nothing_there(stated: words.Mask | Unreadable) -> Score:
    if isinstance(stated, Unreadable):
        return Score(0.0, why=stated.why)
    empty = isinstance(stated, words.Polygons) and not stated.outlines
    return Score(1.0) if empty else Score(0.0, why="a mask where nothing is")


def _grid(gold: words.Mask, image_size: list[float] | None) -> tuple[int, int]:
    """The image's (height, width), on which both must agree where the gold mask has a grid of its own."""
    if isinstance(gold, words.Rle) and image_size is None:
        return gold.height, gold.width
    width, height = (round(side) for side in read_size(image_size, "image_size", "pixels"))
    if isinstance(gold, words.Rle) and (gold.height, gold.width) != (height, width):
        raise DataError(
            f"a gold mask of {gold.width} x {gold.height} pixels",
            f"the row's `image_size` is {width} x {height}",
            "`size` as [height, width] and `image_size` as [width, height], of the same image",
        )
    return height, width
