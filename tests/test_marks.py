"""Which characters of a completion a reward found wrong: the contract, the way to the trainer, and what is marked."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc import Completion, Score, reward
from rlperc.errors import DataError
from rlperc.lint.golden import golden_file, run_cases
from rlperc.reward import trl
from rlperc.reward.attempt import Outcome, attempt, attempt_concurrently, judged
from rlperc.reward.contract import MAX_RANGES, Reward, describe
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.reward.trl import TrlReward
from rlperc.words.response import Tags, read_response, read_response_once
from rlperc.words.structure import canonical, cell_spans, read_grid, read_json, same_cell

CELL = st.none() | st.booleans() | st.integers(-20, 20) | st.floats(-9, 9) | st.text(string.printable + '[],"\\é🙂`', max_size=4)
GRID = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=4))
BLANK = st.sampled_from(["", " ", "\n", "\t "])
AROUND = st.sampled_from(["", "It says [[1]]: ", "🙂 ", "<think>7</think>"])


def write_grid(grid: list[list[Any]], blank: str, fenced: bool, escaped: bool) -> str:
    rows = (f"{blank},{blank}".join(json.dumps(cell, ensure_ascii=escaped) for cell in row) for row in grid)
    text = f"[{blank}" + f"{blank},{blank}".join(f"[{blank}{row}{blank}]" for row in rows) + f"{blank}]"
    return f"{blank}```json\n{text}\n```{blank}" if fenced else f"{blank}{text}{blank}"


@given(grid=GRID, blank=BLANK, fenced=st.booleans(), escaped=st.booleans())
def test_what_stands_where_a_cell_is_said_to_stand_is_that_cell(
    grid: list[list[Any]], blank: str, fenced: bool, escaped: bool
) -> None:
    text = write_grid(grid, blank, fenced, escaped)
    read = read_grid(text)
    assert read == grid
    cells = [cell for row in read for cell in row]
    spans = cell_spans(text)
    assert len(spans) == len(cells)
    for (start, end), cell in zip(spans, cells, strict=True):
        assert text[start:end] == text[start:end].strip()
        # null reads as None, as does what is no JSON.
        assert text[start:end] == "null" if cell is None else same_cell(read_json(text[start:end]), cell)


@given(data=st.data(), grid=GRID, blank=BLANK, fenced=st.booleans(), before=AROUND, after=AROUND)
def test_the_cells_that_are_marked_are_those_that_were_misread(
    data: st.DataObject, grid: list[list[Any]], blank: str, fenced: bool, before: str, after: str
) -> None:
    gold = [[data.draw(st.just(cell) | CELL) for cell in row] for row in grid]
    text = f"{before}<perception>{write_grid(grid, blank, fenced, False)}</perception>{after}"
    outcome = attempt(find_reward("perception_cells"), read_response_once(text), {"perception": canonical(gold)}, {})
    pairs = [pair for ours, theirs in zip(grid, gold, strict=True) for pair in zip(ours, theirs, strict=True)]
    misread = [json.dumps(ours, ensure_ascii=False) for ours, theirs in pairs if not same_cell(ours, theirs)]
    assert [text[start:end] for start, end in outcome.wrong] == misread
    assert outcome.value == (len(pairs) - len(misread)) / len(pairs)


@pytest.mark.parametrize(("rows", "ranges"), [(MAX_RANGES, MAX_RANGES), (MAX_RANGES + 1, 1)])
def test_where_too_many_cells_are_misread_all_is_marked(rows: int, ranges: int) -> None:
    content = canonical([[0]] * rows)
    text = f"<seen>{content}</seen>"
    read = read_response_once(text, Tags(perception="seen"))
    outcome = attempt(find_reward("perception_cells"), read, {"perception": canonical([[1]] * rows)}, {})
    assert (outcome.status, outcome.value, len(outcome.wrong)) == ("value", 0.0, ranges)
    assert {text[start:end] for start, end in outcome.wrong} == {"0" if ranges > 1 else content}


def marking(wrong: Any, declared: bool = True) -> Reward:
    @reward(marks=declared)
    def mine(completion: Completion) -> Score:
        return Score(0.5, "half", wrong)

    return describe(mine, "here")


@pytest.mark.parametrize("wrong", [(), ((0, 1),), ((0, 4),), ((2, 4), (0, 3)), ((0, 1),) * MAX_RANGES])
def test_what_may_be_marked(wrong: Any) -> None:
    assert marking(wrong).marks
    for said in (wrong, [list(one) for one in wrong]):
        assert attempt(marking(said), Completion("🙂ab7"), {}, {}) == Outcome("value", 0.5, "half", wrong)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (((0, 5),), r"it marked (0, 5) as wrong, which is no (start, end) with 0 <= start < end <= 4"),
        (((-1, 2),), "it marked (-1, 2) as wrong"),
        (((2, 2),), "it marked (2, 2) as wrong"),
        (((3, 1),), "it marked (3, 1) as wrong"),
        (((0, 1), (0.0, 1.0)), "it marked (0.0, 1.0) as wrong"),
        (((0, 1, 2),), "it marked (0, 1, 2) as wrong"),
        ((0, 1), "it marked 0 as wrong"),
        (("01",), "it marked '01' as wrong"),
        (None, "it marked None as wrong, which is not a tuple of ranges"),
        ("all", "it marked 'all' as wrong, which is not a tuple of ranges"),
        (((0, 1),) * (MAX_RANGES + 1), "it marked 1001 ranges as wrong, more than 1000"),
    ],
)
def test_what_may_not_is_an_error_that_says_so(wrong: Any, why: str) -> None:
    outcome = attempt(marking(wrong), Completion("🙂ab7"), {}, {})
    assert (outcome.status, outcome.value, outcome.wrong) == ("error", None, ())
    assert outcome.why.startswith(why)


def test_marks_without_a_declaration_are_an_error_and_none_are_not() -> None:
    outcome = attempt(marking(((0, 1),), declared=False), Completion("ab"), {}, {})
    assert (outcome.status, outcome.wrong) == ("error", ())
    assert "@reward(marks=True)" in outcome.why
    assert attempt(marking((), declared=False), Completion("ab"), {}, {}).status == "value"


def test_what_comes_to_no_value_marks_nothing() -> None:
    @reward(marks=True)
    def mine(completion: Completion, value: float | None) -> Any:
        return Score(value, wrong=((0, 1),))  # type: ignore[arg-type]

    runner = RewardRunner(describe(mine, "here"), {}, Handling(on_error="zero", max_error_share=1.0))
    outcomes = runner.run([read_response("ab")] * 3, {"value": [None, 7.0, 1.0]})
    assert [(one.status, one.value, one.wrong) for one in outcomes] == [
        ("skip", None, ()),
        ("error", 0.0, ()),
        ("value", 1.0, ((0, 1),)),
    ]


def test_async_marks_are_held_to_their_own_text() -> None:
    @reward(marks=True)
    async def mine(completion: Completion) -> Score:
        return Score(0.0, wrong=((0, 2),))

    outcomes = attempt_concurrently(describe(mine, "here"), [Completion("ab"), Completion("a")], [{}, {}], {}, 5.0)
    assert [one.status for one in outcomes] == ["value", "error"]


PLUGIN = """
import json
from rlperc import Score, reward

@reward(marks=True, timeout_s=20)
def sevens(completion, lie):
    if lie:
        json.dumps = lambda outcomes: '[["value", 0.0, "", [[0, 99]]]]'
    places = [place for place, letter in enumerate(completion.text) if letter == "7"]
    return Score(float(not places), wrong=[(place, place + 1) for place in places])

@reward(marks=True, timeout_s=20, scope="group")
def worst(completions):
    return [Score(0.0, wrong=((0, len(one.text)),)) if one.text == "77" else 1.0 for one in completions]
"""
TEXTS = ["🙂7 and 7", "", "none", "77"]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugins") / "marking.py"
    file.write_text(PLUGIN)
    return file


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sevens", [((1, 2), (7, 8)), (), (), ((0, 1), (1, 2))]), ("worst", [(), (), (), ((0, 2),)])],
)
def test_a_worker_marks_what_this_process_marks(plugin: Path, name: str, expected: list[Any]) -> None:
    read = [read_response(text) for text in TEXTS]
    outcomes = []
    for isolate in (False, True):
        runner = RewardRunner(find_reward(f"{plugin}:{name}"), {}, Handling(isolate=isolate, workers=1))
        outcomes.append(runner.run(read, {"lie": [False] * 4}, groups=[range(4)]))
        runner.close()
    assert outcomes[0] == outcomes[1]
    assert [one.wrong for one in outcomes[1]] == expected


def test_a_worker_that_writes_its_own_answer_is_held_to_the_text(plugin: Path) -> None:
    handling = Handling(isolate=True, workers=1, on_error="skip", max_error_share=1.0)
    runner = RewardRunner(find_reward(f"{plugin}:sevens"), {}, handling)
    (outcome,) = runner.run([read_response("abc")], {"lie": [True]})
    runner.close()
    assert (outcome.status, outcome.wrong) == ("error", ())
    assert "[0, 99]" in outcome.why


def test_a_reward_of_trl_keeps_the_marks_of_its_last_call() -> None:
    called = TrlReward(RewardRunner(find_reward("perception_cells"), {}), Tags(), 2)
    assert called.wrong == []
    texts = ["<perception>[[8,7]]</perception>", "<perception>[[8,1]]</perception>", "none"]
    for written in (texts, [[{"role": "assistant", "content": text}] for text in texts]):
        called(["?"] * 3, written, [[1]] * 3, perception=["[[8,1]]", "[[8,1]]", None])
        assert called.wrong == [((16, 17),), (), ()]
    called(["?"], texts[:1], [[1]], perception=["[[0,7]]"])
    assert called.wrong == [((14, 15),)]


def test_of_a_group_across_processes_each_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @reward(scope="group", marks=True)
    def last(completions: list[Completion]) -> list[Score]:
        return [Score(0.0, wrong=((0, len(one.text)),) if one is completions[-1] else ()) for one in completions]

    texts = ["a", "bb", "ccc", "dddd"]
    everything = [(read_response_once(text), "?") for text in texts]
    for start, expected in ((0, [(), ()]), (2, [(), ((0, 4),)])):
        called = TrlReward(RewardRunner(describe(last, "here"), {}), Tags(), 4)
        monkeypatch.setattr(trl, "_across_processes", lambda items, start=start: (everything, start))
        called(["?"] * 2, texts[start : start + 2], [[1]] * 2)
        assert called.wrong == expected


def test_golden_cases_are_held_to_the_marks_they_state(plugin: Path) -> None:
    found = find_reward(f"{plugin}:sevens")
    case = {"case": "x", "completion": "a7", "columns": {"lie": False}, "score": 0.0}
    lines = [case, {**case, "wrong": [[1, 2]]}, {**case, "wrong": []}, {**case, "wrong": [[0, 2]]}]
    golden_file(plugin).parent.mkdir(exist_ok=True)
    golden_file(plugin).write_text("\n".join(map(json.dumps, lines)))
    assert [result.passed for result in run_cases(found, golden_file(plugin))] == [True, True, False, False]
    malformed: list[Any] = [None, {}, [1, 2], [[1, 2, 3]], [[1, True]], [["1", 2]]]
    for wrong in malformed:
        golden_file(plugin).write_text(json.dumps({**case, "wrong": wrong}))
        with pytest.raises(DataError, match="'wrong' is a list"):
            run_cases(found, golden_file(plugin))


@given(wrong=st.recursive(st.none() | st.integers() | st.text(max_size=2), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_json_says_is_marked_lies_in_the_text_or_is_an_error(wrong: Any) -> None:
    outcome = judged(marking(()), Score(0.0, wrong=wrong), 6)
    assert outcome.status == "error" or all(0 <= start < end <= 6 for start, end in outcome.wrong)
