import importlib.metadata

import pytest

from rlperc.cli import main
from rlperc.errors import MissingPackageError
from rlperc.recipe.environment import check_versions

INSTALLED = importlib.metadata.version


def pretend(monkeypatch: pytest.MonkeyPatch, package: str, version: str | None) -> None:
    def find(name: str) -> str:
        if name == package and version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version if name == package and version else INSTALLED(name)

    monkeypatch.setattr(importlib.metadata, "version", find)


def test_the_tested_set_is_supported() -> None:
    check_versions("train")


@pytest.mark.parametrize(
    ("package", "version", "said"),
    [
        ("trl", "1.17.0", r"training with trl 1.17.0[\s\S]*rlperc supports trl==1.16"),
        ("torch", "2.15.0", "rlperc supports torch"),
        ("trl", None, "trl is not installed"),
        ("transformers", "5.17.0", "it needs torchvision|its image processors need torchvision"),
    ],
)
def test_what_is_not(monkeypatch: pytest.MonkeyPatch, package: str, version: str | None, said: str) -> None:
    pretend(monkeypatch, package, version)
    with pytest.raises(MissingPackageError, match=said):
        check_versions("train")


def test_env_names_what_is_there_and_what_is_supported(capsys: pytest.CaptureFixture) -> None:
    assert main(["env"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "==1.16" in lines["trl"]
    assert INSTALLED("trl") in lines["trl"]
    assert {"python", "rlperc", "torch", "vllm", "deepspeed", "devices"} <= set(lines)
