"""Golden cases: beside a reward `x/NAME.py` stands `x/golden/NAME.jsonl`, what it must score and why, one case a line.

A line is `{"case": what it shows, "completion": text, "columns": {…}, "settings": {…}, "tokens": count, "score": number or
null, "why": text, "wrong": [[start, end], …]}`, where settings, tokens and an empty why may be left out and null means a skip;
what is marked as wrong is checked where the line says it. For a group or a batch it is `completions`, `scores` and `whys`,
lists of the same length, without `wrong`; `columns` are as the reward's scope has them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rlperc.errors import DataError, PluginError, RecipeError, did_you_mean
from rlperc.lint.exploits import Row
from rlperc.reward.attempt import Outcome
from rlperc.reward.contract import Ranges, Reward
from rlperc.reward.runner import Handling, RewardRunner, check_settings
from rlperc.words.response import Completion, read_response

TOLERANCE = 1e-12
_SHARED = frozenset({"case", "columns", "settings", "tokens"})
_ONE = _SHARED | {"completion", "score", "why", "wrong"}
_MANY = _SHARED | {"completions", "scores", "whys"}
_EXAMPLE = '{"case": "right", "completion": "<answer>4</answer>", "columns": {"answer": "4"}, "score": 1.0}'
_GROUP_EXAMPLE = '{"case": "…", "completions": ["…", "…"], "columns": {}, "scores": [1.0, 0.0], "whys": ["", "why"]}'


@dataclass(frozen=True)
class Case:
    """One line of a golden file; a reward of completion scope has one completion in it. `marked`: it says what is wrong."""

    name: str
    completions: tuple[Completion, ...]
    columns: Mapping[str, Any]
    settings: Mapping[str, Any]
    expected: tuple[Outcome, ...]
    marked: bool = False

    def as_lists(self, reward: Reward) -> dict[str, list[Any]]:
        """The columns as a runner takes them, one value for each completion."""
        if reward.scope == "batch":
            return dict(self.columns)
        return {name: [value] * len(self.completions) for name, value in self.columns.items()}


class Result(NamedTuple):
    """What a case expected and what the reward made of it."""

    case: str
    expected: tuple[Outcome, ...]
    got: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether they are the same: the status, the score up to 1e-12, the reason to the letter, the marks where stated."""
        return all(map(_same, self.expected, self.got))


def golden_file(path: Path) -> Path:
    """Where the golden cases of the reward in `path` stand, whether or not there are any."""
    return path.parent / "golden" / f"{path.stem}.jsonl"


def source_file(reward: Reward) -> Path | None:
    """The file a reward was loaded from; None for a function that stands in no file."""
    if not reward.use:
        return None
    if reward.origin.endswith(".py"):
        return Path(reward.origin)
    file = importlib.import_module(reward.use.partition(":")[0]).__file__
    return Path(file) if file else None


def rows_of(reward: Reward, cases: Sequence[Case], settings: Mapping[str, Any] | None = None) -> tuple[list[Row], dict[str, Any]]:
    """The rows of golden cases, each with a response that has full marks where a case has one.

    Args:
        reward: whose cases they are.
        cases: those that expect a skip are no rows of the reward's.
        settings: to use with all rows; by default the settings of the first case that is scored, and the rows that go
            with them.

    Returns:
        The rows, without doubles, and the settings.
    """
    scored = [case for case in cases if any(one.status == "value" for one in case.expected)]
    chosen = dict(settings if settings is not None else scored[0].settings if scored else {})
    rows: dict[str, Row] = {}
    for case in scored:
        if settings is None and case.settings != chosen:
            continue
        lists = case.as_lists(reward)
        for place, (completion, expected) in enumerate(zip(case.completions, case.expected, strict=True)):
            columns = {name: values[place] for name, values in lists.items()}
            right = completion.text if expected.value == reward.range[1] else None
            key = json.dumps(columns, sort_keys=True)
            if expected.status == "value" and (key not in rows or rows[key].right is None):
                rows[key] = Row(columns, right)
    return list(rows.values()), chosen


def run_cases(reward: Reward, path: Path) -> list[Result]:
    """Run the cases of a golden file.

    Args:
        reward: not one that asks the training model.
        path: the golden file.

    Raises:
        DataError: the file is not there, is empty or malformed.
        PluginError: the reward cannot be run without a trainer.
    """
    cases = read_cases(reward, path)
    if reward.needs_scorer or reward.style == "trl":
        what = "it asks the training model" if reward.needs_scorer else "it takes TRL's arguments"
        raise PluginError(f"the golden cases of '{reward.name}'", f"{what}, and only training has that", "a test of its own")
    runners: dict[str, RewardRunner] = {}
    try:
        return [Result(case.name, case.expected, _run(reward, case, runners)) for case in cases]
    finally:
        for runner in runners.values():
            runner.close()


def _run(reward: Reward, case: Case, runners: dict[str, RewardRunner]) -> tuple[Outcome, ...]:
    """Run a case with the runner of its settings, because worker processes are started for settings."""
    handling = Handling(on_error="skip", max_error_share=1.0, workers=1)
    key = json.dumps(case.settings, sort_keys=True)
    runner = runners.setdefault(key, RewardRunner(reward, case.settings, handling))
    outcomes = runner.run(case.completions, case.as_lists(reward), groups=[range(len(case.completions))])
    return tuple(outcomes if case.marked else (one._replace(wrong=()) for one in outcomes))


def _same(expected: Outcome, got: Outcome) -> bool:
    if (expected.status, expected.why, expected.wrong) != (got.status, got.why, got.wrong):
        return False
    return expected.value is None or got.value is None or abs(expected.value - got.value) <= TOLERANCE


def read_cases(reward: Reward, path: Path) -> list[Case]:
    """Read a golden file. Raises DataError with the number of a line that is malformed."""
    example = _EXAMPLE if reward.scope == "completion" else _GROUP_EXAMPLE
    if not path.is_file():
        raise DataError(f"the golden cases of '{reward.name}'", f"there is no file {path}", f"lines like {example}")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except UnicodeDecodeError as error:
        raise DataError(f"the golden cases in {path}", f"it is not UTF-8 text: {error}", "a file of JSON lines") from None
    cases = []
    for number, line in enumerate(lines, start=1):
        try:
            cases += [_read(reward, line)] if line.strip() else []
        except RecipeError as error:
            raise DataError(f"{path}, line {number}", error.why, error.instead) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}", str(error), example) from None
    if not cases:
        raise DataError(f"the golden cases in {path}", "it holds no lines", f"lines like {example}")
    return cases


def _read(reward: Reward, line: str) -> Case:
    """Read a line. Raises ValueError or RecipeError where it is malformed or is no case of this reward."""
    given = json.loads(line)
    if not isinstance(given, dict) or not isinstance(given.get("case"), str):
        raise ValueError("it is not an object that says under 'case' what it shows")
    known = _ONE if reward.scope == "completion" else _MANY
    for key in given:
        if key not in known:
            raise ValueError(f"there is no '{key}' in a case of a reward of {reward.scope} scope: {did_you_mean(key, known)}")
    texts, expected = _responses(given, "" if reward.scope == "completion" else "s")
    columns, settings = given.get("columns", {}), given.get("settings", {})
    if not isinstance(columns, dict) or not isinstance(settings, dict):
        raise ValueError("'columns' and 'settings' are objects")
    if reward.scope == "batch" and not all(isinstance(v, list) and len(v) == len(texts) for v in columns.values()):
        raise ValueError(f"in a batch of {len(texts)} completions each column is a list of {len(texts)}")
    check_settings(reward, settings)
    missing = [column for column, needed in reward.columns.items() if needed and column not in columns]
    if missing:
        raise ValueError(f"the reward needs the column '{missing[0]}'")
    tokens = given.get("tokens")
    counts = tokens if isinstance(tokens, list) else [tokens] * len(texts)
    if len(counts) != len(texts) or not all(count is None or type(count) is int for count in counts):
        raise ValueError("'tokens' is a count of tokens")
    read = tuple(read_response(text, tokens=count) for text, count in zip(texts, counts, strict=True))
    return Case(given["case"], read, columns, settings, expected, "wrong" in given)


def _responses(given: Mapping[str, Any], s: str) -> tuple[Sequence[str], tuple[Outcome, ...]]:
    """The texts of a case and what is expected of them; the keys end in `s` where there are several."""
    if f"completion{s}" not in given or f"score{s}" not in given:
        raise ValueError(f"it lacks 'completion{s}' or 'score{s}'")
    fields: list[Any] = [given[f"completion{s}"], given[f"score{s}"], given.get("whys") if s else given.get("why", "")]
    texts, scores, whys = fields if s else [[one] for one in fields]
    if not all(isinstance(one, list) and len(one) == len(texts) for one in (texts, scores, whys)) or not texts:
        raise ValueError("'completions', 'scores' and 'whys' are lists of the same length")
    if not all(isinstance(one, str) for one in (*texts, *whys)):
        raise ValueError("completions and reasons are text")
    if not all(score is None or (isinstance(score, int | float) and not isinstance(score, bool)) for score in scores):
        raise ValueError("a score is a number, or null for a skip")
    wrong = _ranges(given.get("wrong", []))
    outcomes = [
        Outcome("skip", None, why) if score is None else Outcome("value", float(score), why, wrong)
        for score, why in zip(scores, whys, strict=True)
    ]
    return texts, tuple(outcomes)


def _ranges(given: Any) -> Ranges:
    """What a case says is marked. Raises ValueError where that is no list of pairs."""
    pairs = given if isinstance(given, list) else [given]
    if not all(isinstance(one, list) and [type(end) for end in one] == [int, int] for one in pairs):
        raise ValueError("'wrong' is a list of [start, end], in characters of the completion")
    return tuple((start, end) for start, end in pairs)
