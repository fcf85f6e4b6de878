"""What a model sees and what it makes of it: `a`, `a_p`, `a_r` (arXiv 2605.29496), and what it gets without seeing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from datasets import Dataset
from torch import distributed
from tqdm.auto import tqdm

from rlperc.evaluate.blind import shown, without_pictures
from rlperc.evaluate.generate import generate
from rlperc.recipe.rows import row_images
from rlperc.recipe.schema import Evaluate
from rlperc.recipe.sizes import SIZES, with_sizes
from rlperc.reward.runner import RewardRunner
from rlperc.score.intervals import ClusteredMean, mean_interval
from rlperc.score.paired import paired
from rlperc.words.response import Tags, read_response

Columns = dict[str, list[Any]]
NAMES = ("a", "a_p", "a_p_partial", "a_r", "a_o", "blind_none", "blind_blank", "blind_other")
"""All measures, in the order in which they are shown."""


@dataclass(frozen=True)
class Measures:
    """The rewards that measure: `perception` is None where the data has no p*, `follows` where no world can solve it."""

    answer: RewardRunner
    perception: RewardRunner | None
    tags: Tags
    follows: RewardRunner | None = None


@dataclass(frozen=True)
class Judged:
    """A response to a row, measured. None: the row is not that measure's.

    `a`: the answer is right. `a_p`: the stated perception is all of p*; `a_p_partial` with partial credit. `a_r`: the
    answer is right when the same model goes on from p* in its own perception span. `a_o`: the answer follows from the
    model's own perception, right or wrong. `blind`: the answer is right without an image, with a grey one, or with another
    row's. `why` says what kept `a` and `a_p` from being right.
    """

    index: int
    response: str
    a: float | None
    a_p: float | None
    a_r: float | None
    a_p_partial: float | None = None
    a_o: float | None = None
    blind: dict[str, float | None] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """One of `NAMES`."""
        found = self.blind.get(name.removeprefix("blind_")) if name.startswith("blind_") else getattr(self, name)
        return None if found is None else float(found)


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
        settings: batch size, length, how often each row is answered, and what is shown instead of the image.
        label: of the progress bar.

    Returns:
        In the order of the rows, `settings.repeats` for each.
    """
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    mine = [index for index in range(rank, len(rows), world) for _ in range(settings.repeats)]
    # Processors want an image for every row of a batch or for none.
    kinds = ([i for i in mine if illustrated[i]], [i for i in mine if not illustrated[i]])
    size = settings.batch_size
    batches = [kind[start : start + size] for kind in kinds for start in range(0, len(kind), size)]
    others = _others(rows, illustrated) if "other" in settings.blind else {}
    was_training = model.training
    model.eval()
    judged: list[Judged] = []
    for batch in tqdm(batches, desc=label, disable=rank != 0, leave=False):
        exam = _Batch(model, processor, measures, settings, rows[batch])
        judged += exam.judge(batch, [row_images(rows[others[i]]) if i in others else None for i in batch])
    model.train(was_training)
    return sorted(_gather(judged), key=lambda one: one.index)


def summarize(judged: Sequence[Judged]) -> dict[str, Any]:
    """Means as fractions 0..1, with 95 % intervals clustered by row: `{"n": …, "a": …, "a_interval": [low, high], …}`.

    `a_rows` and the like say how many rows a measure has, where these are not all.
    """
    summary: dict[str, Any] = {"n": len({one.index for one in judged})}
    for name in NAMES:
        values, repeated = ClusteredMean(), False
        for of_row in _by_row(judged, name).values():
            values.add(of_row)
            repeated = repeated or len(of_row) > 1
        interval = mean_interval(values, 0.0, 1.0, clustered=repeated)
        if values.mean is not None and interval is not None:
            summary[name], summary[f"{name}_interval"] = values.mean, list(interval)
            if values.clusters < summary["n"]:
                summary[f"{name}_rows"] = values.clusters
    return summary


def compare(before: Sequence[Judged], after: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """What became of each measure, row by row."""
    found = {}
    for name in NAMES:
        old, new = ({index: fmean(values) for index, values in _by_row(one, name).items()} for one in (before, after))
        if change := paired(old, new):
            found[name] = change.as_json()
    return found


def _by_row(judged: Sequence[Judged], name: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for one in judged:
        if (value := one.value(name)) is not None:
            found[one.index].append(value)
    return found


class _Batch:
    """Some rows, all with images or all without, and a model that answers them."""

    def __init__(self, model: Any, processor: Any, measures: Measures, settings: Evaluate, columns: Columns) -> None:
        self.model, self.processor, self.measures, self.settings = model, processor, measures, settings
        self.columns = _with_sizes(columns, processor, measures)
        self.images = list(_images(columns))

    def judge(self, indices: Sequence[int], others: Sequence[list[Any] | None]) -> list[Judged]:
        """Measure them; `others` are the images of another row for each, if there is one to be shown."""
        every = range(len(self.images))
        responses = self._write(every, self.images)
        read = [read_response(text, self.measures.tags) for text in responses]
        a = self.measures.answer.run(read, self.columns)
        seen = self.measures.perception.run(read, self.columns) if self.measures.perception else []
        follows = self.measures.follows.run(read, self.columns) if self.measures.follows else []
        reasoned, blind = self._reasoned([one.value is not None for one in seen]), self._blind(others)
        judged = []
        for i, index in enumerate(indices):
            partial = seen[i].value if seen else None
            whys = {"a": a[i].why, "a_p": seen[i].why if seen else ""}
            judged.append(
                Judged(
                    index,
                    responses[i],
                    a=a[i].value,
                    a_p=None if partial is None else float(partial == 1.0),
                    a_r=reasoned.get(i),
                    a_p_partial=partial,
                    a_o=follows[i].value if follows else None,
                    blind={kind: values[i] for kind, values in blind.items()},
                    why={name: why for name, why in whys.items() if why},
                )
            )
        return judged

    def _reasoned(self, read: Sequence[bool]) -> dict[int, float | None]:
        """Answers from the true perception, by place in the batch, where the measure of perception could read it."""
        truths = self.columns.get("perception", [])
        known = [i for i, (is_read, truth) in enumerate(zip(read, truths, strict=False)) if is_read and truth is not None]
        if not known:
            return {}
        tag = self.measures.tags.perception
        starts = [f"<{tag}>{self.columns['perception'][i]}</{tag}>" for i in known]
        return dict(zip(known, self._answers(known, [self.images[i] for i in known], starts), strict=True))

    def _blind(self, others: Sequence[list[Any] | None]) -> dict[str, list[float | None]]:
        if not any(self.images):
            return {}
        found: dict[str, list[float | None]] = {}
        for kind in self.settings.blind:
            places = [i for i, other in enumerate(others) if kind != "other" or other is not None]
            images = shown(kind, [self.images[i] for i in places], [others[i] or [] for i in places])
            answers = dict(zip(places, self._answers(places, images), strict=True)) if places else {}
            found[kind] = [answers.get(i) for i in range(len(others))]
        return found

    def _answers(
        self, places: Sequence[int], images: Sequence[list[Any]], starts: Sequence[str] | None = None
    ) -> list[float | None]:
        read = [read_response(text, self.measures.tags) for text in self._write(places, images, starts)]
        columns = {name: [values[i] for i in places] for name, values in self.columns.items()}
        return [outcome.value for outcome in self.measures.answer.run(read, columns)]

    def _write(self, places: Sequence[int], images: Sequence[list[Any]], starts: Sequence[str] | None = None) -> list[str]:
        prompts = [self.columns["prompt"][i] for i in places]
        if not any(images):
            prompts = [without_pictures(prompt) for prompt in prompts]
        given = starts or [""] * len(places)
        return generate(
            self.model, self.processor, prompts, images, given, self.settings.max_new_tokens, self.settings.temperature
        )


def _images(columns: Columns) -> Iterator[list[Any]]:
    for i in range(len(columns["prompt"])):
        yield row_images({name: columns[name][i] for name in ("image", "images") if name in columns})


def _others(rows: Dataset, illustrated: Sequence[bool]) -> dict[int, int]:
    """For each row with images the next one, beginning anew after the last, that has as many and shows something else.

    Several questions about one image often stand one after another.
    """
    seen = [tuple(hash(image.tobytes()) for image in row_images(rows[i])) if has else () for i, has in enumerate(illustrated)]
    found = {}
    for i, own in enumerate(seen):
        following = (j % len(seen) for j in range(i + 1, i + len(seen)))
        other = next((j for j in following if len(seen[j]) == len(own) and seen[j] != own), None) if own else None
        if other is not None:
            found[i] = other
    return found


def _with_sizes(columns: Columns, processor: Any, measures: Measures) -> Columns:
    runners = [measures.answer, *([measures.perception] if measures.perception else [])]
    wanted = {column for runner in runners for column in runner.reward.columns} & SIZES
    if not wanted:
        return columns
    rows = with_sizes(
        [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)], wanted, processor
    )
    return {**columns, **{name: [row.get(name) for row in rows] for name in wanted}}


def _gather(judged: list[Judged]) -> list[Judged]:
    if not distributed.is_initialized():
        return judged
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, judged)
    return [one for part in parts for one in part]
