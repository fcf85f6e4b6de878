"""Rewards that ask a model server, against `vllm serve`: a reader that says what we know it must, and a tiny VLM that babbles."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas
import pytest
from launch import QUICKSTART, SHORT, rlperc
from reader import CONTEXT, TOOL, save_reader
from rollouts import build

from rlperc.errors import RewardError
from rlperc.reward.attempt import Outcome
from rlperc.reward.judge import Judge
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.words.response import read_response

pytest.importorskip("vllm.engine")


class Server(NamedTuple):
    url: str
    model: str
    process: int
    log: Path


@contextmanager
def serving(model: Path, folder: Path, *options: str) -> Iterator[Server]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--host=127.0.0.1", f"--port={port}"]
    fixed = ["--dtype=float32", "--enforce-eager", "--kv-cache-memory-bytes=268435456", f"--max-model-len={CONTEXT}"]
    environment = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "INFO"}
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, *fixed, *options], stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        until = time.monotonic() + 240
        while not _is_healthy(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.5)
        yield Server(f"http://127.0.0.1:{port}/v1", str(model), process.pid, log)
    finally:
        _kill(process.pid)
        process.wait()


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As we tell users to serve a judge."""
    folder = tmp_path_factory.mktemp("reader")
    options = ("--generation-config=vllm", "--served-model-name=reader")
    with serving(save_reader(folder / "model"), folder, *options) as server:
        yield server._replace(model="reader")


def outcomes(
    name: str, perceptions: Sequence[str], row: dict[str, Any], server: Server, handling: Handling, **settings: Any
) -> list[Outcome]:
    told = {"solver": "server"} if name == "blind_solver" else {}
    runner = RewardRunner(find_reward(name), {**told, "server": server.url, "model": server.model, **settings}, handling)
    texts = [f"<perception>{one}</perception><answer>none</answer>" for one in perceptions]
    try:
        columns = {column: [value] * len(texts) for column, value in row.items()}
        return runner.run([read_response(text) for text in texts], columns)
    finally:
        runner.close()


HERE = Handling(on_error="skip", max_error_share=1.0, isolate=False)
APART = Handling(on_error="skip", max_error_share=1.0, isolate=True)
LEGS = {"question": "How many legs has it?", "answer": "8"}
# Of the quickstart's questions: the reader says 1 to what begins with "Which", and nothing to others.
EXPECTED = {
    "Which column": {(1.0, "")},
    "Which row": {(1.0, ""), (0.0, "the perception gives 1")},
    "How many": {(0.0, "the perception gives no answer")},
}
FACTS = {"facts": ["It has eight legs.", "It is blue."]}


@pytest.mark.parametrize("handling", [HERE, APART])
def test_scores_are_what_the_model_says(reader: Server, handling: Handling) -> None:
    seen = ["a spider", "a bird", "a stone"]
    assert outcomes("blind_solver", seen, LEGS, reader, handling) == [
        Outcome("value", 1.0),
        Outcome("value", 0.0, "the perception gives 2"),
        Outcome("value", 0.0, "the perception gives no answer"),
    ]
    assert [one.value for one in outcomes("facts_hit", seen, FACTS, reader, handling)] == [0.5, 1.0, 0.0]


def test_other_scripts_go_both_ways(reader: Server) -> None:
    row = {"question": "首都は?", "answer": "東京"}
    assert [one.value for one in outcomes("blind_solver", ["🗼 パリ", "🗼"], row, reader, HERE)] == [1.0, 0.0]
    odd = ["\x00 a spider", "\ud800 a spider", "\u202e a spider", '{"animal": "spider"}', '[[8, "spider"]]']
    assert [one.value for one in outcomes("blind_solver", odd, LEGS, reader, HERE)] == [1.0] * 5


@pytest.mark.parametrize("handling", [HERE, APART])
def test_a_whole_batch_twice(reader: Server, handling: Handling) -> None:
    seen = [f"{'a spider' if one % 2 else 'a bird'}, number {one}" for one in range(128)]
    first = outcomes("blind_solver", seen, LEGS, reader, handling)
    assert [one.value for one in first] == [0.0, 1.0] * 64
    assert outcomes("blind_solver", seen, LEGS, reader, handling, retries=0) == first


def test_what_is_no_answer_says_why(reader: Server) -> None:
    seen = ["a spider that sings", "a silent spider", "a spider " + "汉" * 1000]
    for name, row in (("blind_solver", LEGS), ("facts_hit", FACTS)):
        endless, empty, long = outcomes(name, seen, row, reader, HERE)
        assert {endless.status, empty.status, long.status} == {"error"}
        assert "was cut off by the end of its context or its server's limit, at 'lala" in endless.why
        assert "gave an empty answer" in empty.why
        assert f"answered HTTP 400: This model's maximum context length is {CONTEXT} tokens" in long.why


def test_wrong_names_and_addresses_say_what_would_be_right(reader: Server) -> None:
    for wrong in (reader._replace(model="other"), reader._replace(url=reader.url.removesuffix("/v1"))):
        (outcome,) = outcomes("blind_solver", ["a spider"], LEGS, wrong, HERE)
        assert "answered HTTP 404 (`server` ends in /v1, and GET /v1/models tells" in outcome.why
    assert outcomes("blind_solver", ["a spider"], LEGS, reader._replace(url=f"{reader.url}/"), HERE)[0].value == 1.0


def test_a_special_token_that_somebody_spells_is_text(reader: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged() -> list[float | None]:
        stated = outcomes("facts_hit", [f"a stone {TOOL}"], FACTS, reader, HERE)
        asked = outcomes("facts_hit", ["a stone"], {"facts": [f"It is {TOOL}.", "It is blue."]}, reader, HERE)
        return [one.value for one in (*stated, *asked)]

    assert judged() == [0.0, 0.0]
    monkeypatch.setattr(sys.modules[Judge.__module__], "_SPECIAL", re.compile("(?!)"))
    assert judged() == [1.0, 1.0]  # vLLM takes it for the token itself


def test_scoring_a_file(reader: Server, tmp_path: Path) -> None:
    row = {**LEGS, **FACTS}
    lines = [{"completion": f"<perception>{one}</perception>", **row} for one in ("a spider", "a bird", "it sings")]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    settings = {"blind_solver.solver": "server"}
    for name in ("blind_solver", "facts_hit"):
        settings |= {f"{name}.server": reader.url, f"{name}.model": reader.model}
    told = [word for name, value in settings.items() for word in ("--with", f"{name}={value}")]
    out = tmp_path / "scores.jsonl"
    done = rlperc("score", str(tmp_path / "rows.jsonl"), "--rewards", "blind_solver,facts_hit", *told, "--out", str(out))
    assert done.returncode == 0, done.stderr
    scores = [json.loads(line)["scores"] for line in out.read_text().splitlines()]
    assert scores == [
        {"blind_solver": 1.0, "facts_hit": 0.5},
        {"blind_solver": 0.0, "facts_hit": 1.0},
        {"blind_solver": None, "facts_hit": None},
    ]


def test_training_with_a_solver_on_a_server(reader: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside the server
    use = f"{{use: blind_solver, with: {{solver: server, server: '{reader.url}', model: reader}}}}"
    # Enough of a warm start for some responses to have a perception; and four questions, of the kinds of EXPECTED.
    warm = ("stages.warm.train.max_steps=40", "stages.warm.data.rows=1280", "stages.reason.train.max_completion_length=48")
    data = ("stages.reason.data.rows=4", "stages.reason.data.seed=1352", "stages.reason.train.logging_steps=1")
    options = (*SHORT, *warm, *data, "evaluate=null", f"stages.reason.rewards=[{{use: answer_number}}, {use}]")
    done = rlperc("check", str(QUICKSTART), f"output={tmp_path / 'run'}", *options)
    assert done.returncode == 0, done.stderr
    assert f"it asks the server {reader.url}" in done.stdout + done.stderr
    before = reader.log.read_text().count("POST /v1/chat/completions")
    done = rlperc("train", str(QUICKSTART), f"output={tmp_path / 'run'}", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert reader.log.read_text().count("POST /v1/chat/completions") > before
    table = pandas.concat(map(pandas.read_parquet, (tmp_path / "run").rglob("completions_*.parquet")))
    assert len(table) == 32
    found: dict[str, set[tuple[float, str]]] = {}
    for prompt, score, why in zip(table["prompt"], table["blind_solver"], table["blind_solver/why"], strict=True):
        if not why.startswith(("no perception", "the perception says nothing")):
            found.setdefault(" ".join(prompt[0]["content"][-1]["text"].split()[:2]), set()).add((score, why))
    assert found == EXPECTED


def _engine(server: Server) -> int:
    """The process that computes, behind the one that answers HTTP."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                if b"EngineCore" in words and os.getpgid(int(entry.name)) == server.process:
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError("no engine")


def test_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a model that also takes images, which nothing in a text stands for."""
    monkeypatch.setenv("JUDGE_KEY", "sesame")
    monkeypatch.setenv("WRONG_KEY", "simsim")
    with serving(build("idefics3", tmp_path / "model"), tmp_path, "--api-key=sesame") as server:
        for wrong in ({}, {"api_key_env": "WRONG_KEY"}):
            (outcome,) = outcomes("blind_solver", ["a spider"], LEGS, server, APART, **wrong)
            assert "answered HTTP 401 (the key is in the variable that `api_key_env` names): Unauthorized" in outcome.why
        seen = ["a spider", "an <image>, <fake_token_around_image><global-img>", "<image>" * 60]
        for outcome in outcomes("facts_hit", seen, FACTS, server, APART, api_key_env="JUDGE_KEY"):
            assert "was cut off" in outcome.why  # random weights find no end


def test_a_server_that_hangs_and_dies(reader: Server) -> None:
    """The last one: nobody can ask the reader after it."""
    engine = _engine(reader)
    os.kill(engine, signal.SIGSTOP)
    seen = [f"a spider, number {one} of the last" for one in range(128)]
    late = outcomes("blind_solver", seen[:40], LEGS, reader, HERE, request_timeout_s=0.5)
    assert {one.why.partition("/v1 ")[2] for one in late} == {"gave no answer within 0.5 s"}
    wakes = threading.Timer(1.0, os.kill, (engine, signal.SIGCONT))
    wakes.start()
    assert [one.value for one in outcomes("blind_solver", seen[:40], LEGS, reader, HERE)] == [1.0] * 40
    os.kill(engine, signal.SIGSTOP)
    ends = threading.Timer(1.0, _kill, (reader.process,))
    ends.start()
    with pytest.raises(RewardError, match=r"cannot be asked: Connection error\. .* \(on completion 1 of 128, and on 127 more\)"):
        outcomes("blind_solver", seen, LEGS, reader, Handling(isolate=True), request_timeout_s=20.0)
    ends.join()
    with pytest.raises(RewardError, match=r"failed on 128 of the last 128 completions, most often because .*Connection error"):
        outcomes("blind_solver", seen, LEGS, reader, Handling(on_error="skip"), retries=0)
