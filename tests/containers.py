"""Carrying out the CPU image's Dockerfile in a folder, and commands that stand in for those of a cluster."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from launch import ROOT, SHORT, Begun

DOCKER = ROOT / "docker"
STOPPED = 143
AS_ROOT = ("apt-get ", "groupadd ")
# What of this machine is no container's: another launcher's variables, and where Python finds more than what is installed.
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("PET_", "SLURM_", "PYTHONPATH"))}
LONGER = (*SHORT, "stages.reason.train.max_steps=40", "evaluate.curve.every=40")


class Image:
    """A Dockerfile carried out in a folder: every absolute path that the image has lies below it."""

    def __init__(self, root: Path, **arguments: str) -> None:
        self.root, self.arguments, self.skipped = root, arguments, []
        home = str(Path(sys.executable).parent)
        self.environment = {**PLAIN, "PATH": f"{home}:{os.defpath}", "HOME": str(root)}

    def here(self, text: str) -> str:
        return re.sub(r"(?<![\w.])/(?=opt/rlperc|workspace)", f"{self.root}/", text)

    def build(self, file: Path) -> None:
        text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
        stages = [part.splitlines() for part in re.split(r"^FROM ", text, flags=re.MULTILINE)]
        self.carry_out(stages[0])
        named = {lines[0].split(" AS ")[1]: lines[1:] for lines in stages[1:] if " AS " in lines[0]}
        assert stages[-1][0] == "${DEVICE}"
        self.carry_out(named[self.arguments["DEVICE"]])
        self.carry_out(stages[-1][1:])

    def carry_out(self, lines: list[str]) -> None:
        for line in filter(str.strip, lines):
            instruction, _, rest = line.partition(" ")
            getattr(self, f"do_{instruction.lower()}")(rest.strip())

    def do_arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.environment[name] = self.arguments.setdefault(name, value)

    def do_env(self, rest: str) -> None:
        for name, _, value in (one.partition("=") for one in shlex.split(self.here(rest))):
            self.environment[name] = value.replace("$PATH", self.environment["PATH"])

    def do_copy(self, rest: str) -> None:
        *sources, to = rest.split()
        target = Path(self.here(to))
        target.parent.mkdir(parents=True, exist_ok=True)
        if sources == ["."]:
            ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
            sources = [line[1:] for line in ignored if line.startswith("!")]
            target.mkdir()
        subprocess.run(["cp", "--recursive", *(ROOT / source for source in sources), target], check=True)

    def do_run(self, rest: str) -> None:
        if rest.startswith(AS_ROOT):
            self.skipped.append(rest.split()[0])
            (self.root / "workspace").mkdir(exist_ok=True)
            return
        done = subprocess.run(["sh", "-c", self.here(rest)], cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{rest}\n{done.stdout[-1000:]}{done.stderr[-3000:]}"

    def do_entrypoint(self, rest: str) -> None:
        self.entry = self.here(json.loads(rest)[-1])

    def do_user(self, rest: str) -> None:
        self.user = rest

    do_label = do_workdir = do_cmd = lambda self, rest: None

    def start(self, *words: object, **more: object) -> subprocess.Popen:
        """What a container's start comes to, but for tini."""
        return subprocess.Popen([self.entry, *map(str, words)], env={**self.environment, "OMP_NUM_THREADS": "1"}, **more)

    def run(self, *words: object, before: Path = Path()) -> tuple[int, str]:
        done = subprocess.run(
            [self.entry, *map(str, words)],
            cwd=self.root / "workspace",
            env={**self.environment, "OMP_NUM_THREADS": "1", "PATH": f"{before}:{self.environment['PATH']}"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr


def commands(folder: Path, **scripts: str) -> Path:
    """A folder of commands that stand in for others."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


class Trained(Begun):
    """A run that is looked at while it goes; `Begun` without its command."""

    def __init__(self, folder: Path, start: Callable[..., subprocess.Popen]) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        with self.log.open("w") as said:
            self.process = start(stdout=said, stderr=subprocess.STDOUT)
