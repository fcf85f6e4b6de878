"""The parts of a run: the model to start from, measurements and stages, and what is written of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import set_seed

from rlperc.errors import JobError, UserError
from rlperc.evaluate.accuracy import Judged, compare, summarize
from rlperc.evaluate.samples import write_samples
from rlperc.examine import Exam, Examiner, examiner_of, judged_lines, read_judged
from rlperc.process import in_first, peak_memory, release, versions
from rlperc.recipe.folder import RunFolder, to_disk, writing
from rlperc.recipe.load import dump_recipe
from rlperc.recipe.progress import Checkpoint, Progress, check_same, read_progress
from rlperc.recipe.schema import RL_KINDS, Recipe, Stage
from rlperc.report.card import write_card
from rlperc.score.coupling import Coupling
from rlperc.score.offline import alarm_text
from rlperc.train.callbacks import CurvePoints, MetricsToFile, Moves
from rlperc.train.checkpoints import Checkpoints
from rlperc.train.data import load_rows
from rlperc.train.lengths import check_lengths
from rlperc.train.models import load_config, load_model, load_processor, save_model
from rlperc.train.sharding import as_configured
from rlperc.train.stages import check_images, check_rows, train_stage
from rlperc.train.start import make_start, start_source
from rlperc.train.stop import Stop
from rlperc.train.supervise import unanswered
from rlperc.train.trained import whole_model
from rlperc.watch.job import INTERRUPTED, Watch
from rlperc.watch.signals import TERMINATED

Say = Callable[[str], None]


class Run:
    """What a run knows while it goes: where it writes, what it has measured, and which of its parts are done."""

    def __init__(self, recipe: Recipe, folder: RunFolder, state: PartialState, stop: Stop, watch: Watch, say: Say) -> None:
        self.recipe, self.folder, self.state, self.stop, self.watch, self.say = recipe, folder, state, stop, watch, say
        self.judged: dict[str, list[Judged]] = {}
        self.summary: dict[str, Any] = {
            "status": "running",
            "name": recipe.name,
            "seed": recipe.seed,
            "processes": state.num_processes,
            "seconds": 0.0,
            "peak_memory_mib": 0.0,
            "eval": {},
            "changes": {},
            "curve": [],
            "coupling": {},
            "rewards": {},
            "zero_spread": {},
            "parity": {},
            "stage_seconds": {},
        }
        self.progress = self._found() or Progress(state.num_processes)
        self.began = time.monotonic() - self.summary["seconds"]
        self.examiner = examiner_of(recipe)

    def _found(self) -> Progress | None:
        """How far a run has come that is to go on; the same in every process."""

        def find() -> tuple[Progress | None, dict[str, list[Judged]]]:
            found = read_progress(self.folder)
            if found is None:
                return None, {}
            check_same(self.recipe, self.state.num_processes, self.folder, found)
            return found, {label: read_judged(self.folder.measured(label)) for label in found.summary["eval"]}

        progress, self.judged = in_first(self.state, find)
        self.folder.rewind(progress.metrics if progress else 0)
        if progress is not None:
            self.summary |= progress.summary | {"status": "running"}
            at = progress.checkpoint
            self.say(f"going on after {at.step} steps of {at.stage}" if at else f"going on after {len(progress.done)} parts")
        return progress

    def go(self, configs: list[Any]) -> None:
        """Measure and train: all parts that are not done yet."""
        for warning in unanswered(stage.rollout for stage in self.recipe.stages if stage.kind in RL_KINDS):
            self.say(warning)
        for name, part in self._parts(configs):
            if name in self.progress.done:
                continue
            self.stop.end_if_asked()
            # Whatever ran before in this process, or did not: each part draws from its own beginning.
            set_seed(self.recipe.seed)
            with self.stop.saves_first() if name.startswith("stage ") else nullcontext(), writing(self.folder.path):
                part()
                self.progress.done.append(name)
                self.progress.checkpoint = None
                self._commit()
        for sample in self.summary.get("samples", []):
            self.folder.log("sample", **sample)

    def _parts(self, configs: list[Any]) -> Iterator[tuple[str, Callable[[], None]]]:
        stages = self.recipe.stages
        rows = [self._rows(index, stage, config) for index, (stage, config) in enumerate(zip(stages, configs, strict=True))]
        left: list[str | Path] = [*(self.folder.stage(stage.name) / "model" for stage in stages[:-1]), self.folder.model]
        sources = [start_source(self.recipe, self.folder.stage("start")), *left[:-1]]
        looked_at = self.recipe.evaluate.after if self.recipe.evaluate else []
        begins = self.recipe.evaluate is None or self.recipe.evaluate.first
        first = "random" if stages[0].model.tiny else "start"
        first_rl = next((stage.name for stage in stages if stage.kind in RL_KINDS), None)
        yield "start", self._start
        self._check_lengths(sources[0], rows)
        if begins:
            yield f"measure {first}", partial(self._measure, first, sources[0], stages[0])
        measured = begins  # the model that the next stage begins with
        for stage, config, source, own, model in zip(stages, configs, sources, rows, left, strict=True):
            if stage.name == first_rl and begins:
                yield "measure before", partial(self._measure, "before", source, stage, same=measured)
            yield f"stage {stage.name}", partial(self._stage, stage, config, source, own)
            if measured := stage.name in looked_at:
                yield f"measure {stage.name}", partial(self._measure, stage.name, model, stage)
        yield "measure after", partial(self._measure, "after", self.folder.model, stages[-1], same=measured)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write the folder's own files, and the summary whichever way the run ends."""
        self.progress.save(self.folder, self.summary)
        self.folder.write(self.folder.recipe, dump_recipe(self.recipe))
        self.folder.write_json(self.folder.versions, versions())
        self._save()
        status = "failed"
        self.watch.last_words.append(self._ended)
        try:
            yield
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except SystemExit:
            status = "terminated"
            raise
        except JobError as error:
            status, self.summary["error"] = _status(error.code), str(error)
            raise
        except Exception as error:
            self.summary["error"] = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise
        finally:
            self.summary["status"] = status
            self._save()
            if status == "done" and self.folder.writes:
                write_card(self.folder)

    def _ended(self, reason: str, code: int) -> None:
        """Write why the run ends, while its main thread stands in a call that does not return."""
        self.summary |= {"status": _status(code), "error": reason}
        self._save()

    def _start(self) -> None:
        """Make the model to start from, where it is a tiny one."""
        make_start(self.recipe, self.folder.stage("start"), self.folder.writes)
        self.state.wait_for_everyone()

    def _rows(self, index: int, stage: Stage, config: Any) -> Any:
        """A stage's rows, loaded and checked before the first stage trains."""
        rows = load_rows(stage.data, 1000 * self.recipe.seed + index, self.recipe.tags)
        check_images(stage, rows, config)
        check_rows(stage, rows, self.recipe.tags)
        return rows

    def _check_lengths(self, source: str | Path, rows: list[Any]) -> None:
        """Hold all stages' prompts against the first model and its processor, which the later ones inherit."""
        model = self.recipe.stages[0].model

        def check() -> None:
            config, processor = load_config(source, model), load_processor(source, model)
            for stage, own in zip(self.recipe.stages, rows, strict=True):
                check_lengths(stage, own, processor, config)

        in_first(self.state, check)

    def _stage(self, stage: Stage, config: Any, source: str | Path, rows: Any) -> None:
        at = self.progress.checkpoint
        began = time.monotonic() - (at.seconds if at else 0)
        self.say(f"stage {stage.name} ({stage.kind})")
        with as_configured(config):
            model, processor = load_model(source, stage.model)
            callbacks: list[Any] = [MetricsToFile(self.folder, stage.name), Moves(self.watch)]
            if stage.kind in RL_KINDS and self.examiner is not None and self.examiner.curve is not None:
                callbacks.append(self._curve(stage, processor, self.examiner, self.examiner.curve))
            checkpoints = self._checkpoints(stage, began, at.step if at else None)
            trained = train_stage(self.recipe, stage, config, model, processor, rows, callbacks, checkpoints)
        target = self.folder.model if stage is self.recipe.stages[-1] else self.folder.stage(stage.name) / "model"
        if self.folder.writes:
            save_model(whole_model(trained, source, stage.model), processor, target)
            to_disk(target)
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

    def _checkpoints(self, stage: Stage, began: float, step: int | None) -> Checkpoints:
        """Where a stage goes on from, and how it says that it can."""

        def commit(step: int) -> None:
            self.progress.checkpoint = Checkpoint(stage.name, step, time.monotonic() - began)
            self._commit()

        checkpoints = Checkpoints(self.folder.stage(stage.name), self.stop, commit, step)
        if self.folder.writes:
            checkpoints.sweep()
        self.state.wait_for_everyone()
        return checkpoints

    def _measure(self, label: str, source: str | Path, stage: Stage, same: bool = False) -> None:
        """Measure a model; `same` says that it is the one that was measured last."""
        if self.examiner is None:
            return
        if same:
            self.judged[label] = list(self.judged.values())[-1]
        else:
            self.judged[label] = self._judge(self.examiner, label, source, stage)
        self.folder.write(self.folder.measured(label), judged_lines(self.judged[label]))
        self.summary["eval"][label] = summarize(self.judged[label])
        if label == "after" and len(self.judged) > 1:
            before = "before" if "before" in self.judged else next(iter(self.judged))
            self.summary["changes"] = {before: compare(self.judged[before], self.judged[label])}
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
        report = self.summary["coupling"][stage.name] = coupling.report()
        self.folder.log("coupling", stage=stage.name, **report)
        for line in alarm_text(report):
            self.say(f"warning: in '{stage.name}' {line}")

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

    def _commit(self) -> None:
        """Make all that was written count."""
        self._save()
        self.progress.save(self.folder, self.summary)

    def _save(self) -> None:
        peak = max(self.summary["peak_memory_mib"], peak_memory())
        self.summary |= {"seconds": time.monotonic() - self.began, "peak_memory_mib": peak}
        self.folder.write_json(self.folder.summary, self.summary)


def _status(code: int) -> str:
    """Of a run that another process ended."""
    return {TERMINATED: "terminated", INTERRUPTED: "interrupted"}.get(code, "failed")
