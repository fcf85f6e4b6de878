"""`rlperc score` by groups: what is compared, how a file is cut, and how an interrupted scoring goes on."""

import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring import GROUP, HERE, LINES, groups_of, scores_of, write

from rlperc.cli import main
from rlperc.errors import DataError
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.score import rows
from rlperc.score.batches import SeenHashes, batches
from rlperc.score.files import open_source
from rlperc.score.rows import score_file
from rlperc.score.summary import Summary


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "completions.jsonl", LINES)


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
    write(file, [{**line, "answer": "7"} for line in LINES])
    with pytest.raises(DataError, match="its first completions come to other scores now"):
        scored(file, out, "answer_number", resume=True)
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
