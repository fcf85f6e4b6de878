"""Golden cases: reading them, running them, and `rlperc rewards test|list|show|lint`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.cli_rewards import add_rewards
from rlperc.errors import DataError, MissingPackageError, PluginError, RecipeError
from rlperc.lint.golden import golden_file, read_cases, rows_of, run_cases, source_file
from rlperc.reward import plugins
from rlperc.reward.contract import Reward
from rlperc.reward.plugins import collection, find_reward

HALF = '''"""Half marks.

Source: yours
"""
from rlperc import Score, reward


@reward(bounded=True)
def half(completion, answer, extra=None, *, worth: float = 0.5):
    """What it is worth where the answer is there."""
    if answer is None:
        return None
    return Score(worth, why="half") if completion.answer else Score(0.0, why="no answer")
'''
RIGHT = {"case": "there", "completion": "<answer>4</answer>", "columns": {"answer": "4"}, "score": 0.5, "why": "half"}


def plugin(folder: Path, text: str, *cases: dict | str) -> Reward:
    file = folder / "plugin.py"
    file.write_text(text)
    golden_file(file).parent.mkdir(exist_ok=True)
    lines = [case if isinstance(case, str) else json.dumps(case) for case in cases]
    golden_file(file).write_text("".join(f"{line}\n" for line in lines))
    return find_reward(str(file))


def golden_of(reward: Reward) -> Path:
    path = source_file(reward)
    assert path is not None
    return golden_file(path)


def cli(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_rewards(parser.add_subparsers())
    options = parser.parse_args(["rewards", *arguments])
    code: int = options.run(options)
    return code


def test_where_golden_cases_stand() -> None:
    assert golden_file(Path("/x/my_reward.py")) == Path("/x/golden/my_reward.jsonl")


def test_what_is_the_same_passes_and_what_is_not_fails(tmp_path: Path) -> None:
    skip = {"case": "skip", "completion": "", "columns": {"answer": None}, "score": None}
    nearly = {**RIGHT, "case": "nearly", "score": 0.5 + 1e-13}
    other = {**RIGHT, "case": "another score", "score": 0.5 + 1e-9}
    reason = {**RIGHT, "case": "another reason", "why": "Half"}
    value = {**RIGHT, "case": "no skip", "score": None, "why": ""}
    setting = {**RIGHT, "case": "setting", "settings": {"worth": 0.25}, "score": 0.25}
    reward = plugin(tmp_path, HALF, RIGHT, skip, nearly, other, reason, value, "", setting)
    results = run_cases(reward, golden_of(reward))
    assert [(result.case, result.passed) for result in results] == [
        ("there", True),
        ("skip", True),
        ("nearly", True),
        ("another score", False),
        ("another reason", False),
        ("no skip", False),
        ("setting", True),
    ]
    assert results[4].expected[0].why == "Half"
    assert results[4].got[0].why == "half"


def test_a_fault_is_a_failure_and_says_what_it_was(tmp_path: Path) -> None:
    reward = plugin(tmp_path, HALF, {**RIGHT, "settings": {"worth": 7}})
    (result,) = run_cases(reward, golden_of(reward))
    assert not result.passed
    assert "outside its declared range" in result.got[0].why


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "it is not JSON|Expecting"),
        ("[" * 100_000, "recursion"),
        ("[]", "it is not an object"),
        ('{"completion": "", "columns": {"answer": ""}, "score": 1}', "what it shows"),
        (json.dumps({**RIGHT, "whys": ""}), "did you mean 'why'"),
        (json.dumps({**RIGHT, "completions": [""]}), "no 'completions' in a case of a reward of completion scope"),
        (json.dumps({key: value for key, value in RIGHT.items() if key != "score"}), "it lacks 'completion' or 'score'"),
        (json.dumps({**RIGHT, "score": "1"}), "a score is a number"),
        (json.dumps({**RIGHT, "score": True}), "a score is a number"),
        (json.dumps({**RIGHT, "completion": 4}), "completions and reasons are text"),
        (json.dumps({**RIGHT, "columns": []}), "are objects"),
        (json.dumps({**RIGHT, "columns": {}}), "needs the column 'answer'"),
        (json.dumps({**RIGHT, "settings": {"wroth": 1}}), "it has no such setting"),
        (json.dumps({**RIGHT, "tokens": "4"}), "'tokens' is a count"),
    ],
)
def test_a_malformed_line_is_told_with_its_number(tmp_path: Path, line: str, why: str) -> None:
    reward = plugin(tmp_path, HALF, RIGHT, "", line)
    with pytest.raises(DataError, match=why) as caught:
        run_cases(reward, golden_of(reward))
    assert caught.value.asked.endswith("plugin.jsonl, line 3")


def test_a_file_that_is_not_there_or_empty(tmp_path: Path) -> None:
    reward = plugin(tmp_path, HALF, "")
    with pytest.raises(DataError, match="it holds no lines"):
        run_cases(reward, golden_of(reward))
    with pytest.raises(DataError, match="there is no file"):
        run_cases(reward, tmp_path / "golden" / "other.jsonl")


@given(line=st.text())
def test_any_line_is_a_case_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    reward = plugin(folder, HALF)
    golden_of(reward).write_bytes(line.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError):
        read_cases(reward, golden_of(reward))


GROUP = '''from rlperc import Score, reward
@reward(scope="group", bounded=True)
def share(completions, answer, *, floor: float = 0.0):
    """The share that says it."""
    share = sum(one.answer == answer for one in completions) / len(completions)
    return [Score(share, why=f"{share:.2f}") for _ in completions]
'''
BATCH = '''from rlperc import reward
@reward(scope="batch", timeout_s=5)
async def each(completions, answer):
    """Each by itself; in a worker."""
    return [None if gold is None else float(one.answer == gold) for one, gold in zip(completions, answer)]
'''
TOKENS = '''from rlperc import reward
@reward(bounded=True)
def short(completion):
    """One for few tokens."""
    return float(completion.tokens is not None and completion.tokens < 5)
'''


def test_cases_of_groups_of_batches_and_of_tokens(tmp_path: Path) -> None:
    two = {"completions": ["<answer>4</answer>", "<answer>5</answer>"]}
    group = {"case": "half", **two, "columns": {"answer": "4"}, "scores": [0.5, 0.5], "whys": ["0.50", "0.50"]}
    reward = plugin(tmp_path, GROUP, group)
    assert [result.passed for result in run_cases(reward, golden_of(reward))] == [True]
    batch = {"case": "both", **two, "columns": {"answer": ["4", None]}, "scores": [1.0, None], "whys": ["", ""]}
    (tmp_path / "batch").mkdir()
    reward = plugin(tmp_path / "batch", BATCH, batch, {**batch, "scores": [1.0, 0.0]})
    assert [result.passed for result in run_cases(reward, golden_of(reward))] == [True, False]
    rows, _ = rows_of(reward, read_cases(reward, golden_of(reward)))
    assert [(row.columns, row.right) for row in rows] == [
        ({"answer": "4"}, "<answer>4</answer>"),
        ({"answer": None}, None),
    ]
    (tmp_path / "tokens").mkdir()
    few = {"case": "few", "completion": "a b c d e f", "tokens": 3, "score": 1.0}
    reward = plugin(tmp_path / "tokens", TOKENS, few, {**few, "tokens": 7, "score": 0.0})
    assert all(result.passed for result in run_cases(reward, golden_of(reward)))


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"completions": ["", ""], "scores": [1.0], "whys": ["", ""]}, "lists of the same length"),
        ({"completions": [""], "scores": [1.0]}, "lists of the same length"),
        ({"completions": [], "scores": [], "whys": []}, "lists of the same length"),
        ({"completions": [""], "scores": [1.0], "whys": [""], "columns": {"answer": "4"}}, "each column is a list of 1"),
    ],
)
def test_malformed_cases_of_a_batch(tmp_path: Path, case: dict, why: str) -> None:
    reward = plugin(tmp_path, BATCH, {"case": "x", "columns": {"answer": [1]}, **case})
    with pytest.raises(DataError, match=why):
        read_cases(reward, golden_of(reward))


def test_what_only_training_can_call_is_refused(tmp_path: Path) -> None:
    reward = plugin(
        tmp_path,
        "def f(completions, **kwargs):\n    return []\n",
        {"case": "x", "completions": [""], "scores": [1], "whys": [""]},
    )
    with pytest.raises(PluginError, match="it takes TRL's arguments"):
        run_cases(reward, golden_of(reward))


def test_rows_are_those_of_one_set_of_settings_with_a_right_response(tmp_path: Path) -> None:
    full = {**RIGHT, "settings": {"worth": 1}, "score": 1.0}
    wrong = {**full, "completion": "", "score": 0.0, "why": "no answer"}
    skip = {**full, "columns": {"answer": None}, "score": None}
    reward = plugin(tmp_path, HALF, skip, wrong, full, {**full, "columns": {"answer": "5"}}, RIGHT)
    rows, settings = rows_of(reward, read_cases(reward, golden_of(reward)))
    assert settings == {"worth": 1}
    assert [(row.columns["answer"], row.right) for row in rows] == [("4", RIGHT["completion"]), ("5", RIGHT["completion"])]
    rows, settings = rows_of(reward, read_cases(reward, golden_of(reward)), {"worth": 0.2})
    assert (len(rows), settings) == (2, {"worth": 0.2})


def test_the_command_test(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    reward = plugin(tmp_path, HALF, RIGHT)
    assert cli("test", reward.origin) == 0
    assert capsys.readouterr().out == "half: 1 of 1 golden cases pass\n"
    plugin(tmp_path, HALF, RIGHT, {**RIGHT, "case": "more", "score": 0.75, "why": ""})
    assert cli("test", reward.origin) == 2
    assert "half: 1 of 2 golden cases pass\n  more: expected 0.75, got 0.5 (half)\n" in capsys.readouterr().out


def test_in_the_whole_collection_what_is_not_installed_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HALF.replace("bounded=True", 'imports=("a_package_that_is_not_there",)')
    reward = plugin(tmp_path, text, RIGHT)
    for command in ("test", "lint"):
        with pytest.raises(MissingPackageError, match="pip install a_package_that_is_not_there"):
            cli(command, reward.origin)
        monkeypatch.setattr(plugins, "collection", lambda: {reward.origin: Path(reward.origin)})
        assert cli(command) == 0
        assert "half: left out: it needs a_package_that_is_not_there" in capsys.readouterr().out


def test_the_command_lint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    reward = plugin(tmp_path, HALF, RIGHT)
    assert cli("lint", reward.origin) == 0
    assert capsys.readouterr().out == "half: nothing found\n"
    assert cli("lint", reward.origin, "--with", "worth=0.75") == 2
    out = capsys.readouterr().out
    assert out.startswith("half: scores high: what cannot be right scores above 0.5, half of full marks:\n    0.75 for ")
    assert out.endswith("half: 1 found\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"answer": "5", "extra": 1}\n\n')
    assert cli("lint", reward.origin, "--rows", str(rows)) == 0
    rows.write_text('{"extra": 1}\n')
    with pytest.raises(DataError, match="line 1"):
        cli("lint", reward.origin, "--rows", str(rows))
    for wrong in ("worth", "worth=[", "wroth=1"):
        with pytest.raises(RecipeError):
            cli("lint", reward.origin, "--with", wrong)


def test_the_commands_list_and_show(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(collection())
    assert any(line.split()[:4] == ["answer_number", "outcome", "completion", "0..1"] for line in lines)
    reward = plugin(tmp_path, HALF, RIGHT)
    assert cli("show", reward.origin) == 0
    out = capsys.readouterr().out
    for said in ("scope     completion", "bounded", "answer, extra (optional)", "worth=0.5", "1 cases", "Source: yours"):
        assert said in out
