"""Starting a reward of one's own: a new one that is complete, or a copy of one of the collection."""

from __future__ import annotations

import builtins
import keyword
from pathlib import Path

from rlperc.errors import DataError, PluginError, did_you_mean
from rlperc.lint.golden import golden_file
from rlperc.reward.plugins import collection

_REWARD = '''\
"""The stated answer is the gold answer, word for word. Say here in one sentence what yours rewards.

Source: yours
"""

from rlperc import Completion, Score, reward

MAX_CHARACTERS = 1000  # a longer answer is none, and reading one takes no time


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def {name}(completion: Completion, answer: str | None, *, ignore_case: bool = True) -> Score | None:
    """1 where `<answer>` holds the words of the column `answer`, else 0; `ignore_case` takes `Cat` for `cat`."""
    gold = _words(str(answer), ignore_case) if answer is not None else []
    if not gold:
        return None  # the row has no gold answer, so it is another reward's
    if completion.answer is None:
        return Score(0.0, why="no answer")
    if len(completion.answer) > MAX_CHARACTERS:
        return Score(0.0, why="the answer is too long")
    if _words(completion.answer, ignore_case) == gold:
        return Score(1.0)
    return Score(0.0, why="not the gold answer")


def _words(text: str, ignore_case: bool) -> list[str]:
    return (text.casefold() if ignore_case else text).split()
'''

_CASES = """\
{"case": "right", "completion": "<answer> Cat </answer>", "columns": {"answer": "cat"}, "score": 1.0}
{"case": "wrong", "completion": "<answer>dog</answer>", "columns": {"answer": "cat"}, "score": 0.0, "why": "not the gold answer"}
{"case": "case counts", "completion": "<answer>Cat</answer>", "columns": {"answer": "cat"}, "settings": {"ignore_case": false}, \
"score": 0.0, "why": "not the gold answer"}
{"case": "two answers in one", "completion": "<answer>cat or dog</answer>", "columns": {"answer": "cat"}, "score": 0.0, \
"why": "not the gold answer"}
{"case": "empty", "completion": "<answer></answer>", "columns": {"answer": "cat"}, "score": 0.0, "why": "not the gold answer"}
{"case": "malformed", "completion": "<answer>cat", "columns": {"answer": "cat"}, "score": 0.0, "why": "no answer"}
{"case": "a row without a gold answer", "completion": "<answer>cat</answer>", "columns": {"answer": null}, "score": null}
"""

# The new file imports these, so that a function of that name would stand in their place.
_TAKEN = frozenset({"Completion", "Score", "reward", *dir(builtins), *keyword.kwlist, *keyword.softkwlist})


def new(name: str, folder: Path) -> list[Path]:
    """Write a small reward and its golden cases, which pass `rlperc rewards test` and `lint` as they are.

    Returns:
        The two files.

    Raises:
        DataError: the name cannot be a function's, or a file is there already.
    """
    if not name.isidentifier() or name in _TAKEN or name.startswith("_"):
        why = (
            "it means something in Python already"
            if name in _TAKEN
            else "the reward is a function, and Python names none like that"
        )
        raise DataError(f"a new reward '{name}'", why, "letters, digits and underscores, as in answer_word")
    file = folder / f"{name}.py"
    return _write({file: _REWARD.format(name=name), golden_file(file): _CASES})


def copy(name: str, folder: Path) -> list[Path]:
    """Copy a reward of the collection and its golden cases, to be named `./NAME.py` and changed there.

    Returns:
        The files.

    Raises:
        PluginError: the collection has none of that name.
        DataError: a file is there already.
    """
    known = collection()
    if name not in known:
        raise PluginError(f"a copy of the reward '{name}'", "the collection has none of that name", did_you_mean(name, known))
    files = {folder / f"{name}.py": known[name].read_text(encoding="utf-8")}
    if golden_file(known[name]).is_file():
        files[golden_file(folder / f"{name}.py")] = golden_file(known[name]).read_text(encoding="utf-8")
    return _write(files)


def _write(files: dict[Path, str]) -> list[Path]:
    """Write all of them, or none where one is there already."""
    for file in files:
        if file.exists():
            raise DataError(f"writing {file}", "it already exists", "another name, another folder, or move it aside")
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
    except OSError as error:
        raise DataError(f"writing {file}", str(error), "a folder that can be written to") from None
    return list(files)
