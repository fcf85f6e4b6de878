"""`rlperc score`: files of completions in, scores out, in order; interrupted and gone on with as if nothing had happened."""

import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.cli import main
from rlperc.cli_score import offline_handling
from rlperc.errors import DataError
from rlperc.recipe.load import load_recipe
from rlperc.recipe.rows import text_columns
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.reward.trl import TrlReward
from rlperc.score import files, rows
from rlperc.score.batches import SeenHashes, batches
from rlperc.score.files import open_source
from rlperc.score.rows import score_file
from rlperc.score.summary import Summary
from rlperc.words.response import Tags

LINES = [
    {"completion": "<answer>4</answer>", "answer": "4"},
    {"completion": "<answer>5</answer>", "answer": "4"},
    {"completion": "<answer>5</answer>", "answer": "blue"},
]
HERE = Handling(on_error="skip", max_error_share=1.0, isolate=False)


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def scores_of(out: Path, name: str) -> list[float | None]:
    return [json.loads(line)["scores"][name] for line in out.read_text().splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "completions.jsonl", LINES)


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], str]:
    """Writes a reward file and gives the name that `--rewards` knows it by."""

    def written(text: str, name: str = "mine.py") -> str:
        (tmp_path / name).write_text(f"from rlperc import Score, reward\n{text}")
        return str(tmp_path / name)

    return written


def test_one_line_for_each_completion_in_order(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", "answer_number,format_tags", "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["scores"]["answer_number"] for line in scored] == [1.0, 0.0, None]
    assert [line["status"]["answer_number"] for line in scored] == ["value", "value", "skip"]
    assert list(scored[1]) == ["scores", "why", "status"]
    assert scored[1]["why"]["answer_number"] == "5 instead of 4"
    printed = capsys.readouterr().out.splitlines()
    assert " ".join(printed[0].split()) == "answer_number mean 0.5000 [0.0945, 0.9055] values 2 skips 1 errors 0 timeouts 0"
    assert "answer_number: 1 x 5 instead of 4" in printed
    assert printed[-1] == "3 completions, 0 unreadable (a tag is unclosed or repeated)"


def test_faults_do_not_take_the_rest(plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine = plugin(
        "import time\n@reward(timeout_s=0.5)\ndef mine(completion):\n"
        "    if completion.text == 'slow':\n        time.sleep(60)\n"
        "    return float(completion.text)\n"
    )
    file = write(tmp_path / "c.jsonl", [{"completion": text} for text in ("1", "x", "nan", "slow", "0.5")])
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", mine, "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["status"]["mine"] for line in scored] == ["value", "error", "error", "timeout", "value"]
    assert [line["scores"]["mine"] for line in scored] == [1.0, None, None, None, 0.5]
    assert "line 7: ValueError" in scored[1]["why"]["mine"]
    assert "returned nan" in scored[2]["why"]["mine"]
    printed = capsys.readouterr().out
    assert "values 2  skips 0  errors 2  timeouts 1" in printed
    assert "mine: the first error: line 2: it raised line 7: ValueError" in printed


@pytest.mark.parametrize(("on_error", "code", "scores"), [("skip", 0, [None, 1.0]), ("zero", 0, [0.0, 1.0]), ("stop", 2, None)])
def test_what_becomes_of_a_fault(
    plugin: Callable[[str], str], tmp_path: Path, on_error: str, code: int, scores: list | None, capsys: pytest.CaptureFixture
) -> None:
    mine = plugin("@reward(bounded=True)\ndef mine(completion):\n    return 1 / len(completion.text)\n")
    file, out = write(tmp_path / "c.jsonl", [{"completion": ""}, {"completion": "x"}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", mine, "--on-error", on_error, "--out", str(out)]) == code
    assert (scores_of(out, "mine") if scores else out.exists()) == (scores or False)
    printed = capsys.readouterr()
    assert ("mean 0.5000" in printed.out) == (on_error == "zero")
    assert ("ZeroDivisionError" in printed.err) == (on_error == "stop")


RECIPE = (
    "model: {name: m}\ndata: {file: x.jsonl, columns: {answer: solution}}\ntags: {answer: final}\n"
    "rewards: [{use: answer_number, with: {tolerance: 1}}]\nstages: [{name: a, kind: grpo}]\n"
)


def test_a_recipes_rewards_settings_tags_and_names_of_columns(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    file = write(tmp_path / "c.jsonl", [{"completion": f"<final>{i}</final>", "solution": 4} for i in (4, 5, 6)])
    assert main(["score", str(file), "--recipe", str(recipe)]) == 0
    assert "mean 0.6667" in capsys.readouterr().out
    assert main(["score", str(file), "--recipe", str(recipe), "rewards.answer_number.with.tolerance=2"]) == 0
    assert "mean 1.0000" in capsys.readouterr().out


def test_our_own_name_for_a_column_wins(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    file = write(tmp_path / "c.jsonl", [{"completion": "<final>9</final>", "solution": 4, "answer": 9}])
    assert main(["score", str(file), "--recipe", str(recipe)]) == 0
    assert "mean 1.0000" in capsys.readouterr().out


def test_a_recipe_that_stops_on_faults_does_so_in_training_only() -> None:
    assert offline_handling(Handling(), None) == Handling(on_error="skip", max_error_share=1.0)
    assert offline_handling(Handling(on_error="zero", timeout_s=2), None).on_error == "zero"
    assert offline_handling(Handling(on_error="zero", timeout_s=2), "stop").timeout_s == 2


def test_settings_on_the_command_line(file: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["score", str(file), "--rewards", "answer_number,format_tags", "--with"]
    assert main([*command, "answer_number.tolerance=1e0"]) == 0
    assert "mean 1.0000" in capsys.readouterr().out
    for setting, message in {
        "answer_number.tolerence=1": "did you mean 'tolerance'",
        "answer_nummer.tolerance=1": "did you mean 'answer_number'",
        "tolerance=1": "--with NAME.SETTING=VALUE",
        "answer_number.tolerance={": "not YAML",
    }.items():
        assert main([*command, setting]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rewards", "format_tags", "--resume"], "--out with the file of scores"),
        (["--rewards", "format_tags", "a.b=c"], "--with NAME.SETTING=VALUE"),
        (["--recipe", "r.yaml", "--with", "a.b=c"], "rewards.NAME.with.SETTING=VALUE"),
        (["--rewards", "format_tags,format_tags"], "it stands there twice"),
        (["--rewards", "format_tags", "--summary", "no/s.json"], "there is no folder no"),
        (["--rewards", "format_tags", "--out", "no/s.jsonl"], "there is no folder no"),
    ],
)
def test_options_that_do_not_go_together(file: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    assert main(["score", str(file), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "rewards", "message"),
    [
        (None, "answer_number", "no such file"),
        ("", "answer_number", "it holds no completions"),
        ("{\n", "answer_number", "line 1"),
        ("[" * 100_000 + "\n", "answer_number", "nested too deeply"),
        ("4\n", "answer_number", "it is no object"),
        ('{"text": "x"}\n', "format_tags", "no text under 'completion'"),
        ('{"completion": "x", "tokens": 1.5}\n', "format_tags", "'tokens' is not the number"),
        ('{"completion": "x", "answer": NaN}\n', "format_tags", "line 1: the column 'answer'"),
        ('{"completion": "x"}\n', "answer_number", "needs the column 'answer'"),
        ('\n{"completion": "x", "answer": "4"}\n{"completion": "x"}\n', "answer_number", "line 3\n"),
        ('{"completion": "x"}\n', "answer_numbre", "did you mean 'answer_number'"),
    ],
)
def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture, content: str | None, rewards: str, message: str) -> None:
    file, out = tmp_path / "c.jsonl", tmp_path / "scores.jsonl"
    if content is not None:
        file.write_text(content)
    assert main(["score", str(file), "--rewards", rewards, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_lines_end_at_newlines_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "c.jsonl"
    line = json.dumps({"completion": "one\u2028two <answer>4</answer>", "answer": "4"}, ensure_ascii=False)
    file.write_text(f"\ufeff{line}\r\n\n{line}", encoding="utf-8")
    assert main(["score", str(file), "--rewards", "answer_number"]) == 0
    assert "mean 1.0000" in (printed := capsys.readouterr().out)
    assert "2 completions" in printed


def test_scores_that_are_there_are_not_overwritten(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "scores.jsonl"
    for theirs in ("mine\n", "mine", "{}\n", '{"scores": {"other": 1}, "why": {"other": ""}, "status": {"other": "value"}}\n'):
        out.write_text(theirs)
        assert main(["score", str(file), "--rewards", "answer_number", "--out", str(out)]) == 2
        assert "already exists" in capsys.readouterr().err
        assert main(["score", str(file), "--rewards", "answer_number", "--out", str(out), "--resume"]) == 2
        assert "going on with" in capsys.readouterr().err
        assert out.read_text() == theirs


def test_what_a_model_may_write(plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine = plugin("@reward(bounded=True)\ndef mine(completion):\n    return Score(0.5, why=completion.text[:20])\n")
    texts = ["x" * 10_000_000, "\ud800 lone", "nul\0 and \x1b[31m red", "<answer>" * 1000, "ünïcode\u2028"]
    file, out = write(tmp_path / "c.jsonl", [{"completion": text} for text in texts]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", f"{mine},format_tags", "--out", str(out)]) == 0
    scored = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [line["why"]["mine"] for line in scored] == [text[:20] for text in texts]
    assert "ünïcode" in out.read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "5 completions, 1 unreadable" in printed
    assert "\x1b" not in printed
    assert "\\ud800 lone" in printed


# Groups


def groups_of(sizes: list[int]) -> list[dict[str, Any]]:
    ids = [place for place, size in enumerate(sizes) for _ in range(size)]
    return [{"completion": f"<perception>{i % 2}</perception>", "prompt_id": group, "n": i} for i, group in enumerate(ids)]


GROUP = (
    '@reward(scope="group", bounded=True)\ndef alike(completions):\n'
    "    texts = [c.text for c in completions]\n"
    "    return [Score(texts.count(t) / len(texts), why=f'{texts.count(t)} of {len(texts)}') for t in texts]\n"
)


def test_rewards_that_compare_a_prompts_completions(
    plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file, out = write(tmp_path / "c.jsonl", groups_of([3, 2, 1])), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", plugin(GROUP), "--out", str(out)]) == 0
    assert scores_of(out, "alike") == pytest.approx([2 / 3, 1 / 3, 2 / 3, 0.5, 0.5, 1.0])
    printed = capsys.readouterr().out
    assert "zero spread 1 of 2 groups" in printed
    assert "6 completions of 3 prompts" in printed


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([None, None], "do not say which belong together"),
        (["a", "b", "a"], "line 3\n  why: the rows of prompt_id 'a' do not stand together"),
        (["a", None], "it has no 'prompt_id', and the rows before have one"),
        ([None, "a"], "only from here on is there a 'prompt_id'"),
    ],
)
def test_groups_that_are_none(
    plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture, ids: list, message: str
) -> None:
    file = write(tmp_path / "c.jsonl", [{"completion": "x", "prompt_id": one} for one in ids])
    assert main(["score", str(file), "--rewards", "format_tags" if any(ids) else plugin(GROUP)]) == 2
    assert message in capsys.readouterr().err


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), most=st.integers(1, 8), known=st.booleans())
@settings(max_examples=60)
def test_batches_hold_whole_groups_and_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int, known: bool
) -> None:
    lines = [line if known else {**line, "prompt_id": None} for line in groups_of(sizes)]
    file = write(tmp_path_factory.getbasetemp() / "batches.jsonl", lines)
    cut = list(batches(open_source(file, None), {}, most))
    assert [row["n"] for batch in cut for row in batch.rows] == list(range(len(lines)))
    assert sum(batch.units for batch in cut) == file.stat().st_size
    assert all(len(batch.rows) >= most for batch in cut[:-1])
    if known:
        assert [len(group) for batch in cut for group in batch.groups or []] == sizes
        assert all(len(batch.rows) - len((batch.groups or [])[-1]) < most for batch in cut)
    else:
        assert all(batch.groups is None and len(batch.rows) <= most for batch in cut)


def test_a_batch_ends_at_many_bytes_too(tmp_path: Path) -> None:
    file = write(tmp_path / "c.jsonl", [{"completion": "x" * 6_000_000}] * 7)
    assert [len(batch.rows) for batch in batches(open_source(file, None), {}, 256)] == [3, 3, 1]


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(-(2**63), 2**63 - 1)), max_size=3000))
@settings(max_examples=30)
def test_seen_hashes_are_a_set(values: list[int]) -> None:
    seen, known = SeenHashes(), {0}
    seen.add(1)  # 0 stands for 1, the mark of a free place
    known.add(1)
    for value in values:
        assert seen.add(value) == (value not in known)
        known.add(value)


# Going on


def scored(file: Path, out: Path, use: str, *, resume: bool = False) -> Summary:
    return score_file(
        file, [RewardRunner(find_reward(use), {}, HERE), RewardRunner(find_reward("format_tags"), {}, HERE)], out, resume=resume
    )


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=10), data=st.data())
@settings(max_examples=40, deadline=None)
def test_cut_anywhere_and_gone_on_with_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    (folder / "alike.py").write_text(f"from rlperc import Score, reward\n{GROUP}")
    file = write(folder / "c.jsonl", groups_of(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "MOST_ROWS", 4)
        summary = scored(file, folder / "whole", str(folder / "alike.py"))
        whole = (folder / "whole").read_bytes()
        (folder / "cut").write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        assert scored(file, folder / "cut", str(folder / "alike.py"), resume=True) == summary
    assert (folder / "cut").read_bytes() == whole


def test_a_file_that_is_not_the_one_it_was_begun_with(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    scored(file, out, "answer_number")
    before = out.read_bytes()
    write(file, LINES[:2])
    with pytest.raises(DataError, match="more lines than the 2 completions"):
        scored(file, out, "answer_number", resume=True)
    write(file, [{**line, "task": None} for line in LINES])
    with pytest.raises(DataError, match="has scores of answer_number, format_tags instead of answer_follows, format_tags"):
        scored(file, out, "answer_follows", resume=True)
    assert out.read_bytes() == before


@pytest.mark.parametrize("known", [True, False])
def test_a_broken_line_keeps_what_stands_before_it(tmp_path: Path, capsys: pytest.CaptureFixture, known: bool) -> None:
    good = [
        {"completion": f"<answer>{i % 3}</answer>", "answer": 1, **({"prompt_id": i // 4} if known else {})} for i in range(600)
    ]
    file = write(tmp_path / "c.jsonl", good)
    lines = file.read_text().splitlines(keepends=True)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "scores.jsonl"
    command = ["score", str(file), "--rewards", "answer_number,format_tags", "--out"]
    assert main([*command, str(whole)]) == 0
    expected = capsys.readouterr().out
    file.write_text("".join([*lines[:499], '{"completion":\n', *lines[500:]]))
    for resume in ([], ["--resume"]):  # a second time, while it is still broken
        assert main([*command, str(out), *resume]) == 2
        told = capsys.readouterr().err
        assert "line 500" in told
        assert "with --resume goes on" in told
        assert out.read_text().count("\n") == (496 if known else 499)
    file.write_text("".join(lines))
    assert main([*command, str(out), "--resume"]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert capsys.readouterr().out == expected


SLOW = (
    'import time\n@reward(scope="group", bounded=True)\ndef alike(completions, answer):\n'
    "    time.sleep(0.0004)\n    return [float(c.answer == answer) for c in completions]\n"
)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    lines = [{"completion": f"<answer>{i % 5}</answer>", "answer": str(i % 3), "prompt_id": f"p{i // 7}"} for i in range(20_000)]
    return write(tmp_path / "many.jsonl", lines)


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rlperc", "score", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(out: Path, size: int) -> None:
    end = time.monotonic() + 60
    while not out.exists() or out.stat().st_size < size:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_killed_twice_and_gone_on_with_it_is_the_same(many: Path, plugin: Callable[[str], str], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "scores.jsonl"
    command = [many, "--rewards", f"{plugin(SLOW)},format_tags", "--summary", tmp_path / "summary.json", "--out"]
    printed, _ = start(*command, whole).communicate(timeout=120)
    summary = (tmp_path / "summary.json").read_bytes()
    for share in (0.3, 0.6):
        process = start(*command, out, *(["--resume"] if out.exists() else []))
        wait_for(out, int(share * whole.stat().st_size))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert share * whole.stat().st_size <= out.stat().st_size < whole.stat().st_size
        with out.open("ab") as torn:
            torn.write(b'{"scores": {"ali')
    process = start(*command, out, "--resume")
    assert (process.communicate(timeout=120)[0], process.returncode) == (printed, 0)
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / "summary.json").read_bytes() == summary
    assert json.loads(summary)["groups"] == 2858


def test_an_interrupt_says_how_to_go_on(many: Path, plugin: Callable[[str], str], tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    process = start(many, "--rewards", plugin(SLOW), "--out", out)
    wait_for(out, 1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "scores.jsonl keeps the scores so far; the same command with --resume" in told
    assert 0 < out.read_text().count("\n") < 20_000


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        file = write(tmp_path / f"{count}.jsonl", [{"completion": f"<answer>{i}" + " word" * 50} for i in range(count)])
        tracemalloc.start()
        score_file(file, [RewardRunner(find_reward("format_tags"), {}, HERE)], tmp_path / f"{count}.scores")
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return taken

    assert peak(8000) < 1.1 * peak(1000)


# The same numbers as in training


def test_columns_are_what_training_would_have_seen(plugin: Callable[[str], str], tmp_path: Path) -> None:
    seen = (
        "@reward(bounded=True)\ndef seen(completion, answer, perception, question, boxes, hint='none', *, weight=1.0):\n"
        "    return Score(weight, why=repr((answer, perception, question, boxes, hint, completion.tokens)))\n"
    )
    row = {"prompt": "How many?", "answer": 14, "perception": {"b": [1], "a": None}, "boxes": [[0, 1, 2, 3]]}
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "model: {name: m}\ndata: {file: x.jsonl}\nrewards: [{use: ./seen.py, with: {weight: 0.5}}]\n"
        "stages: [{name: a, kind: grpo}]\n"
    )
    plugin(seen, "seen.py")
    loaded = load_recipe(recipe)
    trained = {**row, **text_columns(loaded.stages[0].data, row)}
    logged: dict[str, Any] = {}
    in_training = TrlReward(RewardRunner(find_reward(loaded.stages[0].rewards[0].use), {"weight": 0.5}, HERE), Tags(), 1)
    columns = {name: [value] for name, value in trained.items() if name != "prompt"}
    values = in_training(
        [trained["prompt"]], [[{"role": "assistant", "content": "x"}]], [[0] * 7], log_extra=logged.__setitem__, **columns
    )
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x", "tokens": 7, **row}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--recipe", str(recipe), "--out", str(out)]) == 0
    assert scores_of(out, "seen") == values == [0.5]
    assert [json.loads(out.read_text())["why"]["seen"]] == logged["seen/why"]
    assert logged["seen/why"] == ["""('14', '{"a":null,"b":[1]}', 'How many?', [[0, 1, 2, 3]], 'none', 7)"""]


def test_an_optional_column_may_be_missing_in_some_rows(plugin: Callable[[str], str], tmp_path: Path) -> None:
    one = plugin("@reward(bounded=True)\ndef one(completion, hint=0.25):\n    return hint\n", "one.py")
    together = plugin(
        '@reward(scope="batch", bounded=True)\ndef together(completions, hint=None, other=None):\n'
        "    assert other is None\n    return [Score(0.5, why=repr(h)) for h in hint]\n",
        "together.py",
    )
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x"}, {"completion": "x", "hint": 1}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", f"{one},{together}", "--out", str(out)]) == 0
    assert scores_of(out, "one") == [0.25, 1.0]
    assert [json.loads(line)["why"]["together"] for line in out.read_text().splitlines()] == ["None", "1"]


def test_a_batch_in_one_call_is_about_as_large_as_in_training(plugin: Callable[[str], str], tmp_path: Path) -> None:
    together = plugin(
        '@reward(scope="batch", bounded=True, range=(0, 999))\ndef sizes(completions):\n'
        "    return [len(completions)] * len(completions)\n"
    )
    file, out = write(tmp_path / "c.jsonl", groups_of([30, 30, 30, 7])), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", together, "--out", str(out)]) == 0
    assert scores_of(out, "sizes") == [90.0] * 90 + [7.0] * 7


TRL = (
    "def theirs(prompts, completions, answer, **others):\n"
    "    assert prompts == ['', 'Q'] and sorted(others) == ['extra'], (prompts, others)\n"
    "    return [float(c[-1]['content'] == a) if a else None for c, a in zip(completions, answer)]\n"
)


def test_a_plain_trl_function(plugin: Callable[[str], str], tmp_path: Path) -> None:
    lines = [{"completion": "4", "answer": 4, "extra": 1}, {"completion": "4", "answer": None, "extra": 2, "prompt": "Q"}]
    file, out = write(tmp_path / "c.jsonl", lines), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", plugin(TRL), "--out", str(out)]) == 0
    assert scores_of(out, "theirs") == [1.0, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(completions, trainer_state):\n    return [0.0]\n", "it needs `trainer_state`, which only a trainer has"),
        ("def f(completions, completion_ids):\n    return [0.0]\n", "it needs the column 'completion_ids'"),
        ("def f(completions, answer):\n    return [0.0]\n", "it needs the column 'answer'; there are completion"),
        ('@reward(scope="batch")\ndef f(completions, *, scorer):\n    return [0.0]\n', "it asks the model that is training"),
        ("@reward()\ndef f(completion, *, url):\n    return 0.0\n", "it needs the setting 'url'"),
    ],
)
def test_what_cannot_be_scored_without_training(
    plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture, text: str, message: str
) -> None:
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x"}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", plugin(text), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_token_ids_may_stand_in_a_column(plugin: Callable[[str], str], tmp_path: Path) -> None:
    theirs = plugin("def f(completions, completion_ids, trainer_state=None):\n    return [len(i) for i in completion_ids]\n")
    file, out = write(tmp_path / "c.jsonl", [{"completion": "x", "completion_ids": [1, 2]}]), tmp_path / "scores.jsonl"
    assert main(["score", str(file), "--rewards", theirs, "--out", str(out)]) == 0
    assert scores_of(out, "f") == [2.0]


# Parquet


def test_parquet_is_scored_as_json_lines_are(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lines = [
        {
            "completion": f"<perception>[[1,{i % 2}]]</perception>",
            "perception": [[1, 1]],
            "tokens": i,
            "prompt_id": i // 3,
            "unread": b"\xff",
        }
        for i in range(700)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(lines), tmp_path / "c.parquet", row_group_size=100)
    file = write(tmp_path / "c.jsonl", [{name: value for name, value in line.items() if name != "unread"} for line in lines])
    printed = []
    for source in (tmp_path / "c.parquet", file):
        out = tmp_path / f"{source.name}.scores"
        assert main(["score", str(source), "--rewards", "perception_cells,format_tags", "--out", str(out)]) == 0
        printed.append((capsys.readouterr().out, out.read_bytes()))
    assert printed[0] == printed[1]
    assert "mean 0.7500" in printed[0][0]
    assert main(["score", str(tmp_path / "c.parquet"), "--rewards", "answer_number"]) == 2
    assert "row 1\n  why: it needs the column 'answer'; there are completion, perception" in capsys.readouterr().err


def test_what_is_wrong_with_parquet(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "c.parquet"
    broken.write_bytes(b"PAR1 nonsense")
    assert main(["score", str(broken), "--rewards", "format_tags"]) == 2
    assert "it is not parquet" in capsys.readouterr().err
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    assert main(["score", str(broken), "--rewards", "format_tags"]) == 2
    assert 'pip install "rlperc[train]"' in capsys.readouterr().err
