"""Measuring models on a recipe's exams: loaded once, so that every model sees the same rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlperc.errors import DataError
from rlperc.evaluate.accuracy import Judged, Measures, measure
from rlperc.recipe.credit import RewardUse
from rlperc.recipe.rewards import answer_use, handling, perception_use
from rlperc.recipe.schema import Data, Evaluate, Recipe
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.train.data import load_rows
from rlperc.train.images import has_images
from rlperc.words.response import Tags


@dataclass(frozen=True)
class Exam:
    """Rows to measure on, which of them have an image, and how many steps lie between two measurements."""

    rows: Any
    illustrated: list[bool]
    every: int


class Examiner:
    """The exams that some settings describe, and the rewards that measure.

    Args:
        settings: the exams, and how they are answered.
        answer: the reward that measures `a`.
        perception: the one that measures `a_p`, where the rows have a `perception`.
        tags: of the responses.
    """

    def __init__(self, settings: Evaluate, answer: RewardUse, perception: RewardUse, tags: Tags) -> None:
        self.settings, self.samples = settings, settings.samples
        self.exam = _exam(settings.data)
        self.curve = _exam(settings.curve.data, settings.curve.every) if settings.curve else None
        columns = self.exam.rows.column_names
        follows = RewardUse(use="answer_follows") if {"perception", "task"} <= set(columns) else None
        self.measures = Measures(
            _runner(answer),
            _runner(perception) if "perception" in columns else None,
            tags,
            _runner(follows) if follows else None,
        )

    def judge(self, model: Any, processor: Any, exam: Exam, label: str) -> list[Judged]:
        """Measure a model on an exam."""
        # A point of the curve is for `a`, `a_p` and `a_r`.
        settings = self.settings.model_copy(update={"blind": []}) if exam is self.curve else self.settings
        return measure(model, processor, exam.rows, exam.illustrated, self.measures, settings, label)


def examiner_of(recipe: Recipe) -> Examiner | None:
    """The one that a recipe describes, if it does."""
    if recipe.evaluate is None:
        return None
    return Examiner(recipe.evaluate, answer_use(recipe), perception_use(recipe, recipe.evaluate), recipe.tags)


def _runner(use: RewardUse) -> RewardRunner:
    return RewardRunner(find_reward(use.use), use.with_, handling(use))


def _exam(data: Data, every: int = 0) -> Exam:
    rows = load_rows(data, seed=0)
    return Exam(rows, has_images(rows), every)


def judged_lines(judged: Sequence[Judged]) -> str:
    """What was measured, a line of JSON for each row."""
    # In plain ASCII: what a model quotes may hold half a letter, which no file takes.
    return "".join(json.dumps(asdict(one)) + "\n" for one in judged)


def read_judged(file: Path) -> list[Judged]:
    """Read it again. Raises DataError."""
    try:
        # Not by `splitlines`: what a model writes holds other ends of lines.
        return [Judged(**json.loads(line)) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"what {file} measured", f"it cannot be read: {error}", "--move-aside to begin anew") from None
