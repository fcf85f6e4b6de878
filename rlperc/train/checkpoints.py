"""Checkpoints from which a stage goes on as if nothing had happened.

transformers keeps weights, optimizer, scheduler and random states, and goes on at the right row. What it and TRL leave out:

- What was counted and not logged yet, by the trainer, the rewards and the report of coupling: kept beside a checkpoint.
- TRL's sampler draws the order of each epoch's rows from one generator, which a new trainer begins anew.
- TRL draws responses for several optimizer steps at once and keeps them in memory: only where the next step draws new ones
  can a run go on, so that a checkpoint which is due before waits until then.
- A stage that was saved at its last step would train one step more.
- `save_total_limit` takes the old checkpoint away before the new one counts.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.utils import RepeatSampler

from rlperc.errors import DataError, RewardError
from rlperc.recipe.folder import to_disk
from rlperc.recipe.progress import checkpoint_name
from rlperc.train.stop import Stop

log = logging.getLogger(__name__)

# What transformers', TRL's and our trainers count for themselves.
COUNTED = {"_globalstep_last_logged", "_step", "_total_train_tokens", "silent_shares"}


class Keeps(Protocol):
    """Something that counts while a stage trains."""

    def kept(self) -> Any:
        """What it has counted, as JSON has it."""

    def restore(self, kept: Any) -> None:
        """Go on from there."""


class Checkpoints:
    """Of one stage: where it goes on from, and what makes a checkpoint count."""

    def __init__(self, folder: Path, stop: Stop, commit: Callable[[int], None], step: int | None = None) -> None:
        self.folder, self.stop, self.commit, self.step = folder, stop, commit, step

    def train(self, trainer: Any, keeps: Mapping[str, Keeps] | None = None) -> None:
        """Train, from the checkpoint on if there is one. SIGTERM saves and ends the program, unless it was the last step.

        Raises:
            DataError: the checkpoint cannot be read.
        """
        trainer.add_callback(_Keeper(self, trainer, keeps or {}))
        start = None if self.step is None else str(self.folder / checkpoint_name(self.step))
        try:
            trainer.train(resume_from_checkpoint=start)
        except _NothingLeft:
            trainer.log_completions = False  # the table of the last step is there
            trainer._finalize_training(None, 0, time.time())
        except (RuntimeError, RewardError) as error:
            if self.stop.asked and trainer.accelerator.num_processes == 1:  # of many, the job's watch says why they end
                # A signal to all processes ends some before this step is saved: loaders, workers of rewards, other ranks.
                log.warning("rlperc: ended by SIGTERM in a step that could not be saved: %s", error)
            self.stop.end_if_asked()
            raise
        if trainer.state.global_step < trainer.state.max_steps:
            self.stop.end_if_asked()

    def sweep(self) -> None:
        """Take away what a kill has cut off: every checkpoint after the one to go on from."""
        for step, folder in self._all():
            if self.step is None or step > self.step:
                shutil.rmtree(folder)

    def rotate(self, limit: int | None) -> None:
        """Keep the last `limit` checkpoints."""
        for _, folder in self._all()[: -limit if limit and limit > 0 else 0]:
            shutil.rmtree(folder)

    def _all(self) -> list[tuple[int, Path]]:
        found = [(one.name.rpartition("-")[2], one) for one in self.folder.glob(checkpoint_name("*"))]
        return sorted((int(step), one) for step, one in found if step.isdecimal())


class _NothingLeft(Exception):
    """The checkpoint is that of the last step."""


class _Keeper(TrainerCallback):
    """Decides when to save, and adds to what transformers saves. All processes take part in it."""

    def __init__(self, checkpoints: Checkpoints, trainer: Any, keeps: Mapping[str, Keeps]) -> None:
        self.checkpoints, self.trainer, self.keeps = checkpoints, trainer, keeps
        self.limit, trainer.args.save_total_limit = trainer.args.save_total_limit, None
        self.counts = can_go_on(trainer.args)
        self._owed = False
        self._saved: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Go on from what was kept."""
        if self.checkpoints.step is None:
            return
        folder = self.checkpoints.folder / checkpoint_name(self.checkpoints.step)
        kept = self._read(folder / self._file)
        self.trainer._tr_loss.fill_(kept["loss"])
        vars(self.trainer).update(kept["counted"])
        if hasattr(self.trainer, "_metrics"):
            self.trainer._metrics["train"].clear()
            self.trainer._metrics["train"].update(kept["metrics"])
        for name, one in self.keeps.items():
            one.restore(kept["keeps"][name])
        _draw_epochs(train_dataloader, int(state.epoch or 0))
        if state.global_step >= state.max_steps:
            raise _NothingLeft

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save where that is due, or was and had to wait, or where the program is to end."""
        stops = self._stops()
        if not self.counts:
            control.should_training_stop |= stops
            return
        whole = self._whole or state.global_step >= state.max_steps
        due = control.should_save or self._owed or stops
        control.should_save = due and self._whole
        self._owed = due and not whole
        control.should_training_stop |= stops and whole

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The same, where `save_strategy: epoch` says so; never twice, over a checkpoint that counts."""
        if control.should_save and self.counts:
            control.should_save = self._whole and self._saved != state.global_step
            self._owed = not self._whole

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Add what transformers leaves out, and make the checkpoint count once every process has written its part."""
        if not self.counts:
            return
        folder = self.checkpoints.folder / checkpoint_name(state.global_step)
        (folder / self._file).write_text(json.dumps(self._kept()), encoding="utf-8")
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            to_disk(folder)
            self.checkpoints.commit(state.global_step)
            self.checkpoints.rotate(self.limit)
        # Where all are told to end, the first that leaves may take the job along.
        self.trainer.accelerator.wait_for_everyone()
        self._saved = state.global_step

    @property
    def _file(self) -> str:
        return f"rlperc-{self.trainer.accelerator.process_index}.json"

    @property
    def _whole(self) -> bool:
        """Whether the next step draws its own responses."""
        trainer = self.trainer
        return not hasattr(trainer, "_step") or trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations) == 0

    def _stops(self) -> bool:
        """Whether any process is told to end: they all have to leave at the same step."""
        asked, accelerator = self.checkpoints.stop.asked, self.trainer.accelerator
        if accelerator.num_processes == 1:
            return asked
        everyone = accelerator.reduce(torch.tensor(float(asked), device=accelerator.device), reduction="sum").item()
        if everyone > 0:  # and never back to False: a signal that came while the others were asked is for the next step
            self.checkpoints.stop.asked = True
        return bool(everyone > 0)

    def _read(self, file: Path) -> Any:
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"the checkpoint {file.parent}", f"{file.name} cannot be read: {error}", "--move-aside") from None

    def _kept(self) -> dict[str, Any]:
        return {
            "loss": self.trainer._tr_loss.item(),
            "counted": {name: value for name, value in vars(self.trainer).items() if name in COUNTED},
            "metrics": self.trainer._metrics["train"] if hasattr(self.trainer, "_metrics") else {},
            "keeps": {name: one.kept() for name, one in self.keeps.items()},
        }


def can_go_on(args: TrainingArguments) -> bool:
    """Whether a checkpoint under these options holds all that a stage needs.

    Without the optimizer it does not, nor where the reference model moves, which TRL does not save.
    """
    return not args.save_only_model and not getattr(args, "sync_ref_model", False)


def _draw_epochs(loader: Any, epochs: int) -> None:
    """Take the orders of the epochs that are over out of TRL's sampler."""
    sampler = loader.batch_sampler
    while not hasattr(sampler, "sampler"):  # accelerate's share of it, with several processes
        sampler = sampler.batch_sampler
    sampler = sampler.sampler
    if isinstance(sampler, RepeatSampler) and sampler.shuffle:
        for _ in range(epochs):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
