"""Scoring completions in a file: JSON lines in, JSON lines out, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlperc.errors import DataError, RecipeError, RewardError
from rlperc.reward.contract import Reward
from rlperc.reward.runner import check_columns, check_settings, run_reward
from rlperc.score.intervals import wilson
from rlperc.words.response import Completion, Tags, read_response

Scored = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Tally:
    """One reward over a file. `interval` is None where the range is not 0 to 1."""

    name: str
    mean: float | None
    interval: tuple[float, float] | None
    values: int
    skips: int
    errors: int
    first_error: str


def score_file(
    file: Path, rewards: Sequence[tuple[Reward, Mapping[str, Any]]], out: Path | None, tags: Tags | None = None
) -> list[Tally]:
    """Score every completion of a JSONL file.

    A line is `{"completion": text, …columns}`; a line of `out` is `{"scores": {name: number or null}, "why": {name:
    text}, "status": {name: "value", "skip" or "error"}}`. A reward that raises on a completion is an `error` there,
    and the rest goes on.

    Args:
        file: what to score.
        rewards: with their settings.
        out: where to write; None writes nothing.
        tags: what the spans are tagged with.

    Returns:
        A tally for each reward.

    Raises:
        UserError: the file is not readable as described, or lacks a column.
    """
    if out is not None and out.exists():
        raise DataError(f"writing {out}", "it already exists", "--out another.jsonl")
    if out is not None and not out.parent.is_dir():
        raise DataError(f"writing {out}", f"there is no folder {out.parent}", "--out in a folder that exists")
    rows = list(_read(file))
    if not rows:
        raise DataError(f"scoring {file}", "it holds no lines", '{"completion": "…"}')
    for reward, settings in rewards:
        _check(reward, settings, rows, file)
    scored = [_score(row, rewards, tags) for row in rows]
    if out is not None:
        _write(out, scored)
    return [_tally(reward, scored) for reward, _ in rewards]


def _write(out: Path, scored: list[Scored]) -> None:
    try:
        out.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in scored), encoding="utf-8")
    except OSError as error:
        raise DataError(f"writing {out}", str(error), "--out where a file can be written") from None


def _read(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        raise DataError(f"scoring {file}", "there is no such file", "a file of JSON lines")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"scoring {file}", f"it is not UTF-8 text: {error}", "a file of JSON lines") from None
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON may hold U+2028 as it is
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}, line {number}", f"it is not JSON: {error}", '{"completion": "…"}') from None
        if not isinstance(row, dict) or not isinstance(row.get("completion"), str):
            raise DataError(f"{file}, line {number}", "it has no text under 'completion'", '{"completion": "…"}')
        yield row


def _check(reward: Reward, settings: Mapping[str, Any], rows: list[dict[str, Any]], file: Path) -> None:
    if reward.style != "rlperc":
        raise RecipeError(
            f"`rlperc score` with '{reward.name}'", "it is a plain TRL function, which needs a trainer", "one marked with @reward"
        )
    check_settings(reward, settings)
    columns = set.intersection(*(set(row) for row in rows))
    check_columns(reward, sorted(columns), str(file))


def _score(row: dict[str, Any], rewards: Sequence[tuple[Reward, Mapping[str, Any]]], tags: Tags | None) -> Scored:
    completion = read_response(row["completion"], tags, row.get("tokens"))
    scored: Scored = {"scores": {}, "why": {}, "status": {}}
    for reward, settings in rewards:
        value, why, status = _one(reward, settings, completion, row)
        scored["scores"][reward.name], scored["why"][reward.name], scored["status"][reward.name] = value, why, status
    return scored


def _one(
    reward: Reward, settings: Mapping[str, Any], completion: Completion, row: dict[str, Any]
) -> tuple[float | None, str, str]:
    try:
        outcome = run_reward(reward, [completion], {name: [value] for name, value in row.items()}, settings)[0]
    except RewardError as error:
        return None, error.why, "error"
    return outcome.value, outcome.why, outcome.status


def _tally(reward: Reward, scored: list[Scored]) -> Tally:
    states = [one["status"][reward.name] for one in scored]
    values = [one["scores"][reward.name] for one in scored if one["status"][reward.name] == "value"]
    mean = sum(values) / len(values) if values else None
    fraction = mean is not None and reward.range == (0.0, 1.0)
    return Tally(
        name=reward.name,
        mean=mean,
        interval=wilson(mean, len(values)) if fraction and mean is not None else None,
        values=len(values),
        skips=states.count("skip"),
        errors=states.count("error"),
        first_error=next((one["why"][reward.name] for one in scored if one["status"][reward.name] == "error"), ""),
    )
