"""Which versions are installed, and whether rlperc supports them together."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys

from packaging.requirements import Requirement
from packaging.version import Version

from rlperc.errors import MissingPackageError

DISTRIBUTION = "rlperc"


def requirements(extra: str) -> list[Requirement]:
    """What rlperc's own metadata asks for under an extra; the one place that ranges are written in."""
    declared = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    return [r for r in declared if r.marker is None or r.marker.evaluate({"extra": extra})]


def check_versions(*extras: str) -> None:
    """Raises MissingPackageError where a package of the extras is missing or outside its range."""
    for extra in extras:
        _check_extra(extra)
    _check_torchvision()


def _check_extra(extra: str) -> None:
    install = f'pip install "{DISTRIBUTION}[{extra}]"'
    asked = {"train": "training", "vllm": "vLLM's rollouts", "deepspeed": "DeepSpeed"}[extra]
    for requirement in requirements(extra):
        if requirement.name == DISTRIBUTION:
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            raise MissingPackageError(asked, f"{requirement.name} is not installed", install) from None
        if not requirement.specifier.contains(found, prereleases=True):
            raise MissingPackageError(
                f"{asked} with {requirement.name} {found}",
                f"rlperc supports {requirement.name}{requirement.specifier}",
                f'{install}, or pip install "{requirement.name}{requirement.specifier}"',
            )
    if extra == "vllm":
        _check_what_vllm_wants()


def _check_what_vllm_wants() -> None:
    """VLLM is built for one torch and few versions of transformers; pip leaves what is upgraded afterwards unsaid."""
    declared = [Requirement(text) for text in importlib.metadata.requires("vllm") or []]
    for requirement in (one for one in declared if one.name in ("torch", "transformers")):
        found = _version(requirement.name)
        meant = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if meant and not requirement.specifier.contains(found, prereleases=True):
            raise MissingPackageError(
                f"vLLM {_version('vllm')} with {requirement.name} {found}",
                f"it is built for {requirement.name}{requirement.specifier}",
                f'pip install "{requirement.name}{requirement.specifier}"; docker/vllm.txt has a whole set that works',
            )


def _check_torchvision() -> None:
    """Before 5.18, transformers' Pillow image processors refuse to load without torchvision."""
    if Version(importlib.metadata.version("transformers")) < Version("5.18") and importlib.util.find_spec("torchvision") is None:
        raise MissingPackageError(
            "training with transformers below 5.18",
            "its image processors need torchvision there",
            'pip install "transformers>=5.18"',
        )


def environment() -> list[tuple[str, str, str]]:
    """Name, installed version and supported range of everything rlperc builds on."""
    rows = [
        ("python", sys.version.split()[0], importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]),
        ("platform", platform.platform(), ""),
        (DISTRIBUTION, importlib.metadata.version(DISTRIBUTION), ""),
    ]
    seen = set()
    for extra in ("train", "vllm", "deepspeed"):
        for requirement in requirements(extra):
            if requirement.name != DISTRIBUTION and requirement.name not in seen:
                seen.add(requirement.name)
                rows.append((requirement.name, _version(requirement.name), str(requirement.specifier)))
    return rows


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
