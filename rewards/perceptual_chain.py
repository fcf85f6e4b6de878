"""A perceptual chain, object -> location -> identity -> conclusion, as far as it holds.

Source: the perceptual chains that the project's design lists as open ("red object at (x, y); it is a stop sign; therefore
stop"); credit up to the first wrong step follows process supervision (Lightman et al., arXiv 2305.20050).
"""

from typing import Any

from rlperc import Completion, Score, reward
from rlperc.words.geometry import (
    Box,
    Frame,
    Scale,
    Unreadable,
    boxes_of,
    gold_boxes,
    in_box,
    iou,
    pixel_scale,
    points_of,
    stated_value,
    to_pixels,
)

LINKS = ("object", "location", "identity", "conclusion")
MAX_TEXT = 1000  # characters of a text link; more than this is none


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def perceptual_chain(
    completion: Completion,
    chain: dict[str, Any] | None,
    image_size: list[float] | None = None,
    resized_size: list[float] | None = None,
    *,
    frame: Frame,
    gold_frame: Frame = "pixels",
    min_iou: float = 0.5,
) -> Score | None:
    """Links that hold before the first one that does not, over 4: a right conclusion from a wrong sight earns nothing.

    The model states {"object": …, "location": …, "identity": …} as JSON in its perception and the conclusion as its answer.
    The column `chain` holds the same three and `conclusion`; its location is a box. A stated location holds as one point
    in that box, or as one box whose IoU with it is at least `min_iou`; the other links hold as the same text, whatever its
    case and spacing. For `frame` and the size columns see `box_iou`.
    """
    if not isinstance(chain, dict) or not all(isinstance(chain.get(link), str) for link in LINKS if link != "location"):
        return None
    scale = pixel_scale(frame, image_size, resized_size)
    gold = gold_boxes(chain.get("location"), pixel_scale(gold_frame, image_size, resized_size))
    if gold is None or len(gold) != 1:
        return None
    if completion.perception is None:
        return Score(0.0, why="no perception")
    stated = stated_value(completion.perception)
    if not isinstance(stated, dict):
        return Score(0.0, why="the perception is not one object in JSON")
    holds = {
        "object": _same(stated.get("object"), chain["object"]),
        "location": _located(stated.get("location"), scale, gold[0], min_iou),
        "identity": _same(stated.get("identity"), chain["identity"]),
        "conclusion": _same(completion.answer, chain["conclusion"]),
    }
    broken = next((i for i, link in enumerate(LINKS) if not holds[link]), None)
    return Score(1.0) if broken is None else Score(broken / len(LINKS), why=f"breaks at the {LINKS[broken]}")


def _same(stated: Any, gold: str) -> bool:
    if not isinstance(stated, str) or len(stated) > MAX_TEXT:
        return False
    return " ".join(stated.split()).casefold() == " ".join(gold.split()).casefold()


def _located(stated: Any, scale: Scale, gold: Box, min_iou: float) -> bool:
    boxes = boxes_of(stated)
    if not isinstance(boxes, Unreadable):
        return len(boxes) == 1 and iou(to_pixels(boxes[0], scale), gold) >= max(min_iou, 1e-9)
    points = points_of(stated)
    return not isinstance(points, Unreadable) and len(points) == 1 and in_box(to_pixels(points[0], scale), gold)
