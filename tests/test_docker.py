"""The images, and what schedulers are given: by the linters and schemas of their makers, and run as far as a plain machine can.

The instructions of the CPU image are carried out in a folder, once; what needs root is left out, and is named below.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from containers import DOCKER, LONGER, PLAIN, STOPPED, Image, Trained, commands
from launch import ROOT
from packaging.requirements import Requirement

SCRIPTS = sorted([DOCKER / "entrypoint.sh", *(DOCKER / "slurm").glob("*.sbatch")])
MANIFESTS = sorted((DOCKER / "k8s").glob("*.yaml"))


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(Path(sys.executable).with_name(name)), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


# What is written.


@pytest.mark.parametrize(("name", "files"), [("hadolint", [DOCKER / "Dockerfile"]), ("shellcheck", SCRIPTS)])
def test_linters_find_nothing(name: str, files: list[Path]) -> None:
    done = tool(name, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_keeps_to_its_schema_and_gives_both_the_same() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")
    assert done.returncode == 0, done.stdout
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    (_, *asked), (_, *trained) = services["server"]["command"], services["trainer"]["command"]
    assert [*asked, "--resume"] == trained
    (url,) = (word.removeprefix("rollout.url=") for word in asked if word.startswith("rollout.url="))
    assert url == "http://server:8000"
    assert f"'{url}/health'" in services["server"]["healthcheck"]["test"][-1]
    devices = [one["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for one in services.values()]
    assert not set(devices[0]) & set(devices[1])


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_kubernetes_takes_the_manifests(file: Path) -> None:
    for one in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_time_to_save_is_left_wherever_a_run_is_told_to_end() -> None:
    seconds = int(re.search(r'"PET_SHUTDOWN_TIMEOUT": "(\d+)"', (DOCKER / "launch.py").read_text())[1])
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["trainer"]["stop_grace_period"]
    pods = [one["spec"]["template"]["spec"] for one in jobs()]
    slurm = [int(re.search(r"--signal=B:USR1@(\d+)", file.read_text())[1]) for file in (DOCKER / "slurm").iterdir()]
    left = [60 * int(compose.removesuffix("m")), *(pod["terminationGracePeriodSeconds"] for pod in pods), *slurm]
    assert len(left) == 5
    assert min(left) > seconds


def jobs() -> list[dict]:
    manifests = [one for file in MANIFESTS for one in yaml.safe_load_all(file.read_text())]
    return [one for one in manifests if one["kind"] == "Job"]


def test_a_wrong_input_is_not_tried_again_and_a_preempted_run_is() -> None:
    for one in jobs():
        actions = {}
        for rule in one["spec"]["podFailurePolicy"]["rules"]:
            actions |= {code: rule["action"] for code in rule.get("onExitCodes", {}).get("values", [])}
            actions |= {condition["type"]: rule["action"] for condition in rule.get("onPodConditions", [])}
        assert actions.pop(STOPPED, "Ignore") == "Ignore"
        assert actions == {2: "FailJob", "DisruptionTarget": "Ignore"}
        assert "--resume" in one["spec"]["template"]["spec"]["containers"][0]["args"]


def test_versions_agree_wherever_they_are_named() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    gpu = dict(line.split("==") for line in (DOCKER / "vllm.txt").read_text().splitlines() if "==" in line)
    assert re.findall(r"torch (\d\S+) on PyPI", dockerfile) == [gpu["torch"]]  # another torch may be built for another CUDA
    for python in (re.search(r"FROM python:(\S+?)-slim", dockerfile)[1], "3.12"):  # 3.12 is Ubuntu 24.04's
        assert Requirement(f"python{project['requires-python']}").specifier.contains(python)
    files = [DOCKER / "Dockerfile", DOCKER / "compose.yaml", DOCKER / "README.md", *MANIFESTS]
    tags = [tag for file in files for tag in re.findall(r"rlperc:(\d[\w.]*)", file.read_text())]
    assert len(tags) >= len(files)
    assert set(tags) == {project["version"]}


# The image.


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The CPU image in a folder; one installation of everything. Its torch comes from where this machine's pip finds one."""
    made = Image(tmp_path_factory.mktemp("image"), DEVICE="cpu", TORCH_INDEX="https://pypi.org/simple")
    made.build(DOCKER / "Dockerfile")
    return made


def test_the_image_holds_the_tested_set_and_a_list_of_it(image: Image) -> None:
    assert image.skipped == ["apt-get", "groupadd"]
    assert image.user == "$UID:$GID"
    assert image.arguments["UID"] == "1000"
    assert not (image.root / "opt/rlperc/source").exists()
    listed = {line.partition("+")[0].lower().replace("_", "-") for line in (image.root / "opt/rlperc/versions.txt").open()}
    pins = {line.lower().replace("_", "-") for line in (DOCKER / "cpu.txt").read_text().splitlines() if "==" in line}
    assert {pin.strip() for pin in pins} <= {line.strip() for line in listed}
    code, said = image.run("env")
    assert code == 0
    assert re.search(rf"^torch +{re.escape(version('torch').partition('+')[0])}", said, flags=re.MULTILINE)


def test_a_wrong_recipe_ends_before_any_process_starts(image: Image, tmp_path: Path) -> None:
    bin = commands(tmp_path / "bin", python=f"touch {tmp_path}/started")  # what would become torchrun
    code, said = image.run("train", "quickstart", "stages.reason.train.learning_rat=1", "--resume", before=bin)
    assert code == 2
    assert said.count("learning_rat") >= 1
    assert not (tmp_path / "started").exists()
    assert image.run("train", "quickstart", f"output={tmp_path}/run", before=bin)[0] == 0
    assert (tmp_path / "started").exists()


def test_check_gets_the_recipe_and_train_everything(tmp_path: Path) -> None:
    said = f'echo "$(basename "$0") $*" >> {tmp_path}/said'
    bin = commands(tmp_path / "bin", rlperc=said, python=said)

    def runs(*words: str) -> list[str]:
        (tmp_path / "said").unlink(missing_ok=True)
        subprocess.run([DOCKER / "entrypoint.sh", *words], env={**PLAIN, "PATH": f"{bin}:{os.defpath}"}, check=True)
        return (tmp_path / "said").read_text().splitlines()

    launch = f"python {DOCKER}/launch.py -m rlperc"
    assert runs("train", "r.yaml", "a.b=1", "--resume", "c=x y") == [
        "rlperc check --here r.yaml a.b=1 c=x y",
        f"{launch} train r.yaml a.b=1 --resume c=x y",
    ]
    assert runs("train", "--move-aside", "r.yaml")[0] == "rlperc check --here r.yaml"
    assert runs("train", "--help") == ["rlperc train --help"]
    assert runs("serve", "r.yaml", "a=b") == ["rlperc serve r.yaml a=b"]


def test_two_processes_save_at_sigterm_and_go_on(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(image.environment, "PET_NPROC_PER_NODE", "2")
    words = ["train", "quickstart", f"output={tmp_path}/run", *LONGER]
    run = Trained(tmp_path / "run", lambda **more: image.start(*words, cwd=tmp_path, **more))
    run.until("reason", 2)
    run.process.send_signal(signal.SIGTERM)
    code, said = run.end()
    assert code == STOPPED, said[-3000:]
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "terminated"
    (place,) = (tmp_path / "run/stages/reason").glob("checkpoint-*")
    assert 2 <= int(place.name.removeprefix("checkpoint-")) < 40
    code, said = image.run(*words, "--resume")
    assert code == 0, said[-3000:]
    assert (tmp_path / "run/model/config.json").exists()
    assert image.run(*words)[0] == 2  # a run is there: found by the processes that torchrun starts, and not before
