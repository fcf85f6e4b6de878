"""A list of objects with attributes, matched one to one with the gold list in any order, by the share of equal attributes.

Source: the one-to-one assignment of DETR (arXiv 2005.12872, section 3.1) over attributes instead of boxes, and the F1
score; a graded form of the perception term a_p of arXiv 2605.29496.
"""

from typing import Any

from rlperc import Completion, Score, reward
from rlperc.words.geometry import MAX_ITEMS, Unreadable, stated_value
from rlperc.words.matching import f1, match
from rlperc.words.response import Where, stated_text
from rlperc.words.structure import read_json, same_value

Object = dict[str, Any]


@reward(range=(0.0, 1.0), credits="perception", imports=("scipy.optimize",))
def objects_matched(completion: Completion, perception: str | None, *, span: Where = "perception") -> Score | None:
    """2 * (shares of the matched pairs) / (stated objects + gold objects), over the best one-to-one match.

    Both lists are JSON, [{"shape": "cube", "color": "red"}, …]; the gold list stands in the column `perception`. A pair's
    share is the attributes equal in both over all the attributes that either names, so that naming more of them does not
    pay; values are equal as `perception_exact` has it. Duplicates and floods lower the score as they do any F1 score. An
    empty gold list is matched by `[]` alone. At most 200 objects are read.
    """
    gold = _objects(read_json(perception)) if perception is not None else None
    if gold is None:
        return None
    text = stated_text(completion, span)
    if text is None:
        return Score(0.0, why=f"no {span}")
    read = stated_value(text)
    if isinstance(read, Unreadable):
        return Score(0.0, why=f"no objects read: {read.why}")
    stated = _objects(read)
    if stated is None:
        return Score(0.0, why="not a list of objects")
    if len(stated) > MAX_ITEMS:
        return Score(0.0, why=f"more than {MAX_ITEMS} objects")
    pairs = match(stated, gold, _share)
    value = f1(sum(pair.score for pair in pairs), len(stated), len(gold))
    right = sum(pair.score == 1.0 for pair in pairs)
    return Score(value, why="" if value == 1.0 else f"{right} of {len(gold)} objects all right, {len(stated)} stated")


def _objects(value: Any) -> list[Object] | None:
    is_list = isinstance(value, list) and all(isinstance(one, dict) and one for one in value)
    return value if is_list else None


def _share(one: Object, other: Object) -> float:
    shared = one.keys() & other.keys()
    return sum(same_value(one[key], other[key]) for key in shared) / (len(one) + len(other) - len(shared))
