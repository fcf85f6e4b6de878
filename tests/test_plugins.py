import sys
from pathlib import Path

import pytest

from rlperc.errors import PluginError
from rlperc.reward.plugins import find_reward, split_path
from rlperc.reward.runner import RewardRunner
from rlperc.words.response import read_response

GOOD = "from rlperc import reward\n@reward()\ndef {name}(completion, answer):\n    return 0.5\n"


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_file_beside_the_recipe(tmp_path: Path) -> None:
    plugin(tmp_path, GOOD.format(name="half"))
    reward = find_reward("./mine.py", tmp_path)
    assert reward.name == "half"
    assert reward.columns == {"answer": True}
    (outcome,) = RewardRunner(reward, {}).run([read_response("x")], {"answer": ["1"]})
    assert outcome.value == 0.5


def test_one_of_several_functions(tmp_path: Path) -> None:
    plugin(tmp_path, GOOD.format(name="one") + GOOD.format(name="two"))
    assert find_reward("./mine.py:two", tmp_path).name == "two"
    with pytest.raises(PluginError, match=r"it holds 2 rewards \(one, two\)"):
        find_reward("./mine.py", tmp_path)


def test_a_file_called_math_with_a_dataclass_under_deferred_annotations(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Box:\n    x: int\n"
    plugin(tmp_path, text + GOOD.format(name="boxed"), "math.py")
    assert find_reward("./math.py", tmp_path).name == "boxed"
    import math

    assert math.sqrt(4) == 2


def test_two_files_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        plugin(tmp_path / folder, GOOD.format(name=f"from_{folder}"))
    assert [find_reward(f"./{folder}/mine.py", tmp_path).name for folder in "ab"] == ["from_a", "from_b"]


def test_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin(tmp_path, GOOD.format(name="packed"), "some_package_of_rewards.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_reward("some_package_of_rewards:packed").name == "packed"
    with pytest.raises(PluginError, match="did you mean 'packed'"):
        find_reward("some_package_of_rewards:pakced")


def test_a_reward_that_an_installed_package_announces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, GOOD.format(name="packed"), "announced_rewards.py")
    info = tmp_path / "announced-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: announced\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rlperc.rewards]\nbox_found = announced_rewards:packed\nanswer_number = announced_rewards:packed\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_reward("box_found").name == "packed"
    with pytest.raises(PluginError, match=r"there are several: .*answer_number\.py, announced_rewards:packed"):
        find_reward("answer_number")


def test_a_plain_trl_function(tmp_path: Path) -> None:
    plugin(tmp_path, "def short(completions, answer, log_metric=None, **kwargs):\n    return [1.0 for _ in completions]\n")
    reward = find_reward("./mine.py", tmp_path)
    assert reward.style == "trl"
    assert reward.columns == {"answer": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "line 1: invalid syntax"),
        ("import a_package_that_is_not_there\n", "line 1: ModuleNotFoundError"),
        ("x = 1\n", "it holds no reward"),
        ("from rlperc import reward\n@reward()\ndef f(text):\n    return 1\n", "the first parameter"),
        ("from rlperc import reward\n@reward()\ndef f(completion, *columns):\n    return 1\n", "each needs a name"),
        ("def f(text):\n    return 1\n", "neither marked with @reward nor a TRL reward function"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, message: str) -> None:
    before = set(sys.modules)
    with pytest.raises(PluginError, match=message):
        find_reward(str(plugin(tmp_path, text)))
    if message.startswith("line"):
        assert not {name for name in set(sys.modules) - before if name.startswith("rlperc_plugin")}


def test_unknown_names() -> None:
    with pytest.raises(PluginError, match="did you mean 'answer_number'"):
        find_reward("answer_numbr")
    with pytest.raises(PluginError, match="no such file"):
        find_reward("./not_there.py")
    with pytest.raises(PluginError, match="cannot be imported"):
        find_reward("not_a_package_at_all:f")


def test_split_path() -> None:
    assert split_path("box_iou", None) == (None, None)
    assert split_path("package.module:f", None) == (None, None)
    assert split_path("./a.py", Path("/r")) == (Path("/r/a.py"), None)
    assert split_path("../a.py:f", Path("/r/s")) == (Path("/r/a.py"), "f")
