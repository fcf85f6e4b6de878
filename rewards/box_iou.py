"""One box, by how well it covers the gold box: intersection over union (IoU).

Source: the overlap of PASCAL VOC (Everingham et al., IJCV 2010, section 4.2), as a reward in VLM-R1 (arXiv 2504.07615),
here on continuous coordinates in one frame.
"""

from rlperc import Completion, Score, reward
from rlperc.words.geometry import (
    Frame,
    Unreadable,
    box_fault,
    gold_boxes,
    iou,
    pixel_scale,
    read_boxes,
    to_pixels,
)
from rlperc.words.response import Where, stated_text


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def box_iou(
    completion: Completion,
    boxes: list[list[float]] | None,
    image_size: list[float] | None = None,
    resized_size: list[float] | None = None,
    *,
    frame: Frame,
    gold_frame: Frame = "pixels",
    span: Where = "perception",
    min_iou: float = 0.0,
) -> Score | None:
    """IoU of the one stated box with the one in the column `boxes`, [[x0, y0, x1, y1]]; below `min_iou` it counts as 0.

    `frame` is what the model writes: `pixels` of the original image, `resized` (pixels of the image as the processor
    resized it, as Qwen2.5-VL), `unit` (0 to 1) or `thousand` (0 to 1000, as Qwen2-VL, Qwen3-VL and InternVL). All but
    `pixels` need the column `image_size`, `resized` also `resized_size`; both are [width, height]. Two stated boxes score
    0, the same one twice too. Where `boxes` is [] nothing is there, and stating [] is right. A row with several gold boxes
    is that of `boxes_matched`.
    """
    if boxes is None:
        return None
    scale = pixel_scale(frame, image_size, resized_size)
    gold = gold_boxes(boxes, pixel_scale(gold_frame, image_size, resized_size))
    if gold is None or len(gold) > 1:
        return None
    text = stated_text(completion, span)
    if text is None:
        return Score(0.0, why=f"no {span}")
    stated = read_boxes(text)
    if isinstance(stated, Unreadable):
        return Score(0.0, why=f"no box read: {stated.why}")
    if not gold:
        return Score(0.0, why="a box where nothing is") if stated else Score(1.0)
    if len(stated) != 1:
        return Score(0.0, why=f"{len(stated)} boxes instead of one")
    fault = box_fault(stated[0])
    if fault:
        return Score(0.0, why=fault)
    overlap = iou(to_pixels(stated[0], scale), gold[0])
    if overlap < min_iou:
        return Score(0.0, why=f"IoU {overlap:.2f}, below {min_iou:g}")
    return Score(overlap, why="" if overlap == 1.0 else f"IoU {overlap:.2f}")
