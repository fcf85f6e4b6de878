"""Finding rewards and loading them. The folder is the registry: one file, one reward, one name.

A reward is named `box_iou` (the collection, or an installed package's entry point in the group `rlperc.rewards`),
`./file.py` or `./file.py:function`, or `package.module:function`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from rlperc.errors import PluginError, did_you_mean
from rlperc.reward.adapters import adapt, is_reward_class
from rlperc.reward.contract import Reward, describe, is_marked

ENTRY_POINTS = "rlperc.rewards"
COMPUTE_SCORE = "compute_score"


def bundled(kind: str) -> Path:
    """The folder of the bundled `rewards` or `recipes`: inside the package when installed, else beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_bundled" / kind
    return inside if inside.is_dir() else package.parent / kind


def collection() -> dict[str, Path]:
    """The rewards that ship with rlperc: name to file."""
    return {file.stem: file for file in sorted(bundled("rewards").glob("[!_]*.py"))}


def find_reward(use: str, base: Path | None = None) -> Reward:
    """Find and load a reward.

    Args:
        use: as a recipe names it.
        base: the folder that relative paths count from; default the current one.

    Raises:
        PluginError: it is not there, does not load, or is not a reward.
    """
    path, function = split_path(use, base)
    if path is not None:
        return _from_file(path, function)
    if ":" in use:
        return _from_module(use)
    known = _named_rewards()
    if use not in known:
        why = "neither the collection nor an installed package has one of that name"
        raise PluginError(f"the reward '{use}'", why, _instead(use, known))
    if len(known[use]) > 1:
        several = f"there are several: {', '.join(known[use])}"
        raise PluginError(f"the reward '{use}'", several, "its file, or package.module:function")
    return find_reward(known[use][0])


def _named_rewards() -> dict[str, list[str]]:
    """Every name, with what stands behind it: files of the collection, functions that installed packages announce."""
    known = {name: [str(file)] for name, file in collection().items()}
    for name, value in _announced(tuple(sys.path)):
        known.setdefault(name, []).append(value)
    return known


@functools.cache
def _announced(searched: tuple[str, ...]) -> list[tuple[str, str]]:
    """What the packages installed there announce; a recipe asks dozens of times, and each reading takes 15 ms."""
    import importlib.metadata  # takes longer to import than a reward takes to load

    return [(entry.name, entry.value) for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)]


def split_path(use: str, base: Path | None) -> tuple[Path | None, str | None]:
    """Split `./file.py:function` into an absolute path and a function's name; (None, None) for other forms."""
    file, _, function = use.partition(".py:")
    if not function and not use.endswith(".py"):
        return None, None
    path = Path(file + ".py" if function else file).expanduser()
    return ((base or Path.cwd()) / path).resolve(), function or None


def _instead(use: str, known: Iterable[str]) -> str:
    return f"{did_you_mean(use, known)} A reward of your own is named by its path: ./{use}.py"


def _from_file(path: Path, name: str | None) -> Reward:
    if not path.is_file():
        raise PluginError(f"the reward file {path}", "there is no such file", "a path that counts from the recipe")
    module = _load_file(path)
    function = _named(module, name, str(path)) if name else _the_one_reward(module, path)
    described = describe(_adapted(function, str(path)), str(path), f"{path}:{name}" if name else str(path))
    # Their functions are all called `compute_score`.
    return replace(described, name=path.stem) if described.name == COMPUTE_SCORE else described


def _from_module(use: str) -> Reward:
    name, _, attribute = use.partition(":")
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the reward '{use}'", f"{name or 'nothing'} cannot be imported: {error}", "package.module:function, installed here"
        ) from error
    return describe(_adapted(_named(module, attribute, name), name), use, use)


def _adapted(thing: Callable[..., Any], origin: str) -> Callable[..., Any]:
    try:
        return adapt(thing)
    except Exception as error:
        raise PluginError(
            f"the reward in {origin}",
            f"it cannot be made: {blame(error, origin)}",
            "a function, or a class that needs no arguments",
        ) from error


@functools.cache
def _load_file(path: Path) -> ModuleType:
    """Execute a plugin file once, under a module name that no other file can have.

    The name comes from the whole path, because two plugins may be called alike and one may be called `math.py`;
    the module is registered before it runs, because dataclasses look their own module up while it does.
    """
    name = f"rlperc_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"the reward file {path}", "Python cannot load it", "a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(
            f"the reward file {path}",
            f"it does not load: {blame(error, path)}",
            "a file that loads by itself; what it shares with others belongs in an installed package",
        ) from error
    return module


def blame(error: BaseException, path: Path | str) -> str:
    """One line for an error in a user's file: its type, its message, and the line in `path` it came from."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"


def _named(module: ModuleType, name: str, origin: str) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        own = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
        functions = [f.__name__ for f in own if not f.__name__.startswith("_")]
        raise PluginError(f"the reward '{name}' in {origin}", "no function there has that name", did_you_mean(name, functions))
    return function


def _is_function(thing: Any) -> bool:
    return inspect.isfunction(thing) or is_reward_class(thing)


def _the_one_reward(module: ModuleType, path: Path) -> Callable[..., Any]:
    """The file's only reward: the one marked with @reward, or else its only public function (TRL's style)."""
    own = [f for f in vars(module).values() if getattr(f, "__module__", "") == module.__name__ and _is_function(f)]
    marked = [f for f in own if is_marked(f)]
    candidates: list[Callable[..., Any]] = marked or [f for f in own if not f.__name__.startswith("_")]
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(f.__name__ for f in candidates)
    raise PluginError(
        f"the reward file {path}",
        f"it holds {len(candidates)} rewards ({names})" if candidates else "it holds no reward",
        f"{path.name}:{candidates[0].__name__}" if candidates else "a function with `@reward()` above it",
    )
