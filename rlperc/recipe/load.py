"""Reading a recipe: YAML, then `a.b=c` overrides, then defaults, then the schema. Every fault is a RecipeError."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path, PurePath
from typing import Any

import yaml
from pydantic import ValidationError

from rlperc.errors import RecipeError, did_you_mean
from rlperc.recipe.faults import explain
from rlperc.recipe.names import item_name
from rlperc.recipe.rollout import SERVERS
from rlperc.recipe.schema import SOURCES, Recipe
from rlperc.recipe.tiny import make_tiny
from rlperc.reward.plugins import bundled, split_path

DEFAULTS_FOR_STAGES = ("model", "data", "rewards", "blend", "rollout", "train")
# What stands under these is the data's, a reward's or the host's: no path of ours.
OPAQUE = frozenset({"columns", "with", "train", "vllm", "processor"})


class _Loader(yaml.SafeLoader):
    """A safe loader, in which `1e-4` is a number (YAML 1.1 wants `1.0e-4`) and a key that stands twice is an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    merge = "tag:yaml.org,2002:merge"  # `<<: *anchor` may stand several times
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def recipes() -> dict[str, Path]:
    """The recipes that ship with rlperc: name to file."""
    return {file.stem: file for file in sorted(bundled("recipes").glob("*.yaml"))}


def load_recipe(path: str | Path, *overrides: str, base: Path | None = None) -> Recipe:
    """Read a recipe and resolve it.

    Args:
        path: a YAML file, or the path of a bundled one such as `recipes/quickstart.yaml`.
        overrides: `a.b=c`; items of a list are addressed by name, as in `stages.reason.train.max_steps=20`.
        base: the folder that relative paths in overrides count from. Default: where the shell stands.

    Raises:
        RecipeError: it is not there, is not YAML, or says something that no recipe can say.
    """
    file = _find(path)
    return _validate(_resolved(file, overrides, base), file)


def load_tiny(path: str | Path, *overrides: str, base: Path | None = None) -> tuple[Recipe, str]:
    """Read a recipe and make it tiny, for a try of a minute. Args as in `load_recipe`.

    Returns:
        The recipe, and a line of what was changed.

    Raises:
        RecipeError: as `load_recipe`; or no tiny model of the recipe's architecture can be built.
    """
    file = _find(path)
    resolved = _resolved(file, overrides, base)
    # Whatever an override comes to lie under in the resolved recipe is the user's.
    paths = [override.partition("=")[0] for override in overrides]
    outer = [path for path in paths if not any(path.startswith(f"{other}.") for other in paths)]
    marked = _resolved(file, [f"{path}={_GIVEN}" for path in outer], base)
    changed = make_tiny(resolved, lambda *keys: _is_given(marked, keys))
    return _validate(resolved, file), changed


def _resolved(file: Path, overrides: Iterable[str], base: Path | None) -> dict[str, Any]:
    raw = read_yaml(file, f"the recipe {file}", "model:, data:, rewards:, stages:")
    for override in overrides:
        _override(raw, override, base or Path.cwd())
    raw.setdefault("name", file.stem)
    raw.setdefault("output", f"runs/{raw['name']}")
    return _resolve(raw, file.parent)


_GIVEN = "given by an override"


def _is_given(node: Any, keys: tuple[str, ...]) -> bool:
    """Whether a mark stands on the way to what the keys address, or there."""
    for key in keys:
        if isinstance(node, list):
            node = next((item for item in node if item_name(item) == key), None)
        elif isinstance(node, dict):
            node = node.get(key)
    return bool(node == _GIVEN)


def _find(path: str | Path) -> Path:
    file = Path(path)
    if file.is_file():
        return file.resolve()
    shipped = recipes().get(file.stem)
    if shipped is not None and file.parent in (Path("recipes"), Path(".")):
        return shipped
    raise RecipeError(f"the recipe {path}", "there is no such file", f"a YAML file; shipped: {', '.join(recipes())}")


def read_yaml(file: Path, asked: str, keys: str) -> dict[str, Any]:
    """What a file says under its keys. Raises RecipeError, about what was `asked`, with the `keys` that belong there."""
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        why = f"it is not YAML: {' '.join(str(error).split())}"
        raise RecipeError(asked, why, "`key: value`, a space after the colon") from None
    if not isinstance(raw, dict):
        raise RecipeError(asked, "it holds no keys", keys)
    return raw


def _override(raw: dict[str, Any], text: str, base: Path) -> None:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise RecipeError(f"the override '{text}'", "it has no `=`", "a.b=c, as in stages.reason.train.max_steps=20")
    *parents, last = path.split(".")
    node: Any = raw
    for index, key in enumerate(parents):
        node = _step(node, key, text, ".".join(parents[:index]))
    given = {last: read_value(value, f"the override '{text}'")}
    if isinstance(node, list):
        where = ".".join(parents)
        # An empty value is somebody's unset variable; and of what was taken out nothing is left to mark.
        if value.strip() not in ("null", "~", _GIVEN):
            instead = f"{path}.KEY={value}, or {path}=null to take it out"
            raise RecipeError(f"the override '{text}'", f"'{where}' is a list", instead)
        node.remove(_step(node, last, text, where))
        return
    if not OPAQUE & set(parents):
        _absolute(given, base)
    node[last] = given[last]


def read_knobs(words: Iterable[str]) -> dict[str, Any]:
    """A world's knobs from the shell, `grid=3`, values as a recipe would write them. Raises RecipeError."""
    found = {}
    for word in words:
        knob, equals, value = word.partition("=")
        if not equals or not knob:
            raise RecipeError(f"the knob '{word}'", "it has no name and value", "KNOB=VALUE, as in grid=3")
        found[knob] = read_value(value, f"the knob '{word}'")
    return found


def read_value(text: str, asked: str) -> Any:
    """A value from the shell, as a recipe would write it. Raises RecipeError, about what was `asked`, for what is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError:
        raise RecipeError(asked, "its value is not YAML", "quote it for the shell") from None


def _step(node: Any, key: str, text: str, where: str) -> Any:
    if isinstance(node, list):
        named = {item_name(item): item for item in node}
        if key not in named:
            raise RecipeError(f"the override '{text}'", f"'{where}' has no item '{key}'", did_you_mean(key, named))
        return named[key]
    child = node.setdefault(key, {})
    if child is None:
        child = node[key] = {}
    if not isinstance(child, dict | list):
        raise RecipeError(f"the override '{text}'", f"'{key}' is the value {child!r}", "the path of a value to replace")
    return child


def _resolve(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """Give every stage and measurement its whole `model`, `data` and `rewards`, with absolute paths."""
    if {"cases", "runs"} <= set(raw):
        raise RecipeError("a recipe", "this is a study, which has cases and runs", "rlperc study FILE, or one of its recipes")
    for key in raw:
        if key not in Recipe.model_fields and key not in DEFAULTS_FOR_STAGES:
            known = [*Recipe.model_fields, *DEFAULTS_FOR_STAGES]
            raise RecipeError(f"the key '{key}'", "a recipe has none of that name", did_you_mean(str(key), known))
    shared = {key: raw.pop(key) for key in DEFAULTS_FOR_STAGES if key in raw}
    stages = raw.get("stages")
    if isinstance(stages, list):
        raw["stages"] = [{**stage, **_inherit(stage, shared)} if isinstance(stage, dict) else stage for stage in stages]
    if isinstance(raw.get("evaluate"), dict):
        raw["evaluate"] = _resolve_evaluate(raw["evaluate"], shared.get("data"))
    _absolute(raw, base)
    return raw


def _inherit(stage: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    whole = {}
    for key in DEFAULTS_FOR_STAGES:
        lay = _rollout if key == "rollout" else _over
        value = lay(shared.get(key), stage.get(key))
        if value is not None:
            whole[key] = value
    return whole


def _resolve_evaluate(evaluate: dict[str, Any], shared: Any) -> dict[str, Any]:
    data = _over(shared, evaluate.get("data"))
    curve = evaluate.get("curve")
    if isinstance(curve, dict):
        curve = {**curve, "data": _over(data, curve.get("data"))}
    return {**evaluate, "data": data, "curve": curve}


def _over(shared: Any, own: Any) -> Any:
    """`own` over `shared`, key by key; but rows from another source, or another blend, share nothing with the recipe's."""
    if not isinstance(shared, dict) or not isinstance(own, dict):
        return shared if own is None else own
    schedule = not all(isinstance(key, str) for key in own)
    other_blend = own.get("mode", shared.get("mode")) != shared.get("mode", "sum" if "mode" in own else None)
    if schedule or other_blend or any(key in own and own[key] != shared.get(key) for key in (*SOURCES, "name", "tiny")):
        return own
    return _laid(shared, own)


def _rollout(shared: Any, own: Any) -> Any:
    """`own` over `shared`, without what another engine or mode of its own would leave idle."""
    if isinstance(shared, dict) and isinstance(own, dict):
        if own.get("engine") == "transformers":
            return own
        if own.get("mode") == "colocate":
            shared = {key: value for key, value in shared.items() if key not in SERVERS}
    return _laid(shared, own)


def _laid(shared: Any, own: Any) -> Any:
    """`own` over `shared`, key by key."""
    if not isinstance(shared, dict) or not isinstance(own, dict):
        return shared if own is None else own
    return {**shared, **{key: None if value is None else _over(shared.get(key), value) for key, value in own.items()}}


def _absolute(node: Any, base: Path) -> None:
    """Make relative paths count from the recipe, wherever the run is started."""
    if isinstance(node, list):
        for item in node:
            _absolute(item, base)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in OPAQUE:
            continue
        if isinstance(value, dict | list):
            _absolute(value, base)
        elif not isinstance(value, str):
            continue
        elif key in ("file", "folder", "images") or (key in ("name", "distributed") and value.startswith((".", "~"))):
            node[key] = str((base / Path(value).expanduser()).resolve())
        elif key in ("use", "answer", "perception"):
            path, function = split_path(value, base)
            if path is not None:
                node[key] = f"{path}:{function}" if function else str(path)


def _validate(raw: dict[str, Any], file: Path) -> Recipe:
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise explain(error, raw, file) from None


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load_recipe` reads back to the same recipe."""
    data = recipe.model_dump(by_alias=True, exclude_none=True)
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """YAML that writes paths as text."""


_Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))
