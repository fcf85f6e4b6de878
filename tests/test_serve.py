"""`rlperc serve`: what it starts for a recipe, and that it keeps it up and leaves nothing behind. A stand-in serves for vLLM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from launch import QUICKSTART, rlperc

from rlperc.errors import RecipeError
from rlperc.recipe.load import load_recipe
from rlperc.recipe.rollout import Rollout
from rlperc.recipe.schema import Recipe
from rlperc.train.serve import flags, prepare, server_stage
from rlperc.train.supervise import Server, ServerDied, check_port, is_loopback, supervise, unanswered

# Answers /health; what else it does is said by the words after the port. Its child is what vLLM's engine is to vLLM.
STAND_IN = """
import http.server, os, signal, subprocess, sys, time
port, words = int(sys.argv[1]), sys.argv[2:]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "ill" in words else 200)
        self.end_headers()
        self.wfile.flush()
        if "quick" in words:
            os._exit(3)
if "refuses" in words:
    sys.exit("vllm: error: unrecognized arguments: --no-such-option")
if "raises" in words:
    print("(Worker pid=7) ERROR 11-21 [core.py:9] torch._inductor.exc.InductorError: main.so: file too short", flush=True)
    print("EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.", flush=True)
for line in range(30):
    print("line", line, flush=True)
if "raises" in words:
    sys.exit(1)
if "engine" in words:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    engine = subprocess.Popen([sys.executable, "-c", deaf, sys.argv[0]], stdout=subprocess.PIPE)
    engine.stdout.readline()
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
# The command line with the stand-in for vLLM, which is not installed here.
COMMAND = """
import sys
from pathlib import Path
import rlperc.recipe.environment, rlperc.train.serve, rlperc.train.supervise
from rlperc.cli import main
rlperc.recipe.environment.check_versions = lambda *extras: None
rlperc.train.serve.prepare_apart = lambda recipe, folder: rlperc.train.serve.Start("it", sys.argv[1].split(), {})
rlperc.train.supervise.STRAGGLERS_S = 0.3
sys.exit(main(["serve", *sys.argv[2:]]))
"""


@pytest.fixture
def url() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture
def stand_in(tmp_path: Path, url: str) -> Iterator[Callable[..., list[str]]]:
    """The command of a stand-in; whatever is left of it in the end is killed."""
    file = tmp_path / "stand_in.py"
    file.write_text(STAND_IN)
    yield lambda *words: [sys.executable, str(file), url.rpartition(":")[2], *words]
    for process in _left(tmp_path):
        os.kill(process, signal.SIGKILL)


def test_options_become_flags_as_vllm_reads_them() -> None:
    options = {
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "max_logprobs": -1,
        "limit_mm_per_prompt": {"image": 2},
        "cudagraph_capture_sizes": [1, 2],
        "revision": None,
    }
    assert flags(options) == [
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--max-logprobs=-1",
        '--limit-mm-per-prompt={"image": 2}',
        *("--cudagraph-capture-sizes", "1", "2"),
    ]


def test_a_recipe_says_the_whole_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    start = prepare(
        _recipe(
            "http://127.0.0.1:8123",
            "stages.reason.rollout.vllm={max_model_len: 512, dtype: float16}",
            "model={name: some/model, revision: v2, trust_remote_code: true, processor: {size: {longest_edge: 64}}}",
            "seed=7",
        ),
        tmp_path,
    )
    assert start.model == "some/model"
    assert start.command[:5] == [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", "some/model"]
    assert set(start.command[5:]) >= {
        "--host=127.0.0.1",
        "--port=8123",
        "--dtype=float16",  # what the recipe says wins
        "--revision=v2",
        "--tokenizer-revision=v2",
        "--trust-remote-code",
        '--mm-processor-kwargs={"size": {"longest_edge": 64}}',
        "--max-model-len=512",
        "--seed=7",
        "--logprobs-mode=processed_logprobs",
        "--max-logprobs=-1",
        "--trust-request-chat-template",
        "--generation-config=vllm",
    }
    assert start.environment["VLLM_SERVER_DEV_MODE"] == "1"


@pytest.mark.parametrize(("sync", "backend"), [("file", "rlperc_file"), ("nccl", "nccl")])
def test_the_server_takes_weights_the_way_they_are_sent(tmp_path: Path, sync: str, backend: str) -> None:
    start = prepare(_recipe("http://127.0.0.1:8123", "model={name: some/model}", f"stages.reason.rollout.sync={sync}"), tmp_path)
    assert f'--weight-transfer-config={{"backend": "{backend}"}}' in start.command


def test_a_tiny_model_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    recipe = _recipe("http://127.0.0.1:8123")
    for name in ("one", "other"):
        assert str(tmp_path / name) in prepare(recipe, tmp_path / name).command
    for file in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


@pytest.mark.parametrize("train", [{}, {"bf16": True}, {"bf16": None}, {"fp16": True}, {"bf16": None, "fp16": True}])
def test_the_server_computes_in_what_the_trainer_computes_in(tmp_path: Path, train: dict[str, Any]) -> None:
    from rlperc.train.stages import stage_config
    from rlperc.train.start import computes_in

    recipe = load_recipe(QUICKSTART)
    stage = recipe.stages[-1].model_copy(update={"train": {**recipe.stages[-1].train, **train}})
    args = stage_config(recipe, stage, tmp_path)
    assert computes_in(stage, tmp_path) == ("bfloat16" if args.bf16 else "float16" if args.fp16 else "float32")


def test_a_model_that_chooses_its_dtype_is_asked(tmp_path: Path) -> None:
    from rlperc.train.start import computes_in

    stage = load_recipe(QUICKSTART, f"model={{name: {tmp_path}, dtype: auto}}").stages[-1]
    (tmp_path / "config.json").write_text('{"model_type": "idefics3", "dtype": "float16"}')
    assert computes_in(stage, tmp_path) == "float16"
    (tmp_path / "config.json").write_text('{"model_type": "idefics3"}')
    with pytest.raises(RecipeError, match="names no dtype"):
        computes_in(stage, tmp_path)


def test_what_cannot_be_served_is_said_at_once(url: str) -> None:
    with pytest.raises(RecipeError, match="mode: server"):
        server_stage(load_recipe(QUICKSTART))
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        with pytest.raises(RecipeError, match="something listens there already"):
            check_port(url)
    check_port(url)
    with pytest.raises(RecipeError, match="cannot listen there"):
        check_port("http://192.0.2.1:8000")  # an address kept for documentation: no machine's own


def test_hosts_that_others_reach() -> None:
    assert [is_loopback(f"http://{host}:8000") for host in ("127.0.0.1", "localhost", "0.0.0.0", "node7")] == [
        True,
        True,
        False,
        False,
    ]


def test_no_vllm_no_server() -> None:
    with suppress(PackageNotFoundError):
        pytest.skip(f"vLLM {version('vllm')} is installed here")
    done = rlperc("serve", str(QUICKSTART), "stages.reason.rollout={engine: vllm, mode: server}")
    assert done.returncode == 2
    assert 'pip install "rlperc[vllm]"' in done.stderr


def test_a_server_that_refuses_to_start_is_shown_and_not_tried_again(
    tmp_path: Path, url: str, stand_in: Callable[..., list[str]]
) -> None:
    said: list[str] = []
    with pytest.raises(ServerDied, match=r"did not start: it ended with exit code 1; an option under rollout\.vllm") as died:
        supervise(_server(stand_in("refuses"), url, tmp_path), "ready", said.append)
    assert "--no-such-option" in str(died.value)
    assert said == []


def test_the_first_error_is_shown_above_the_end(tmp_path: Path, url: str, stand_in: Callable[..., list[str]]) -> None:
    with pytest.raises(ServerDied, match="delete the folder torchinductor_USER") as died:
        supervise(_server(stand_in("raises"), url, tmp_path), "ready", print)
    shown = str(died.value).splitlines()
    assert "    torch._inductor.exc.InductorError: main.so: file too short" in shown
    assert "line 29" in shown[-2]
    assert "EngineDeadError" not in str(died.value)


def test_a_server_that_is_not_well_in_time_is_ended(tmp_path: Path, url: str, stand_in: Callable[..., list[str]]) -> None:
    with pytest.raises(ServerDied, match=r"no answer within 0\.5 s") as died:
        supervise(_server(stand_in("ill"), url, tmp_path, wait_s=0.5), "ready", print)
    assert _left(tmp_path) == []
    assert "line 29" in str(died.value)
    assert "line 9\n" not in str(died.value)  # the last 20 lines


def test_quick_deaths_are_counted(tmp_path: Path, url: str, stand_in: Callable[..., list[str]]) -> None:
    said: list[str] = []
    with pytest.raises(ServerDied, match="died 4 times in a row, the last time so: it ended with exit code 3"):
        supervise(_server(stand_in("quick"), url, tmp_path), "ready", said.append)
    assert said.count("ready") == 4
    assert "(3 of at most 3 times in a row)" in said[-2]


def test_a_server_that_lived_long_starts_the_count_anew(tmp_path: Path, url: str, stand_in: Callable[..., list[str]]) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if said.count("ready") == 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        supervise(_server(stand_in("quick"), url, tmp_path), "ready", say, quick_s=0)
    assert all("(1 of at most 3 times in a row)" in text for text in said if text != "ready")


def test_a_server_that_starts_again_compiles_anew(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was being compiled when it was killed is cut off, and would end the next one."""
    began = []

    def once(server: Server, ready: Callable[[], None]) -> tuple[str, float]:
        began.append(server.environment.get("TORCHINDUCTOR_CACHE_DIR"))
        return "it died", 0.0

    monkeypatch.setattr("rlperc.train.supervise._serve_once", once)
    with pytest.raises(ServerDied):
        supervise(_server(["not started"], url, tmp_path), "ready", lambda text: None)
    assert began[0] is None
    assert len({*began}) == 4


def test_training_says_first_that_a_server_is_missing(url: str, tmp_path: Path, stand_in: Callable[..., list[str]]) -> None:
    on_server = Rollout(engine="vllm", mode="server", url=url, wait_s=20)
    assert len(unanswered([on_server, on_server, Rollout()])) == 1
    assert f"no vLLM server answers at {url} yet" in unanswered([on_server])[0]
    with _serving(tmp_path, url, stand_in("engine")) as process:
        process.stdout.readline()
        assert unanswered([on_server]) == []
        process.terminate()


def test_a_killed_server_comes_back_and_sigterm_ends_it(tmp_path: Path, url: str, stand_in: Callable[..., list[str]]) -> None:
    with _serving(tmp_path, url, stand_in("engine")) as process:
        train = process.stdout.readline()
        assert f"serving it at {url}; now: rlperc train {QUICKSTART}" in train
        servers = _left(tmp_path)
        assert len(servers) == 3  # the leash, the server and its engine
        os.kill(servers[1], signal.SIGKILL)
        words = [process.stdout.readline()]
        while not words[-1].startswith("serving"):
            words.append(process.stdout.readline())
        assert words[0].startswith("the server died: it was killed")
        assert not set(servers) & set(_left(tmp_path))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
    assert _left(tmp_path) == []


def test_ctrl_c_ends_it(tmp_path: Path, url: str, stand_in: Callable[..., list[str]]) -> None:
    with _serving(tmp_path, url, stand_in()) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert _left(tmp_path) == []


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path, url: str, stand_in: Callable[..., list[str]]) -> None:
    with _serving(tmp_path, url, stand_in("engine")) as process:
        process.stdout.readline()
        assert len(_left(tmp_path)) == 3
        process.kill()
        until = time.monotonic() + 10
        while _left(tmp_path) and time.monotonic() < until:
            time.sleep(0.05)
    assert _left(tmp_path) == []


def _recipe(url: str, *overrides: str) -> Recipe:
    return load_recipe(QUICKSTART, f"stages.reason.rollout={{engine: vllm, mode: server, url: '{url}'}}", *overrides)


def _server(command: list[str], url: str, folder: Path, wait_s: float = 20) -> Server:
    return Server(command, url, folder / "logs" / "serve.log", wait_s, {})


def _serving(folder: Path, url: str, command: list[str]) -> subprocess.Popen[str]:
    """`rlperc serve` in a process of its own, past the line that says where its log is."""
    rollout = f"stages.reason.rollout={{engine: vllm, mode: server, url: '{url}'}}"
    arguments = [str(QUICKSTART), f"output={folder.with_name('run')}", rollout]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, " ".join(command), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # a killed one leaves its folder
    )
    assert "its log" in process.stdout.readline()
    return process


def _left(folder: Path) -> list[int]:
    """Processes that have the stand-in in their command line, `rlperc serve` itself left out, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if str(folder / "stand_in.py") in words:
            found.append(int(entry.name))
    return sorted(found)
