"""Scoring the completions of a file, as training would have scored them: in batches, in order, in bounded memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlperc.errors import DataError, RecipeError, UserError
from rlperc.recipe.rows import Row
from rlperc.reward.attempt import Outcome
from rlperc.reward.contract import TRL_ARGUMENTS, Reward
from rlperc.reward.runner import RewardRunner
from rlperc.score.batches import Batch, batches
from rlperc.score.files import Source, open_source
from rlperc.score.output import ForeignScores, Output
from rlperc.score.summary import Summary
from rlperc.score.tally import Scored, Tally
from rlperc.words.response import Completion, Tags, find_span, read_response_once

# Rows of a batch; and where a reward takes a whole batch in one call, about as many as a step of training has.
MOST_ROWS = 256
MOST_ROWS_OF_A_CALL = 64
# What TRL alone can hand to a function, and what it never hands on from the data.
_TRAINERS = TRL_ARGUMENTS - {"prompts", "completions", "completion_ids"}
_NO_COLUMNS = TRL_ARGUMENTS | {"prompt", "completion"}
_OWN_COLUMNS = {"completion", "prompt_id", "prompt", "tokens", "completion_ids"}
Progress = Callable[[int, int, int], None]


def score_file(
    file: Path,
    runners: Sequence[RewardRunner],
    out: Path | None = None,
    *,
    tags: Tags | None = None,
    renamed: Mapping[str, str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    also: Callable[[Batch, list[Scored]], None] | None = None,
) -> Summary:
    """Score every completion of a file.

    A row is `{"completion": text, "prompt_id": …, "tokens": …, "prompt": …, …columns}`, of which only the completion has
    to be there; rows of one `prompt_id` stand together and form a group. A line of `out` is `{"scores": {name: number or
    null}, "why": {name: text}, "status": {name: "value", "skip", "error" or "timeout"}}`; NaN and infinity are errors. A
    batch is 256 rows, or 64 where a reward takes a batch in one call, and ends with a group or at 16 MiB of text;
    memory holds one batch, and 16 to 32 bytes for each prompt.

    Args:
        file: what to score, JSON lines or `.parquet`.
        runners: of the rewards; closed at the end.
        out: where to write; None writes nothing.
        tags: what the spans are tagged with.
        renamed: our name for a column to the name that the file may have for it.
        resume: go on with `out` where it ends. Its first batch is scored again, and must come to the same.
        also: called with each batch and its scores, one for each reward.
        progress: called after each batch with the rows so far, how far that is, and the whole in the same unit.

    Returns:
        The statistics over the whole file, also over what `out` held before.

    Raises:
        UserError: the file is not as described, or a reward cannot be scored without training, lacks a column or
            fails where its handling says stop. What was scored before a broken row is in `out`.
    """
    renamed = renamed or {}
    rewards = [runner.reward for runner in runners]
    _refuse(rewards)
    source = open_source(file, _wanted(rewards, renamed))
    output = Output(out, [reward.name for reward in rewards], resume) if out is not None else None
    tallies = [Tally(reward) for reward in rewards]
    counted = Summary()
    try:
        for batch, unreadable, scored in _scored(source, runners, output, tags or Tags(), renamed):
            for tally, of_reward in zip(tallies, scored, strict=True):
                tally.add(of_reward, batch.groups, batch.places)
            if also is not None:
                also(batch, scored)
            counted = _count(counted, batch, unreadable)
            if progress is not None:
                progress(counted.completions, batch.units, source.total)
        if not counted.completions:
            raise DataError(f"scoring {file}", "it holds no completions", '{"completion": "…"}')
        if output is not None:
            output.finish()
    except UserError as error:
        raise _with_way_on(error, output) from None
    finally:
        if output is not None:
            output.close()
        for runner in runners:
            runner.close()
    grouped = counted.groups is not None
    summaries = {tally.reward.name: tally.summary(grouped=grouped) for tally in tallies}
    return Summary(counted.completions, counted.unreadable, counted.groups, summaries)


def _scored(
    source: Source, runners: Sequence[RewardRunner], output: Output | None, tags: Tags, renamed: Mapping[str, str]
) -> Iterator[tuple[Batch, int, list[Scored]]]:
    together = any(runner.reward.scope == "batch" for runner in runners)
    first = True
    for batch in batches(source, renamed, MOST_ROWS_OF_A_CALL if together else MOST_ROWS):
        for runner in runners:
            _check_columns(runner.reward, batch, source)
        read = [_read(row, tags) for row in batch.rows]
        scored = output.take(len(batch.rows)) if output is not None else None
        if scored is None:
            scored = [_as_written(_run(runner, read, batch)) for runner in runners]
            if output is not None:
                output.write(scored)
        elif first:
            _check_same(runners, read, batch, scored)
        first = False
        yield batch, sum(map(_is_unreadable, read)), scored


def _check_same(runners: Sequence[RewardRunner], read: list[Completion], batch: Batch, taken: list[Scored]) -> None:
    """Score the first batch once more: what is gone on with must be of these settings and this file. Raises ForeignScores."""
    for runner, before in zip(runners, taken, strict=True):
        if runner.settings.get("server"):
            continue  # another model may answer otherwise the next time
        if _as_written(_run(runner, read, batch)) != before:
            raise ForeignScores(
                f"going on with scores of '{runner.reward.name}'",
                "its first completions come to other scores now: the settings, the reward or the file have changed",
                "the command and the file that it was begun with, or --out another.jsonl",
            )


def _read(row: Row, tags: Tags) -> Completion:
    tokens = row.get("tokens")
    # Around the cache, which is for trainers: here it would only keep thousands of completions in memory.
    return read_response_once(row["completion"], tags, None if tokens is None else int(tokens))


def _run(runner: RewardRunner, read: list[Completion], batch: Batch) -> list[Outcome]:
    reward, rows = runner.reward, batch.rows
    if reward.style == "trl":
        return runner.run_trl(_trl_arguments(reward, rows), len(rows))
    columns = {name: _column(reward, name, rows) for name in reward.columns if any(name in row for row in rows)}
    return runner.run(read, columns, batch.groups)


def _column(reward: Reward, name: str, rows: list[Row]) -> list[Any]:
    """A column as a list. Where a row lacks an optional one, it is the parameter's default, or None in a list of a call."""
    if reward.columns.get(name, False):
        return [row[name] for row in rows]
    default = None if reward.scope == "batch" else inspect.signature(reward.function).parameters[name].default
    return [row.get(name, default) for row in rows]


def _trl_arguments(reward: Reward, rows: list[Row]) -> dict[str, Any]:
    """What TRL would call a function with, as far as it is not a trainer's. As in TRL, the first row's columns count."""
    arguments: dict[str, Any] = {
        "prompts": [row.get("prompt", "") for row in rows],
        "completions": [[{"role": "assistant", "content": row["completion"]}] for row in rows],
    }
    if "completion_ids" in rows[0]:
        arguments["completion_ids"] = [row.get("completion_ids") for row in rows]
    arguments |= {name: _column(reward, name, rows) for name in sorted(rows[0].keys() - _NO_COLUMNS)}
    if _takes_all(reward):
        return arguments
    return {name: values for name, values in arguments.items() if name in inspect.signature(reward.function).parameters}


def _takes_all(reward: Reward) -> bool:
    parameters = inspect.signature(reward.function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _as_written(outcomes: list[Outcome]) -> Scored:
    kept = ("value", "skip", "timeout")
    statuses: list[str] = [outcome.status if outcome.status in kept else "error" for outcome in outcomes]
    return Scored([outcome.value for outcome in outcomes], [outcome.why for outcome in outcomes], statuses)


def _is_unreadable(completion: Completion) -> bool:
    tags = completion.tags
    spans = ((completion.perception, tags.perception), (completion.think, tags.think), (completion.answer, tags.answer))
    return any(content is None and find_span(completion.text, tag).state != "missing" for content, tag in spans)


def _count(counted: Summary, batch: Batch, unreadable: int) -> Summary:
    groups = None if batch.groups is None else (counted.groups or 0) + len(batch.groups)
    return Summary(counted.completions + len(batch.rows), counted.unreadable + unreadable, groups)


def _wanted(rewards: Sequence[Reward], renamed: Mapping[str, str]) -> set[str] | None:
    """The columns to read; None for all, where a function takes whatever there is."""
    if any(reward.style == "trl" and _takes_all(reward) for reward in rewards):
        return None
    ours = _OWN_COLUMNS.union(*(reward.columns for reward in rewards))
    return ours | {theirs for name, theirs in renamed.items() if name in ours}


def _refuse(rewards: Sequence[Reward]) -> None:
    """Refuse rewards that need a training run, and two of one name."""
    names = [reward.name for reward in rewards]
    for reward in rewards:
        asked = f"scoring a file with '{reward.name}'"
        if reward.needs_scorer:
            raise RecipeError(asked, "it asks the model that is training, and a file has none", "--rewards without it")
        if names.count(reward.name) > 1:
            origins = ", ".join(other.origin for other in rewards if other.name == reward.name)
            raise RecipeError(asked, f"it stands there twice: {origins}", "two names, or one of them")
        parameters = inspect.signature(reward.function).parameters if reward.style == "trl" else {}
        for name in sorted(_TRAINERS & parameters.keys()):
            if parameters[name].default is inspect.Parameter.empty:
                raise RecipeError(asked, f"it needs `{name}`, which only a trainer has", f"{name}=None in its signature")


def _check_columns(reward: Reward, batch: Batch, source: Source) -> None:
    needed = [name for name, must in reward.columns.items() if must]
    if reward.style == "trl":
        ids = inspect.signature(reward.function).parameters.get("completion_ids")
        needed += ["completion_ids"] if ids is not None and ids.default is ids.empty else []
    for name in needed:
        for row, place in zip(batch.rows, batch.places, strict=True):
            if name not in row:
                raise DataError(
                    f"the reward '{reward.name}' on {source.file}, {place}",
                    f"it needs the column '{name}'; there are {', '.join(source.columns or sorted(row))}",
                    f'"{name}": … in every row, null where there is none',
                )
    if reward.scope == "group" and batch.groups is None:
        raise DataError(
            f"the reward '{reward.name}' on {source.file}",
            "it compares the completions of a prompt, and the rows do not say which belong together",
            '"prompt_id": … in every row',
        )


def _with_way_on(error: UserError, output: Output | None) -> UserError:
    if output is None or not output.written or isinstance(error, ForeignScores):
        return error
    kept = f"{output.path} keeps the {output.written} lines before; the same command with --resume goes on after them"
    return type(error)(error.asked, error.why, f"{error.instead}\n  {kept}")
