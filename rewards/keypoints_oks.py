"""Keypoints, by how near they lie for an object of that size: object keypoint similarity (OKS).

Source: COCO keypoint evaluation, https://cocodataset.org/#keypoints-eval, with its 17 constants for people.
"""

import math
from collections.abc import Sequence
from typing import Any

from rlperc import Completion, Score, reward
from rlperc.errors import RecipeError
from rlperc.words.geometry import (
    Frame,
    Point,
    Scale,
    Unreadable,
    pixel_scale,
    points_of,
    read_points,
    to_pixels,
)
from rlperc.words.response import Where, stated_text

# Nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right.
COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def keypoints_oks(
    completion: Completion,
    keypoints: list[list[float]] | None,
    area: float | None,
    image_size: list[float] | None = None,
    resized_size: list[float] | None = None,
    *,
    frame: Frame,
    gold_frame: Frame = "pixels",
    span: Where = "perception",
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> Score | None:
    """Mean over the labelled keypoints of exp(-d^2 / (2 * area * k^2)), k = 2 * sigma, d the distance in pixels.

    The column `keypoints` holds [[x, y, v], …], labelled where v > 0; `area` is that of the object in square pixels of the
    original image, whatever `gold_frame` is. The model states one point for each keypoint in the same order, in the place
    of unlabelled ones too, where any does; another number of points scores 0. `sigmas` has one constant for each keypoint.
    For `frame` and the size columns see `box_iou`.
    """
    if keypoints is None or not isinstance(area, int | float) or not 0 < area < math.inf:
        return None
    scale = pixel_scale(frame, image_size, resized_size)
    gold = _gold(keypoints, pixel_scale(gold_frame, image_size, resized_size))
    if gold is None:
        return None
    if len(sigmas) != len(gold) or not all(sigma > 0 for sigma in sigmas):
        raise RecipeError(
            f"sigmas for {len(sigmas)} keypoints", f"the row has {len(gold)} keypoints", "with: {sigmas: […]}, one for each"
        )
    text = stated_text(completion, span)
    if text is None:
        return Score(0.0, why=f"no {span}")
    stated = read_points(text)
    if isinstance(stated, Unreadable):
        return Score(0.0, why=f"no keypoints read: {stated.why}")
    if len(stated) != len(gold):
        return Score(0.0, why=f"{len(stated)} points instead of {len(gold)}")
    near = [
        math.exp(-(math.dist(to_pixels(point, scale), place) ** 2) / (2 * area * (2 * sigma) ** 2))
        for point, place, sigma in zip(stated, gold, sigmas, strict=True)
        if place is not None
    ]
    value = math.fsum(near) / len(near)
    return Score(value, why="" if value == 1.0 else f"OKS {value:.2f} over {len(near)} keypoints")


def _gold(keypoints: list[Any], scale: Scale) -> list[Point | None] | None:
    """Each keypoint in pixels, None where it is not labelled; None altogether where they are malformed or none is labelled."""
    if not all(isinstance(keypoint, list | tuple) and len(keypoint) == 3 for keypoint in keypoints):
        return None
    places = points_of([[x, y] for x, y, _ in keypoints], limit=math.inf)
    labelled = [isinstance(v, int | float) and v > 0 for _, _, v in keypoints]
    if isinstance(places, Unreadable) or not any(labelled):
        return None
    return [to_pixels(place, scale) if counts else None for place, counts in zip(places, labelled, strict=True)]
