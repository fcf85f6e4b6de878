"""Many boxes, matched one to one with the gold boxes, as an F1 score, so that duplicates and floods lower it.

Source: the one-to-one assignment of DETR (arXiv 2005.12872, section 3.1) and the F1 score; detection as a reward in
Visual-RFT (arXiv 2503.01785) and VLM-R1 (arXiv 2504.07615).
"""

from rlperc import Completion, Score, reward
from rlperc.words.geometry import (
    Box,
    Frame,
    Unreadable,
    gold_boxes,
    iou,
    pixel_scale,
    read_boxes,
    to_pixels,
)
from rlperc.words.matching import f1, match
from rlperc.words.response import Where, stated_text


@reward(range=(0.0, 1.0), credits="perception", imports=("scipy.optimize",))
def boxes_matched(
    completion: Completion,
    boxes: list[list[float]] | None,
    labels: list[str] | None = None,
    image_size: list[float] | None = None,
    resized_size: list[float] | None = None,
    *,
    frame: Frame,
    gold_frame: Frame = "pixels",
    span: Where = "perception",
    min_iou: float = 0.5,
    soft: bool = True,
) -> Score | None:
    """2 * (IoU of the matched pairs) / (stated boxes + gold boxes), over the best one-to-one match with the column `boxes`.

    A pair below `min_iou` is no match. With `soft: false` a match counts 1 instead of its IoU, which makes it the F1 score
    at that threshold. With the column `labels`, one for each gold box, a match also needs the same label, whatever its
    case. A stated box that is inverted or has no area matches nothing, as does one without a label where there are labels;
    both still count as stated. Where `boxes` is [] nothing is there, and only stating [] is right. For `frame` and the
    size columns see `box_iou`. At most 200 boxes are read.
    """
    if boxes is None:
        return None
    scale = pixel_scale(frame, image_size, resized_size)
    gold = gold_boxes(boxes, pixel_scale(gold_frame, image_size, resized_size))
    if gold is None or (labels is not None and len(labels) != len(gold)):
        return None
    wanted = gold if labels is None else [box._replace(label=label) for box, label in zip(gold, labels, strict=True)]
    text = stated_text(completion, span)
    if text is None:
        return Score(0.0, why=f"no {span}")
    stated = read_boxes(text)
    if isinstance(stated, Unreadable):
        return Score(0.0, why=f"no boxes read: {stated.why}")

    def worth(one: Box, other: Box) -> float:
        if other.label is not None and _word(one.label) != _word(other.label):
            return 0.0
        overlap = iou(one, other)
        return 0.0 if overlap < min_iou else overlap if soft else float(overlap > 0)

    pairs = match([to_pixels(box, scale) for box in stated], wanted, worth)
    value = f1(sum(pair.score for pair in pairs), len(stated), len(gold))
    return Score(value, why="" if value == 1.0 else f"{len(pairs)} of {len(gold)} boxes matched, {len(stated)} stated")


def _word(label: str | None) -> str | None:
    return label if label is None else str(label).strip().casefold()
