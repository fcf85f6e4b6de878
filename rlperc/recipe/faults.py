"""What pydantic finds wrong with a recipe, in the words of the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from rlperc.errors import RecipeError, did_you_mean
from rlperc.recipe.credit import MODES
from rlperc.recipe.names import item_name
from rlperc.recipe.reweight import Dynamic, Fixed
from rlperc.recipe.schema import Recipe
from rlperc.words.response import Tags

KINDS: dict[str, type[BaseModel]] = {**MODES, "fixed": Fixed, "dynamic": Dynamic}


def explain(
    error: ValidationError, raw: Any, file: Path, schema: type[BaseModel] = Recipe, kinds: Mapping[str, type[BaseModel]] = KINDS
) -> RecipeError:
    """The first fault, with the key that the user wrote and what may stand there.

    Args:
        error: what the schema found.
        raw: what the user wrote.
        file: where.
        schema: what was held against it.
        kinds: the parts that one of its fields chooses between, by the word that chooses.
    """
    first = error.errors()[0]
    where, whole = _address(first["loc"], raw, kinds), f"the {schema.__name__.lower()} {file}"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *parents, key = where.split(".")
        asked = f"the key '{key}' in '{'.'.join(parents)}'" if parents else f"the key '{key}'"
        return RecipeError(
            asked, "there is none of that name there", did_you_mean(key, _known_keys(first["loc"], raw, schema, kinds))
        )
    if first["type"] == "missing":
        return RecipeError(whole, f"'{where}' is missing", f"{where}: …")
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _no_such_kind(where, first["ctx"])
    given = first.get("input")
    shown = f"'{where}: {given}'" if isinstance(given, str | int | float | bool | None) else f"'{where}'"
    shown = shown if where else whole
    mended = "rlperc check RECIPE" if schema is Recipe else f"rlperc {schema.__name__.lower()} FILE --check"
    return RecipeError(shown, first["msg"].removeprefix("Value error, "), _expected(first, mended))


def _no_such_kind(where: str, context: Mapping[str, str]) -> RecipeError:
    """A part of several kinds, whose key that chooses one is missing or names none."""
    key = ".".join([where, context["discriminator"].strip("'")])
    if "tag" not in context:
        return RecipeError(f"'{where}'", f"'{key}' is missing", f"{key}: …")
    known = context["expected_tags"].replace("'", "").split(", ")
    return RecipeError(f"'{key}: {context['tag']}'", "there is none of that name", did_you_mean(context["tag"], known))


EXAMPLES = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "one number; this one takes no schedule"),
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list: [a, b]",
    **dict.fromkeys(("dict_type", "model_type"), "keys and values: {key: value}"),
    "string_pattern_mismatch": "letters, digits, - and _",
}


def _expected(fault: Any, check: str) -> str:
    context = fault.get("ctx") or {}
    if fault["type"] in EXAMPLES:
        return EXAMPLES[fault["type"]]
    if "expected" in context:
        return str(context["expected"])
    limits = [
        f"{word} {context[key]}"
        for key, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
        if key in context
    ]
    return "a value of " + " and ".join(limits) if limits else f"{check} says whether it is mended"


def _address(location: Iterable[int | str], raw: Any, kinds: Mapping[str, Any]) -> str:
    """`('stages', 2, 'train')` as a user writes it: `stages.reason.train`."""
    words: list[str] = []
    node = raw
    for key in location:
        if key in kinds and isinstance(node, dict) and key not in node:
            continue  # not the user's word, but the schema's, for which kind was chosen
        known = _stands(node, key)
        node = node[key] if known else None
        called = _called(node) if isinstance(key, int) else None
        words.append(called or str(key))
    return ".".join(words)


def _called(item: Any) -> str | None:
    """What an item of a list is called by whoever wrote it: a stage, a reward, a study's claim."""
    if not isinstance(item, dict):
        return None
    return item_name(item) if "name" in item or "use" in item else item.get("says")


def _stands(node: Any, key: int | str) -> bool:
    """Whether a key of a location is in what the user wrote, and not the schema's own word."""
    return (isinstance(node, dict) and key in node) or (isinstance(node, list) and isinstance(key, int))


def _known_keys(
    location: tuple[int | str, ...], raw: Any, schema: type[BaseModel], kinds: Mapping[str, type[BaseModel]]
) -> list[str]:
    """The keys that the schema knows where a location's last key was found."""
    if location[0] == "tags" and schema is Recipe:
        return [field.name for field in fields(Tags)]
    model, node = schema, raw
    for key in location[:-1]:
        known = _stands(node, key)
        node = node[key] if known else node
        if key in kinds and not known:
            model = kinds[str(key)]
        elif isinstance(key, str) and key in model.model_fields:
            inner = _inner_model(model.model_fields[key].annotation)
            model = inner or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _inner_model(part))), None)
