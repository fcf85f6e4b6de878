"""The values of a chart that were read right, as an F1 score over its labelled values.

Source: the relaxed accuracy of ChartQA (arXiv 2203.10244), which takes a number within 5 % as right, for each value
of a chart's data table, so that a response is paid for what it read and not for one answer only.
"""

from collections import Counter
from typing import Any

from rlperc import Completion, Score, reward
from rlperc.words.answers import number
from rlperc.words.matching import f1
from rlperc.words.structure import read_stated
from rlperc.words.text import label, normalise

MAX_VALUES = 500
MAX_LABEL_CHARACTERS = 200

Label = tuple[str, ...]
Entry = tuple[Label, float | None]


@reward(range=(0.0, 1.0), credits="perception", bounded=True)
def chart_values(completion: Completion, perception: str | None, *, relative_tolerance: float = 0.05) -> Score | None:
    """2 * right / (stated + gold): values of `<perception>` under the label they have in the column `perception`.

    Both are JSON: {label: number}, [[label, number], …] or {series: {label: number}}. Labels are the same whatever their
    case and spacing; a value is right within `relative_tolerance` times the gold value, and so only 0 is right for 0. A
    value may be a string that holds one number. Values of labels that the chart does not have count as stated, and a label
    stated more than once is right nowhere. At most 500 values are read.
    """
    gold = _read_values(perception) if perception is not None else None
    if gold is None:
        return None
    values = {name: value for name, value in gold if value is not None}
    if len(values) < len(gold) or () in values:
        return None
    if completion.perception is None:
        return Score(0.0, why="no perception")
    stated = _read_values(completion.perception)
    if stated is None:
        return Score(0.0, why="the perception is not up to 500 labelled values in JSON, each label once")
    times = Counter(name for name, _ in stated)
    once = {name: value for name, value in stated if times[name] == 1}
    right = sum(_close(once.get(name), value, relative_tolerance) for name, value in values.items())
    score = f1(right, len(stated), len(values))
    return Score(score, why="" if score == 1.0 else f"{right} of {len(values)} values right, {len(stated)} stated")


def _close(stated: float | None, gold: float, relative_tolerance: float) -> bool:
    return stated is not None and abs(stated - gold) <= relative_tolerance * abs(gold)


def _read_values(text: str) -> list[Entry] | None:
    value = read_stated(text)
    if isinstance(value, dict):
        raw = [pair for name, inner in value.items() for pair in _flat(name, inner)]
    elif isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value):
        raw = [((name,), inner) for name, inner in value]
    else:
        return None
    return [(_label(names), _number(inner)) for names, inner in raw] if len(raw) <= MAX_VALUES else None


def _flat(name: str, value: Any) -> list[tuple[tuple[Any, ...], Any]]:
    return [((name, inner), one) for inner, one in value.items()] if isinstance(value, dict) else [((name,), value)]


def _label(names: tuple[Any, ...]) -> Label:
    """The label as it is compared; empty, and so right nowhere, where it is none or too long."""
    texts = [label(name) for name in names]
    read = [text for text in texts if text is not None and len(text) <= MAX_LABEL_CHARACTERS]
    return tuple(normalise(text, fold_case=True) for text in read) if len(read) == len(names) else ()


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return number(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
