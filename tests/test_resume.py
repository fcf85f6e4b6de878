"""A run that was killed goes on as if nothing had happened."""

import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from launch import PAID, QUICKSTART, Begun, rlperc
from trainers import reason_stage, tiny_model
from transformers import TrainerCallback
from whole import LONGER, lines, same_run, without_clocks

from rlperc.errors import DataError, FolderError, RecipeError
from rlperc.evaluate.accuracy import Judged
from rlperc.examine import judged_lines, read_judged
from rlperc.recipe.folder import RunFolder, writing
from rlperc.recipe.load import load_recipe
from rlperc.recipe.progress import Checkpoint, Progress, check_same, read_progress
from rlperc.recipe.schema import Recipe, Stage
from rlperc.train.checkpoints import Checkpoints, _Keeper
from rlperc.train.data import load_rows
from rlperc.train.models import load_model
from rlperc.train.stages import stage_config, train_stage
from rlperc.train.stop import TERMINATED, Stop

NEVER = "train.save_strategy='no'"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start"))


class Killed(Exception):
    """In the place of a kill, where a whole process would only cost time."""


class Watch(TrainerCallback):
    """Keeps what is logged, and kills after a step."""

    def __init__(self, at: int | None, stops: int | None, stop: Stop) -> None:
        self.at, self.stops, self.stop, self.logs = at, stops, stop, []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        self.logs.append({"step": state.global_step, **without_clocks(logs or {})})

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.at:
            raise Killed
        self.stop.asked |= state.global_step == self.stops


def grpo(*options: str) -> tuple[Recipe, Stage]:
    options = ("train.max_steps=6", "train.learning_rate=1e-3", "train.save_strategy=steps", PAID, *options)
    return reason_stage(*(f"stages.reason.{option}" for option in options))


def of_kind(index: int) -> tuple[Recipe, Stage]:
    train = ("max_steps=6", "per_device_train_batch_size=4", "learning_rate=1e-3", "save_strategy=steps")
    name = ("see", "warm")[index]
    options = [f"stages.{name}.train.{option}" for option in train] + [f"stages.{name}.data.rows=12"]
    recipe = load_recipe(QUICKSTART, *options)
    return recipe, recipe.stages[index]


def run(start: Path, folder: Path, made: Any, kill: int | None = None, step: int | None = None, stop: int | None = None) -> Any:
    """Train a stage, until it is killed before the step after `kill`, or told to stop there; from the checkpoint at `step`."""
    recipe, stage = made
    stage = stage.model_copy(update={"train": {"save_steps": 1, **stage.train}})
    model, processor = load_model(start, stage.model)
    stopping = Stop()
    watch, committed = Watch(kill, stop, stopping), []
    checkpoints = Checkpoints(folder, stopping, committed.append, step)
    checkpoints.sweep()
    args, rows = stage_config(recipe, stage, folder), load_rows(stage.data, 0, recipe.tags)
    torch.manual_seed(recipe.seed)
    try:
        trained = train_stage(recipe, stage, args, model, processor, rows, [watch], checkpoints)
    except (Killed, SystemExit):
        return committed, watch.logs, None
    return committed, watch.logs, trained


KINDS: dict[str, Callable[[], tuple[Recipe, Stage]]] = {
    "contrast": lambda: of_kind(0),  # 12 rows by 4: two epochs
    "sft": lambda: of_kind(1),
    "grpo": lambda: grpo("data.rows=6"),  # 6 rows, 2 in a step: two epochs, whose order is drawn from one generator
    "grpo, counts pending": lambda: grpo("train.logging_steps=3"),
    "ppo": lambda: grpo("kind=ppo", "train.learning_rate=1e-3", "ppo.critic_learning_rate=1e-2"),
    "rloo": lambda: grpo("kind=rloo"),
    "lora": lambda: grpo("model.lora.r=4", "model.lora.dropout=0.1"),
    "resampled": lambda: grpo("blend.resample=1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_goes_on_bit_for_bit(kind: str, start: Path, tmp_path: Path) -> None:
    made = KINDS[kind]()
    committed, logs, whole = run(start, tmp_path / "whole", made)
    assert committed == [1, 2, 3, 4, 5, 6]
    step = 4
    before = run(start, tmp_path / "cut", made, kill=step)
    assert before[0] == [1, 2, 3, 4]
    after = run(start, tmp_path / "cut", made, step=step)
    assert after[0] == [5, 6]
    seen = [*before[1], *after[1]]
    assert [one for one in seen if "loss" in one] == [one for one in logs if "loss" in one]
    assert len([one for one in logs if "loss" in one]) == (2 if "pending" in kind else 6)
    ours, theirs = after[2].model.state_dict(), whole.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    if whole.coupling is not None:
        assert np.array_equal(after[2].coupling.total.matrix(), whole.coupling.total.matrix(), equal_nan=True)
        assert not np.isnan(whole.coupling.total.matrix()).all()
        assert without_clocks(after[2].tallies) == without_clocks(whole.tallies)
        assert after[2].zero_spread == whole.zero_spread


def test_it_saves_only_where_new_responses_are_drawn_next(start: Path, tmp_path: Path) -> None:
    made = grpo("train.steps_per_generation=2", "train.num_iterations=2", "train.per_device_train_batch_size=4")
    committed, logs, whole = run(start, tmp_path / "whole", made)
    assert committed == [4]  # a generation serves four steps; the sixth is the stage's end
    run(start, tmp_path / "cut", made, kill=5)
    after = run(start, tmp_path / "cut", made, step=4)
    assert [one for one in after[1] if "loss" in one] == [one for one in logs if "loss" in one][4:]
    assert all(torch.equal(one, whole.model.state_dict()[name]) for name, one in after[2].model.state_dict().items())


def test_a_stage_that_was_saved_at_its_end_trains_no_step_more(start: Path, tmp_path: Path) -> None:
    made = grpo("train.max_steps=2")
    *_, whole = run(start, tmp_path, made)
    committed, logs, after = run(start, tmp_path, made, step=2)
    assert committed == []
    assert [one["step"] for one in logs] == [2]  # what transformers says at the end
    assert all(torch.equal(one, whole.model.state_dict()[name]) for name, one in after.model.state_dict().items())
    assert without_clocks(after.tallies) == without_clocks(whole.tallies)


@pytest.mark.parametrize("option", ["train.save_only_model=true", "train.sync_ref_model=true"])
def test_a_checkpoint_that_lacks_something_does_not_count(option: str, start: Path, tmp_path: Path) -> None:
    more = ("train.beta=0.1", "train.ref_model_sync_steps=1") if "ref" in option else ()
    committed, _, _ = run(start, tmp_path, grpo("train.max_steps=2", option, *more))
    assert committed == []
    assert (tmp_path / "checkpoint-2").is_dir()


def test_old_checkpoints_go_once_the_new_one_counts(start: Path, tmp_path: Path) -> None:
    made = grpo("train.max_steps=3", "train.save_total_limit=1")
    seen: list[list[str]] = []
    recipe, stage = made
    stage = stage.model_copy(update={"train": {**stage.train, "save_strategy": "steps", "save_steps": 1}})
    model, processor = load_model(start, stage.model)

    def commit(step: int) -> None:
        seen.append(sorted(one.name for one in tmp_path.glob("checkpoint-*")))

    args, rows = stage_config(recipe, stage, tmp_path), load_rows(stage.data, 0, recipe.tags)
    train_stage(recipe, stage, args, model, processor, rows, [], Checkpoints(tmp_path, Stop(), commit))
    assert seen == [["checkpoint-1"], ["checkpoint-1", "checkpoint-2"], ["checkpoint-2", "checkpoint-3"]]
    assert [one.name for one in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]


def test_what_a_kill_cut_off_is_swept_away(tmp_path: Path) -> None:
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-10", "checkpoint-4.old", "checkpoints"):
        (tmp_path / name).mkdir()
    Checkpoints(tmp_path, Stop(), print, 2).sweep()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2", "checkpoint-4.old", "checkpoints"]
    Checkpoints(tmp_path, Stop(), print).sweep()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint-4.old", "checkpoints"]


def test_a_signal_that_comes_while_the_others_are_asked_is_not_lost(tmp_path: Path) -> None:
    stop = Stop()
    signals = [False, True, False]

    def reduce(asked: torch.Tensor, reduction: str) -> torch.Tensor:
        stop.asked |= signals.pop(0)
        return asked

    accelerator = SimpleNamespace(num_processes=2, device="cpu", reduce=reduce)
    args = SimpleNamespace(save_total_limit=None, save_only_model=False, save_strategy="no")
    keeper = _Keeper(Checkpoints(tmp_path, stop, print), SimpleNamespace(accelerator=accelerator, args=args), {})
    assert [keeper._stops() for _ in range(3)] == [False, False, True]


def test_told_to_stop_it_saves_though_nothing_is_due(start: Path, tmp_path: Path) -> None:
    made = grpo(NEVER)
    committed, _, trained = run(start, tmp_path, made, stop=2)
    assert (committed, trained) == ([3], None)
    assert run(start, tmp_path, made, step=3)[2] is not None


def test_told_to_stop_it_waits_for_the_end_of_a_generation(start: Path, tmp_path: Path) -> None:
    committed, _, trained = run(start, tmp_path, grpo(NEVER, "train.num_iterations=2"), stop=2)
    assert (committed, trained) == ([4], None)


def test_told_to_stop_in_the_last_step_it_ends_the_stage(start: Path, tmp_path: Path) -> None:
    options = (NEVER, "train.num_iterations=2", "train.max_steps=3")
    committed, _, trained = run(start, tmp_path, grpo(*options), stop=2)
    assert committed == []
    assert trained is not None


def test_at_the_end_of_an_epoch_it_saves_once(start: Path, tmp_path: Path) -> None:
    made = grpo("train.save_strategy=epoch", "data.rows=6")
    committed, _, _ = run(start, tmp_path / "whole", made)
    assert committed == [3, 6]
    committed, _, _ = run(start, tmp_path / "stopped", made, stop=2)
    assert committed == [3]


def test_sigterm_outside_of_a_stage_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = Stop()
    with stop.listening(), pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == TERMINATED == 143
    saved = []

    def save() -> None:
        with stop.listening(), stop.saves_first():
            for _ in range(2):  # a launcher passes on what the scheduler has sent already
                signal.raise_signal(signal.SIGTERM)
            saved.append(True)

    with pytest.raises(SystemExit):
        save()
    assert saved
    assert signal.getsignal(signal.SIGTERM) == before


# --- whole runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    ended = rlperc("train", str(QUICKSTART), *LONGER, f"output={folder}")
    assert ended.returncode == 0, ended.stderr
    return folder


def test_killed_twice_and_resumed(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    for stage, step in (("warm", 2), ("reason", 3)):
        run = Begun(folder, *LONGER, "--resume")
        run.until(stage, step)
        run.process.kill()
        run.end()
    assert json.loads((folder / "summary.json").read_text())["status"] == "running"
    # A kill in the middle of a write leaves such things behind.
    at = json.loads((folder / "progress.json").read_text())["checkpoint"]["step"]
    (folder / "stages" / "reason" / f"checkpoint-{at + 1}").mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"kind": "train", "st')
    run = Begun(folder, *LONGER, "--resume")
    code, said = run.end()
    assert code == 0, said
    assert f"going on after {at} steps of reason" in said
    same_run(folder, whole)


def test_sigterm_saves_and_exits_with_143(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    options = ("stages.reason.train.save_steps=100",)
    run = Begun(folder, *LONGER, *options)
    run.until("reason", 2)
    run.process.send_signal(signal.SIGTERM)
    code, said = run.end()
    assert code == TERMINATED, said
    assert "Traceback" not in said
    progress = json.loads((folder / "progress.json").read_text())
    assert progress["checkpoint"]["step"] >= 2  # no checkpoint was due
    assert json.loads((folder / "summary.json").read_text())["status"] == "terminated"
    assert (folder / "report.html").exists()
    run = Begun(folder, *LONGER, *options, "--resume")
    code, said = run.end()
    assert code == 0, said
    assert "going on after" in said
    same_run(folder, whole)


def test_a_run_that_is_done_stays_as_it_is(whole: Path) -> None:
    before, weights = lines(whole), (whole / "model" / "model.safetensors").stat().st_mtime_ns
    again = rlperc("train", str(whole / "recipe.yaml"), "--resume")
    assert again.returncode == 0, again.stderr
    assert lines(whole) == before
    assert (whole / "model" / "model.safetensors").stat().st_mtime_ns == weights


def test_another_recipe_is_another_run(whole: Path) -> None:
    ended = rlperc("train", str(QUICKSTART), *LONGER, f"output={whole}", "stages.reason.train.max_steps=9", "--resume")
    assert ended.returncode == 2
    assert "stages.reason.train.max_steps: 9" in ended.stderr
    assert "that run was begun with 6" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_run_of_which_nothing_is_known_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: old")
    (tmp_path / "metrics.jsonl").write_text("{}")
    ended = rlperc("train", str(QUICKSTART), *LONGER, f"output={tmp_path}", "--resume")
    assert ended.returncode == 2
    assert "no progress.json" in ended.stderr
    assert (tmp_path / "metrics.jsonl").read_text() == "{}"


def test_only_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.claim(move_aside=False)
    first.write(first.progress, "{}")
    for options in ({"resume": True, "move_aside": False}, {"move_aside": True}):
        with pytest.raises(RecipeError, match="another process is training there"):
            second.claim(**options)
    first.release()
    second.claim(move_aside=False, resume=True)


def test_what_a_kill_in_the_first_write_leaves_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "progress.json.part").write_text("{")
    (tmp_path / "run.lock").touch()
    RunFolder(tmp_path).claim(move_aside=False)


def test_what_was_measured_is_read_again(tmp_path: Path) -> None:
    judged = [Judged(0, "one\u2028line\x85of\ntext", 1.0, None, 0.5), Judged(1, "", None, None, None)]
    (tmp_path / "before.jsonl").write_text(judged_lines(judged), encoding="utf-8")
    assert read_judged(tmp_path / "before.jsonl") == judged
    (tmp_path / "before.jsonl").write_text('{"index": 0, "respon\n')
    with pytest.raises(DataError, match="cannot be read"):
        read_judged(tmp_path / "before.jsonl")


def test_another_number_of_processes_is_another_run(tmp_path: Path) -> None:
    recipe = load_recipe(QUICKSTART)
    folder = RunFolder(tmp_path)
    from rlperc.recipe.load import dump_recipe

    folder.write(folder.recipe, dump_recipe(recipe))
    with pytest.raises(RecipeError, match=r"number of processes: 2[\s\S]*begun with 4"):
        check_same(recipe, 2, folder, Progress(4))
    check_same(recipe, 4, folder, Progress(4))


def test_progress_counts_what_lies_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_progress(folder) is None
    folder.log("train", step=1)
    progress = Progress(2, ["start"], Checkpoint("see", 3, 1.5))
    progress.save(folder, {"eval": {}})
    folder.log("train", step=2)
    found = read_progress(folder)
    assert found == progress
    folder.rewind(found.metrics)
    assert [one["step"] for one in folder.read_metrics("train")] == [1]


# --- disks ---------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_the_last_checkpoint_is_whole(whole: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the same calls fail, with another number."""
    folder = tmp_path / "full"
    options = ("stages.reason.train.save_steps=2",)
    run = Begun(folder, *LONGER, *options)
    run.until("reason", 3)
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
    code, said = run.end()
    assert code == 2, said
    assert "Traceback" not in said
    assert "writing into" in said
    assert "--resume" in said
    assert json.loads((folder / "progress.json").read_text())["checkpoint"]["step"] in (2, 4)
    run = Begun(folder, *LONGER, *options, "--resume")
    code, said = run.end()
    assert code == 0, said
    assert "going on after" in said
    same_run(folder, whole)


def test_what_a_disk_refuses(tmp_path: Path) -> None:
    denied = PermissionError(13, "Permission denied", str(tmp_path / "checkpoint-1" / "model.safetensors"))
    torn = RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos")
    for error in (OSError(28, "No space left on device"), denied, torn):
        with pytest.raises(FolderError, match="GiB are free"), writing(tmp_path):
            raise error
    elsewhere = PermissionError(13, "Permission denied", "/data/images/7.png")
    for error in (FileNotFoundError(2, "No such file"), RuntimeError("CUDA out of memory"), elsewhere):
        with pytest.raises(type(error)), writing(tmp_path):
            raise error
