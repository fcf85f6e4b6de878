"""`rlperc rewards new|copy`: what they write works as it is, and nothing is overwritten."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.cli_rewards import add_rewards
from rlperc.errors import DataError, PluginError
from rlperc.lint import scaffold
from rlperc.lint.golden import golden_file, run_cases
from rlperc.reward.plugins import collection, find_reward


def cli(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_rewards(parser.add_subparsers())
    options = parser.parse_args(["rewards", *arguments])
    code: int = options.run(options)
    return code


def test_a_new_reward_passes_test_and_lint_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("new", "my_answer", "mine") == 0
    assert "use: ./mine/my_answer.py" in capsys.readouterr().out
    assert cli("test", "./mine/my_answer.py") == 0
    assert cli("lint", "./mine/my_answer.py") == 0
    assert "my_answer: nothing found\n" in capsys.readouterr().out


def test_a_new_reward_is_complete(tmp_path: Path) -> None:
    file, golden = scaffold.new("my_answer", tmp_path)
    reward = find_reward(str(file))
    assert (reward.name, reward.credits, reward.range, reward.bounded) == ("my_answer", "outcome", (0.0, 1.0), True)
    assert (list(reward.columns), list(reward.settings)) == (["answer"], ["ignore_case"])
    scores = [json.loads(line)["score"] for line in golden.read_text().splitlines()]
    assert {1.0, 0.0, None} <= set(scores)


@pytest.mark.parametrize(
    "name", ["class", "match", "3d", "my-reward", "my.reward", "../up", "", "len", "Score", "reward", "_private"]
)
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="a new reward"):
        scaffold.new(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(name=st.text(max_size=8) | st.from_regex(r"[a-zA-Z]\w{0,8}", fullmatch=True))
def test_a_name_is_refused_or_works(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("named")
    try:
        file, golden = scaffold.new(name, folder)
    except DataError:
        assert list(folder.iterdir()) == []
        return
    assert all(result.passed for result in run_cases(find_reward(str(file)), golden))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "mine.jsonl").write_text("mine")
    with pytest.raises(DataError, match="it already exists"):
        scaffold.new("mine", tmp_path)
    assert not (tmp_path / "mine.py").exists()
    (tmp_path / "answer_number.py").write_text("mine")
    with pytest.raises(DataError, match="it already exists"):
        scaffold.copy("answer_number", tmp_path)
    assert (tmp_path / "answer_number.py").read_text() == "mine"


def test_a_copy_works_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tmp_path / "collection" / "box.py"
    scaffold.new("box", original.parent)
    monkeypatch.setattr(scaffold, "collection", lambda: {"box": original})
    monkeypatch.chdir(tmp_path)
    file, golden = scaffold.copy("box", Path("copies"))
    assert file.read_bytes() == original.read_bytes()
    assert golden.read_bytes() == golden_file(original).read_bytes()
    assert all(result.passed for result in run_cases(find_reward("./copies/box.py"), golden))


def test_a_copy_of_the_collection(tmp_path: Path) -> None:
    for name, original in collection().items():
        file = scaffold.copy(name, tmp_path)[0]
        assert find_reward(str(file)).name == name
        assert file.read_bytes() == original.read_bytes()
    with pytest.raises(PluginError, match="did you mean 'answer_number'"):
        scaffold.copy("answer_nummer", tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a folder that can be written to"):
        scaffold.new("mine", tmp_path / "file")
