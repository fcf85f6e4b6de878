"""A whole run, top to bottom: check, make the folder, measure, train stage after stage, measure, report."""

from __future__ import annotations

import gc
import importlib.metadata
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from torch import distributed

from rlperc.errors import UserError
from rlperc.evaluate.accuracy import Judged, Measures, measure, summarize
from rlperc.evaluate.samples import write_samples
from rlperc.recipe.check import check_recipe
from rlperc.recipe.environment import check_versions
from rlperc.recipe.folder import RunFolder
from rlperc.recipe.load import dump_recipe
from rlperc.recipe.rewards import answer_use, handling, perception_use
from rlperc.recipe.schema import RL_KINDS, Data, Evaluate, Recipe, Stage
from rlperc.report.card import write_card
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.score.coupling import Coupling
from rlperc.train.callbacks import CurvePoints, MetricsToFile
from rlperc.train.data import load_rows
from rlperc.train.images import has_images
from rlperc.train.models import load_model, save_model
from rlperc.train.stages import check_rows, stage_config, train_stage
from rlperc.train.start import start_model

Say = Callable[[str], None]


def run_recipe(recipe: Recipe, move_aside: bool = False, say: Say = print) -> RunFolder:
    """Run a recipe.

    Args:
        recipe: a resolved recipe.
        move_aside: move a run that is already in the output folder aside, instead of refusing.
        say: told what begins, in one process only.

    Returns:
        The run's folder.

    Raises:
        UserError: the recipe cannot run as it is, or a reward broke its contract. What was measured until then
            is in the folder.
    """
    for extra in recipe.extras:
        check_versions(extra)
    check_recipe(recipe)
    quiet(tiny=recipe.stages[0].model.tiny is not None)
    # The configs first: they open the process group with the recipe's own `ddp_timeout` and `ddp_backend`.
    configs = [stage_config(recipe, stage, RunFolder(recipe.output).stage(stage.name)) for stage in recipe.stages]
    state = PartialState(cpu=not torch.cuda.is_available())
    folder = RunFolder(recipe.output, writes=state.is_main_process)
    folder.claim(move_aside)
    state.wait_for_everyone()
    run = Run(recipe, folder, state, say if state.is_main_process else _silent)
    with run.recorded():
        run.go(configs)
    state.wait_for_everyone()
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return folder


class Run:
    """What a run knows while it goes: where it writes, what it has measured."""

    def __init__(self, recipe: Recipe, folder: RunFolder, state: PartialState, say: Say) -> None:
        self.recipe, self.folder, self.state, self.say = recipe, folder, state, say
        self.began = time.monotonic()
        self.judged: dict[str, list[Judged]] = {}
        self.summary: dict[str, Any] = {
            "status": "running",
            "name": recipe.name,
            "seed": recipe.seed,
            "processes": state.num_processes,
            "eval": {},
            "curve": [],
            "coupling": {},
            "rewards": {},
            "zero_spread": {},
            "parity": {},
            "stage_seconds": {},
        }
        self.examiner = Examiner(recipe, recipe.evaluate) if recipe.evaluate else None

    def go(self, configs: list[Any]) -> None:
        """Measure and train."""
        rows = [self._rows(index, stage) for index, stage in enumerate(self.recipe.stages)]
        source = self._start()
        first_rl = next((stage.name for stage in self.recipe.stages if stage.kind in RL_KINDS), None)
        self._measure("random" if self.recipe.stages[0].model.tiny else "start", source, self.recipe.stages[0])
        for index, (stage, config) in enumerate(zip(self.recipe.stages, configs, strict=True)):
            if stage.name == first_rl:
                self._measure("before", source, stage, same=index == 0)
            source = self._stage(stage, config, source, rows[index])
        self._measure("after", source, self.recipe.stages[-1])
        for sample in self.summary.get("samples", []):
            self.folder.log("sample", **sample)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write the folder's own files, and the summary whichever way the run ends."""
        self.folder.write(self.folder.recipe, dump_recipe(self.recipe))
        self.folder.write_json(self.folder.versions, versions())
        self._save()
        status = "failed"
        try:
            yield
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except Exception as error:
            self.summary["error"] = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise
        finally:
            self.summary["status"] = status
            self._save()
            if status == "done" and self.folder.writes:
                write_card(self.folder)

    def _start(self) -> str | Path:
        """The model to start from: a name, or the folder of a tiny one made now."""
        source = start_model(self.recipe, self.folder.path / "stages" / "start", self.folder.writes)
        self.state.wait_for_everyone()
        return source

    def _rows(self, index: int, stage: Stage) -> Any:
        """A stage's rows, loaded and checked before the first stage trains."""
        rows = load_rows(stage.data, 1000 * self.recipe.seed + index, self.recipe.tags)
        check_rows(stage, rows)
        return rows

    def _stage(self, stage: Stage, config: Any, source: str | Path, rows: Any) -> Path:
        began = time.monotonic()
        self.say(f"stage {stage.name} ({stage.kind})")
        model, processor = load_model(source, stage.model)
        callbacks: list[Any] = [MetricsToFile(self.folder, stage.name)]
        if stage.kind in RL_KINDS and self.examiner is not None and self.examiner.curve is not None:
            callbacks.append(self._curve(stage, processor, self.examiner, self.examiner.curve))
        trained = train_stage(self.recipe, stage, config, model, processor, rows, callbacks)
        target = self.folder.model if stage is self.recipe.stages[-1] else self.folder.stage(stage.name) / "model"
        if self.folder.writes:
            save_model(trained.model, processor, target)
        coupling, tallies, zero_spread, parity = trained.coupling, trained.tallies, trained.zero_spread, trained.parity
        del model, trained
        release()
        self.state.wait_for_everyone()
        if coupling is not None:
            self._record_coupling(stage, coupling)
            self._record_tallies(stage, tallies)
        if zero_spread is not None:
            self._record_spread(stage, zero_spread)
        if parity is not None:
            self.summary["parity"][stage.name] = {"mean": parity[0], "max": parity[1]}
            self.say(f"vLLM in '{stage.name}': log-probabilities within {parity[1]:.1e} of the trainer's at the start")
        self.summary["stage_seconds"][stage.name] = time.monotonic() - began
        self._save()
        return target

    def _measure(self, label: str, source: str | Path, stage: Stage, same: bool = False) -> None:
        """Measure a model; `same` says that it is the one that was measured last."""
        if self.examiner is None:
            return
        if same:
            self.judged[label] = list(self.judged.values())[-1]
        else:
            self.judged[label] = self._judge(self.examiner, label, source, stage)
        self.summary["eval"][label] = summarize(self.judged[label])
        self.folder.log("eval", model=label, **self.summary["eval"][label])
        if self.folder.writes:
            rows = self.examiner.exam.rows
            self.summary["samples"] = write_samples(self.folder, rows, self.judged, self.examiner.samples)
        self._save()

    def _judge(self, examiner: Examiner, label: str, source: str | Path, stage: Stage) -> list[Judged]:
        self.say(f"measure {label}")
        model, processor = load_model(source, stage.model)
        model.to(self.state.device)
        judged = examiner.judge(model, processor, examiner.exam, f"measure {label}")
        del model
        release()
        return judged

    def _curve(self, stage: Stage, processor: Any, examiner: Examiner, exam: Exam) -> CurvePoints:
        def point(model: Any, step: int) -> None:
            found = {"stage": stage.name, "step": step, **summarize(examiner.judge(model, processor, exam, "curve"))}
            self.summary["curve"].append(found)
            self.folder.log("curve", **found)

        return CurvePoints(exam.every, point)

    def _record_coupling(self, stage: Stage, coupling: Coupling) -> None:
        matrix = [[None if value != value else value for value in row] for row in coupling.matrix().tolist()]
        self.summary["coupling"][stage.name] = {"rewards": coupling.names, "matrix": matrix}
        self.folder.log("coupling", stage=stage.name, rewards=coupling.names, matrix=matrix)

    def _record_tallies(self, stage: Stage, tallies: dict[str, dict[str, Any]]) -> None:
        self.summary["rewards"][stage.name] = tallies
        self.folder.log("rewards", stage=stage.name, **tallies)
        for name, tally in tallies.items():
            if not tally["counts"].get("value"):
                self.say(f"warning: the reward '{name}' scored nothing in '{stage.name}': {dict(tally['counts'])}")

    def _record_spread(self, stage: Stage, zero_spread: float) -> None:
        self.summary["zero_spread"][stage.name] = zero_spread
        if zero_spread == 1 and stage.kind != "ppo":
            self.say(f"warning: in '{stage.name}' no group had rewards that differ, so that it learned nothing from them")

    def _save(self) -> None:
        self.summary |= {"seconds": time.monotonic() - self.began, "peak_memory_mib": peak_memory()}
        self.folder.write_json(self.folder.summary, self.summary)


@dataclass(frozen=True)
class Exam:
    """Rows to measure on, which of them have an image, and how many steps lie between two measurements."""

    rows: Any
    illustrated: list[bool]
    every: int


class Examiner:
    """The exams, loaded once, so that every model sees the same."""

    def __init__(self, recipe: Recipe, settings: Evaluate) -> None:
        self.settings, self.samples = settings, settings.samples
        self.exam = _exam(settings.data)
        self.curve = _exam(settings.curve.data, settings.curve.every) if settings.curve else None
        use = answer_use(recipe)
        answer = RewardRunner(find_reward(use.use), use.with_, handling(use))
        has_truth = "perception" in self.exam.rows.column_names
        seen = perception_use(recipe, settings)
        perception = RewardRunner(find_reward(seen.use), seen.with_, handling(seen)) if has_truth else None
        self.measures = Measures(answer, perception, recipe.tags)

    def judge(self, model: Any, processor: Any, exam: Exam, label: str) -> list[Judged]:
        """Measure a model on an exam."""
        return measure(model, processor, exam.rows, exam.illustrated, self.measures, self.settings, label)


def _exam(data: Data, every: int = 0) -> Exam:
    rows = load_rows(data, seed=0)
    return Exam(rows, has_images(rows), every)


def versions() -> dict[str, str]:
    """What this run ran on."""
    packages = ("rlperc", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "numpy", "Pillow", "scikit-learn")
    found = {name: importlib.metadata.version(name) for name in packages}
    with suppress(importlib.metadata.PackageNotFoundError):
        found["vllm"] = importlib.metadata.version("vllm")
    return {**found, "python": sys.version.split()[0], "platform": platform.platform(), "threads": str(torch.get_num_threads())}


def peak_memory() -> float:
    """Peak resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def release() -> None:
    """Give a model's memory back before the next one is loaded: trainers sit in reference cycles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _silent(_: str) -> None:
    """What the other processes say."""


def quiet(tiny: bool) -> None:
    """Leave out what the libraries say about one another; and their bars, where a tiny model loads in no time."""
    transformers.utils.logging.set_verbosity_error()
    if tiny:
        transformers.utils.logging.disable_progress_bar()
    # TRL 1.16 still uses transformers' old name for activation checkpointing, at every generation.
    warnings.filterwarnings("ignore", message=r".*gradient_checkpointing\w*. is deprecated", category=FutureWarning)
