"""Measuring one model by itself: a hub's, a folder's or a run's, on a world or on rows of one's own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from rlperc.errors import DataError
from rlperc.evaluate.accuracy import Judged, compare, summarize
from rlperc.examine import Examiner, judged_lines, read_judged
from rlperc.process import quiet
from rlperc.recipe.check import check_measures
from rlperc.recipe.credit import RewardUse
from rlperc.recipe.load import load_recipe
from rlperc.recipe.rows import IMAGE_COLUMNS
from rlperc.recipe.schema import Data, Evaluate, Model, Recipe
from rlperc.reward.runner import check_columns
from rlperc.score.summary import printable
from rlperc.train.models import load_model
from rlperc.words.response import Tags, read_response
from rlperc.words.structure import read_json
from rlperc.worlds import About, load_world

SHOWN_REASONS, LONGEST = 3, 200
SAME = ("rewards", "rows")
"""What two measurements that are compared have in common."""


@dataclass(frozen=True)
class Exam:
    """What is asked of whom.

    Attributes:
        model: a hub name, a model's folder, or a run's folder, whose tags and prompts are used then.
        settings: of the model's loading; its `name` is `model`.
        evaluate: the rows, and how they are answered.
        answer: the reward that verifies answers.
        perception: the reward that compares with p*.
        ask: whether a prompt asks for the tags; None means where the model is no run's.
    """

    model: str
    settings: Model
    evaluate: Evaluate
    answer: str
    perception: str
    ask: bool | None = None


def examine_alone(exam: Exam, out: Path | None, against: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure.

    Args:
        exam: of which model on what.
        out: a new folder for `summary.json`, `responses.jsonl`, and `completions.jsonl`, which `rlperc score` and `rlperc
            coupling` read.
        against: such a folder of another model on the same rows.
        say: told what is noteworthy.

    Returns:
        `{"eval": {model: measures}, "changes": {other: changes}, "remarks": […], "asked": …}`.

    Raises:
        UserError: the model or the rows are not there, `against` holds other rows, or `out` cannot be written.
    """
    quiet(tiny=False)
    state = PartialState(cpu=not torch.cuda.is_available())
    source, tags, data = _whose(exam)
    evaluate = exam.evaluate.model_copy(update={"data": data})
    uses = RewardUse(use=exam.answer), RewardUse(use=exam.perception)
    check_measures(*uses)
    examiner = Examiner(evaluate, *uses, tags)
    rows = examiner.exam.rows
    asked = {
        "data": data.model_dump(mode="json", exclude_defaults=True, by_alias=True),
        "rewards": [exam.answer, exam.perception],
        "rows": _fingerprint(rows),
        "drawn": {"temperature": evaluate.temperature, "max_new_tokens": evaluate.max_new_tokens},
    }
    earlier = _read(against, asked, say) if against else None
    for runner in (examiner.measures.answer, examiner.measures.perception):
        if runner is not None:
            check_columns(runner.reward, rows.column_names, data.source)
    if examiner.measures.perception is None:
        say("a_p, a_r and a_o are not measured: the rows have no column 'perception'")
    elif examiner.measures.follows is None:
        say("a_o is not measured: the rows have no column 'task', by which a world solves what is stated")
    if broken := sum(map(_is_broken, rows["perception"] if examiner.measures.perception else [])):
        say(f"the p* of {broken} of {len(rows)} rows begins like JSON and cannot be read as such: it is compared as text")
    if without := examiner.exam.illustrated.count(False):
        say(f"{without} of {len(rows)} rows have no image (columns: {', '.join(rows.column_names)})")
    ours = out if state.is_main_process else None
    with _made(ours):
        model, processor = load_model(source, exam.settings)
        model.to(state.device)
        set_seed(0)
        judged = examiner.judge(model, processor, examiner.exam, "rows")
        summary = {
            "eval": {exam.model: summarize(judged)},
            "changes": {str(against): compare(earlier, judged)} if earlier else {},
            "remarks": remarks(judged, tags, exam.perception if examiner.measures.perception else None),
            "asked": asked,
        }
        if ours is not None:
            _write(ours, summary, judged, rows)
    return summary


def remarks(judged: Sequence[Judged], tags: Tags, perception: str | None = None) -> list[str]:
    """What kept responses from being measured, and the most frequent reasons of those that were wrong.

    Args:
        judged: all of them.
        tags: of the responses.
        perception: the reward that reads p*, where perception is measured.
    """
    read = [read_response(one.response, tags) for one in judged]
    spans = ((tags.perception, "perception"), (tags.think, "think"), (tags.answer, "answer"))
    lacks = {tag: sum(getattr(one, name) is None for one in read) for tag, name in spans}
    found = [f"{count} of {len(judged)} responses have no readable <{tag}>" for tag, count in lacks.items() if count]
    if lone := sum("other" in one.blind and one.blind["other"] is None and one.a is not None for one in judged):
        found.append(f"blind_other: {lone} of {len(judged)} are not measured: no other row has as many images, and other ones")
    if unread := sum(one.a is None for one in judged):
        found.append(f"a: {unread} of {len(judged)} are not measured: the row's answer is not there, or cannot be read")
    if perception and (unread := sum(one.a_p is None for one in judged)):
        why = f"the row's p* is not there, or {perception} cannot read it"
        found.append(f"a_p, a_r: {unread} of {len(judged)} are not measured: {why}")
    for name in ("a", "a_p"):
        whys = Counter(one.why[name] for one in judged if name in one.why)
        found += [f"{name}: {count} x {printable(why[:LONGEST])}" for why, count in whys.most_common(SHOWN_REASONS)]
    return found


def prompt_for(tags: Tags, about: About | None) -> str:
    """A system prompt that asks a model for the tags, and says what a world's p* and answers look like."""
    seen = f": {about.perception}" if about else ", as far as the question needs it"
    concluded = f": {about.answer}" if about else " and nothing else"
    return (
        f"Look at the image first, and write down what it shows between <{tags.perception}> and </{tags.perception}>{seen}. "
        f"Then think step by step between <{tags.think}> and </{tags.think}>. "
        f"Then write the answer between <{tags.answer}> and </{tags.answer}>{concluded}. Write each of these tags once."
    )


def run_of(folder: Path) -> Recipe | None:
    """The recipe of the run that a folder is, or that a model in it is a part of."""
    if not folder.exists():  # a hub name
        return None
    inside = folder.absolute()
    for place in (inside, *inside.parents[:3]):  # RUN, RUN/model, RUN/stages/NAME/model
        if (place / "recipe.yaml").is_file() and (place / "summary.json").is_file():
            return load_recipe(place / "recipe.yaml")
    return None


def _whose(exam: Exam) -> tuple[str, Tags, Data]:
    """Where the model lies, its tags, and the rows with the prompt that it is used to, or one that asks for the tags."""
    data, folder = exam.evaluate.data, Path(exam.model)
    recipe = run_of(folder)
    if recipe is not None:
        used = (recipe.evaluate or recipe.stages[-1]).data
        prompts = {"system_prompt": used.system_prompt, "prompt_template": used.prompt_template}
        source = exam.model if (folder / "config.json").is_file() else str(folder / "model")
        tags, ask = recipe.tags, bool(exam.ask)
    else:
        prompts, tags, source, ask = {}, Tags(), exam.model, exam.ask is not False
    if ask:
        about = load_world(data.world).ABOUT if data.world else None
        prompts = {"system_prompt": prompt_for(tags, about)}
    return source, tags, data.model_copy(update=prompts)


def _read(folder: Path, asked: dict[str, Any], say: Callable[[str], None]) -> list[Judged]:
    try:
        before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["asked"]
        differs = _difference(before, asked) if [before[key] for key in SAME] != [asked[key] for key in SAME] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--against {folder}", f"it cannot be read: {error!r}", "a folder that `rlperc eval --out` wrote"
        ) from None
    if differs is not None:
        raise DataError(f"--against {folder}", f"it was measured otherwise: {differs}", "the same rows and rewards")
    then, now = before.get("drawn", {}), asked["drawn"]
    if other := [f"{key} {then.get(key, 'unknown')}, and now {now[key]}" for key in now if then.get(key) != now[key]]:
        say(f"--against {folder}: its responses were drawn otherwise, which is part of every change: {'; '.join(other)}")
    return read_judged(folder / "responses.jsonl")


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What was asked otherwise, before and now; prompts may be."""
    settings = [{"rewards": one["rewards"], **one["data"], **one["data"].get("with", {})} for one in (before, now)]
    keys = [key for key in {**settings[0], **settings[1]} if key not in ("with", "system_prompt", "prompt_template")]
    pairs = {key: [one.get(key, "the default") for one in settings] for key in keys}
    other = [f"{key} {then}, and now {here}" for key, (then, here) in pairs.items() if then != here]
    return "; ".join(other) or "the same was asked for, and other rows came"


def _is_broken(perception: Any) -> bool:
    return isinstance(perception, str) and perception.lstrip()[:1] in ("[", "{") and read_json(perception) is None


def _texts(rows: Any) -> Any:
    return rows.select_columns([name for name in rows.column_names if name not in ("prompt", "response", *IMAGE_COLUMNS)])


def _fingerprint(rows: Any) -> str:
    """Of what the rewards read: prompts may differ from model to model."""
    digest = hashlib.sha256()
    for row in _texts(rows):
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


@contextmanager
def _made(out: Path | None) -> Iterator[None]:
    """A new folder, before anything that takes long; taken away again where nothing comes to be in it."""
    if out is None:
        yield
        return
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"writing {out}", str(error), "--out where a folder can be made") from None
    try:
        yield
    finally:
        if not any(out.iterdir()):
            out.rmdir()


def _write(out: Path, summary: dict[str, Any], judged: Sequence[Judged], rows: Any) -> None:
    texts = _texts(rows)
    completions = ({**texts[one.index], "prompt_id": one.index, "completion": one.response} for one in judged)
    try:
        (out / "responses.jsonl").write_text(judged_lines(judged), encoding="utf-8")
        lines = [json.dumps(one, default=str) + "\n" for one in completions]
        (out / "completions.jsonl").write_text("".join(lines), encoding="utf-8")
        (out / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"writing {out}", str(error), "--out where a folder can be made") from None
