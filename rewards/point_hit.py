"""Pointing: one point inside the target, or one inside each of several.

Source: the pointing game of Zhang et al. (arXiv 1608.00507, section 4), on points that a model states; several targets
by the one-to-one assignment of DETR (arXiv 2005.12872, section 3.1) and the F1 score.
"""

from typing import Any

from rlperc import Completion, Score, reward
from rlperc.words.geometry import (
    Box,
    Frame,
    Point,
    Scale,
    Unreadable,
    gold_boxes,
    in_box,
    pixel_scale,
    read_points,
    to_pixels,
)
from rlperc.words.masks import Mask, in_mask, mask_of, mask_to_pixels
from rlperc.words.matching import f1, match
from rlperc.words.response import Where, stated_text


@reward(range=(0.0, 1.0), credits="perception", imports=("scipy.optimize",))
def point_hit(
    completion: Completion,
    boxes: list[list[float]] | None = None,
    masks: list[Any] | None = None,
    image_size: list[float] | None = None,
    resized_size: list[float] | None = None,
    *,
    frame: Frame,
    gold_frame: Frame = "pixels",
    span: Where = "perception",
    any_target: bool = False,
) -> Score | None:
    """Whether the stated point lies in the target: the column `masks` where the row has it, else the column `boxes`.

    One target takes exactly one point: a list of points scores 0, wherever they lie. Several targets take one point each,
    matched one to one, and score 2 * hits / (points + targets), so that a point too many costs what a point too few does
    and a grid of points is worth next to nothing. With `any_target` the targets are alternatives, and exactly one point
    in any of them is right. Where the targets are [] nothing is there, and only stating [] is right. A box's border
    belongs to it. For `frame` and the size columns see `box_iou`; for masks, `mask_iou`. At most 200 points are read.
    """
    if boxes is None and masks is None:
        return None
    scale = pixel_scale(frame, image_size, resized_size)
    targets = _targets(boxes, masks, pixel_scale(gold_frame, image_size, resized_size))
    if targets is None:
        return None
    text = stated_text(completion, span)
    if text is None:
        return Score(0.0, why=f"no {span}")
    stated = read_points(text)
    if isinstance(stated, Unreadable):
        return Score(0.0, why=f"no point read: {stated.why}")
    points = [to_pixels(point, scale) for point in stated]
    if len(targets) == 1 or (targets and any_target):
        if len(points) != 1:
            return Score(0.0, why=f"{len(points)} points instead of one")
        return Score(1.0) if any(_hits(points[0], target) for target in targets) else Score(0.0, why="beside the target")
    pairs = match(points, targets, _hits)
    value = f1(len(pairs), len(points), len(targets))
    return Score(value, why="" if value == 1.0 else f"{len(pairs)} of {len(targets)} targets hit, {len(points)} points")


def _targets(boxes: list[list[float]] | None, masks: list[Any] | None, scale: Scale) -> list[Box] | list[Mask] | None:
    if masks is None:
        return gold_boxes(boxes, scale)
    read = [mask_of(mask) for mask in masks]
    targets = [mask_to_pixels(mask, scale) for mask in read if not isinstance(mask, Unreadable)]
    return targets if len(targets) == len(masks) else None


def _hits(point: Point, target: Box | Mask) -> bool:
    return in_box(point, target) if isinstance(target, Box) else in_mask(point, target)
