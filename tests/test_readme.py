"""Every block of the README, run in order in a copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from launch import ROOT, SHORT

from rlperc.recipe.credit import RewardUse
from rlperc.recipe.rollout import Rollout
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import check_settings

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COPIED = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "docker", "recipes", "rewards", "rlperc")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository whose `.venv` is the environment that the tests run in."""
    folder = tmp_path_factory.mktemp("readme")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".venv" / "ready").touch()
    return folder


def shortened(command: str) -> str:
    """The same command, made to end soon: fewer steps, nothing installed, no tests inside the tests."""
    if "rollout.engine=vllm" in command:  # tests/on_vllm runs it
        return re.sub(r"rlperc \w+", "rlperc check", command)
    if command == "make quickstart":
        return f'{command} ARGS="{" ".join(SHORT)}"'
    if "recipes/quickstart.yaml" in command:
        return f"{command} {' '.join(SHORT)}"
    if command.startswith("rlperc study"):
        return f"{command} --check"
    if command == "make test":
        return "make --dry-run test"
    if command.startswith("pip install"):
        return command.replace("pip install", "pip install --dry-run --no-deps --no-build-isolation", 1)
    return command


def test_blocks(workplace: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for language, text in BLOCKS:
        if language == "text":  # what a command says
            continue
        named = re.match(r"# ([\w./]+\.(?:py|yaml))\n", text)
        if named:
            (workplace / named[1]).write_text(text)
            commands = []
        elif language == "yaml":
            commands = []
            lines = yaml.safe_load(text)
            Rollout.model_validate(lines.get("rollout", {}))
            for use in lines.get("rewards", []):
                loaded = RewardUse.model_validate(use)
                check_settings(find_reward(loaded.use, workplace), loaded.with_)
        elif language == "python":
            commands = [f"{shlex.quote(sys.executable)} -c {shlex.quote(text)}"]
        else:
            assert language == "console", text
            assert all(line.startswith("$ ") for line in text.splitlines()), text
            commands = [shortened(line.removeprefix("$ ")) for line in text.splitlines()]
        for command in commands:
            done = subprocess.run(command, shell=True, cwd=workplace, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    assert (workplace / "runs" / "quickstart" / "report.html").is_file()
    assert (workplace / "runs" / "two" / "model" / "README.md").is_file()
    assert (workplace / "scores.jsonl").read_text().count("\n") == 2


def test_the_first_command_comes_early() -> None:
    assert README.splitlines().index("$ make quickstart") < 20


def test_a_second_quickstart_moves_the_first_aside(workplace: Path) -> None:
    first = workplace / "runs" / "quickstart" / "summary.json"
    kept = first.read_bytes()
    command = ["make", "quickstart", f"ARGS={' '.join(SHORT)}"]
    subprocess.run(command, cwd=workplace, check=True, capture_output=True)
    assert (workplace / "runs" / "quickstart.1" / "summary.json").read_bytes() == kept
    assert first.read_bytes() != kept
