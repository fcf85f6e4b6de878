"""End-to-end accuracy `a`, perception `a_p`, and reasoning given the true perception `a_r` (arXiv 2605.29496)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from torch import distributed
from tqdm.auto import tqdm

from rlperc.evaluate.generate import generate
from rlperc.recipe.rows import IMAGE_COLUMNS, row_images
from rlperc.recipe.schema import Evaluate
from rlperc.recipe.sizes import SIZES, with_sizes
from rlperc.reward.runner import RewardRunner
from rlperc.score.intervals import wilson
from rlperc.words.response import Completion, Tags, read_response


@dataclass(frozen=True)
class Measures:
    """The rewards that measure: `perception` is None where the data has no p*."""

    answer: RewardRunner
    perception: RewardRunner | None
    tags: Tags


@dataclass(frozen=True)
class Judged:
    """One row, measured. None: the row is not that measure's."""

    index: int
    response: str
    a: float | None
    a_p: float | None
    a_r: float | None


def measure(
    model: Any,
    processor: Any,
    rows: Dataset,
    illustrated: Sequence[bool],
    measures: Measures,
    settings: Evaluate,
    label: str,
) -> list[Judged]:
    """Measure a model on every row; with several processes, each takes its share and all get the whole.

    Args:
        model: any model that `generate` takes.
        processor: of the model.
        rows: with `prompt`, images and the measures' columns.
        illustrated: whether each row has an image.
        measures: the rewards that measure.
        settings: batch size and length.
        label: of the progress bar.
    """
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    mine = range(rank, len(rows), world)
    # Processors want an image for every row of a batch or for none.
    kinds = ([i for i in mine if illustrated[i]], [i for i in mine if not illustrated[i]])
    size = settings.batch_size
    batches = [kind[start : start + size] for kind in kinds for start in range(0, len(kind), size)]
    was_training = model.training
    model.eval()
    judged: list[Judged] = []
    for batch in tqdm(batches, desc=label, disable=rank != 0, leave=False):
        judged += _judge(model, processor, rows[batch], batch, measures, settings)
    model.train(was_training)
    return sorted(_gather(judged), key=lambda one: one.index)


def summarize(judged: Sequence[Judged]) -> dict[str, Any]:
    """Means as fractions 0..1, with 95 % intervals: `{"n": …, "a": …, "a_interval": [low, high], …}`."""
    summary: dict[str, Any] = {"n": len(judged)}
    for name in ("a", "a_p", "a_r"):
        values = [value for one in judged if (value := getattr(one, name)) is not None]
        if values:
            mean = sum(values) / len(values)
            summary[name] = mean
            summary[f"{name}_interval"] = list(wilson(mean, len(values)))
    return summary


def _judge(
    model: Any, processor: Any, columns: dict[str, list[Any]], batch: list[int], measures: Measures, settings: Evaluate
) -> list[Judged]:
    columns = _with_sizes(columns, processor, measures)
    seen = [row_images({name: columns[name][i] for name in IMAGE_COLUMNS if name in columns}) for i in range(len(batch))]

    def write(at: list[int], prefixes: list[str]) -> list[str]:
        prompts, images = [columns["prompt"][i] for i in at], [seen[i] for i in at]
        return generate(model, processor, prompts, images, prefixes, settings.max_new_tokens)

    responses = write(list(range(len(batch))), [""] * len(batch))
    read = [read_response(text, measures.tags) for text in responses]
    a = _values(measures.answer, read, columns)
    a_p: list[float | None] = [None] * len(batch)
    a_r: list[float | None] = [None] * len(batch)
    known = [i for i, truth in enumerate(columns.get("perception", [])) if truth is not None]
    if measures.perception is not None and known:
        a_p = _values(measures.perception, read, columns)
        tag = measures.tags.perception
        reasoned = write(known, [f"<{tag}>{columns['perception'][i]}</{tag}>" for i in known])
        continued = [read_response(text, measures.tags) for text in reasoned]
        of_known = {name: [values[i] for i in known] for name, values in columns.items()}
        for i, value in zip(known, _values(measures.answer, continued, of_known), strict=True):
            a_r[i] = value
    return [Judged(*one) for one in zip(batch, responses, a, a_p, a_r, strict=True)]


def _with_sizes(columns: dict[str, list[Any]], processor: Any, measures: Measures) -> dict[str, list[Any]]:
    runners = [measures.answer, *([measures.perception] if measures.perception else [])]
    wanted = {column for runner in runners for column in runner.reward.columns} & SIZES
    if not wanted:
        return columns
    rows = with_sizes(
        [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)], wanted, processor
    )
    return {**columns, **{name: [row.get(name) for row in rows] for name in wanted}}


def _values(runner: RewardRunner, read: list[Completion], columns: dict[str, list[Any]]) -> list[float | None]:
    return [outcome.value for outcome in runner.run(read, columns)]


def _gather(judged: list[Judged]) -> list[Judged]:
    if not distributed.is_initialized():
        return judged
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, judged)
    return [one for part in parts for one in part]
