"""What happens beside training: metrics to a file, a quiet progress bar, points on the learning curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlperc.recipe.folder import RunFolder
from rlperc.train.sharding import whole
from rlperc.watch.job import Watch

SHOWN = ("loss", "reward")


class MetricsToFile(TrainerCallback):
    """Every log of the trainer becomes a line of `metrics.jsonl`."""

    def __init__(self, folder: RunFolder, stage: str) -> None:
        self.folder, self.stage = folder, stage

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Write the numbers that are numbers."""
        if state.is_world_process_zero:
            self.folder.log("train", stage=self.stage, step=state.global_step, **_finite(logs or {}))


class Moves(TrainerCallback):
    """Tells the job's watch that training moves."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        """A micro-batch's gradients."""
        self.watch.moved()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step."""
        self.watch.moved()


class Bar(ProgressCallback):
    """transformers' bar with the last loss and reward behind it, instead of a dictionary printed at every step."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Name the bar."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(self.label)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Show the last values."""
        shown = {name: f"{value:.3f}" for name, value in _finite(logs or {}).items() if name in SHOWN}
        if self.training_bar is not None and shown:
            self.training_bar.set_postfix(shown)


class CurvePoints(TrainerCallback):
    """Measure at the start and then every so many steps. All processes take part in it."""

    def __init__(self, every: int, measure: Callable[[Any, int], None]) -> None:
        self.every, self.measure = every, measure
        self.trainer: Trainer | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The first point; where a stage goes on, it was measured before."""
        if state.global_step == 0:
            self._point(0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The next one."""
        if state.global_step % self.every == 0:
            self._point(state.global_step)

    def _point(self, step: int) -> None:
        with whole(self.trainer) as model:
            self.measure(model, step)


def dress(trainer: Trainer, label: str) -> None:
    """Put our progress bar in the place of the one the trainer brought, and let those callbacks know it that ask for it."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(Bar(label))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, CurvePoints):
            callback.trainer = trainer


def _finite(logs: dict[str, Any]) -> dict[str, float]:
    """The finite numbers among a trainer's logs, which transformers 5 writes as text at the end of training."""
    values = {}
    for name, value in logs.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            values[name] = number
    return values
