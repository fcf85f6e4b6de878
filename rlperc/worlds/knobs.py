"""Refusing knobs that cannot be, in one form for all worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlperc.errors import RecipeError


def whole(name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no whole number from `low` to `high`. Raises RecipeError."""
    if type(value) is not int or not low <= value <= high:
        raise RecipeError(f"{name}: {value}", "it has to be a whole number within its range", f"{low} to {high}")


def number(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number from `low` to `high`. Raises RecipeError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RecipeError(f"{name}: {value}", "it has to be a number within its range", f"{low} to {high}")


def choice(name: str, value: Any, options: Sequence[Any]) -> None:
    """Refuse what is none of the options. Raises RecipeError."""
    if not any(type(value) is type(option) and value == option for option in options):
        raise RecipeError(f"{name}: {value}", "it is none of those there are", ", ".join(map(str, options)))


def confusion(name: str, value: Any, probability: Any, labels: Sequence[Any]) -> dict[Any, Any]:
    """What a teacher takes for what, `{6: 8}`, with keys as the labels are.

    Raises:
        RecipeError: it is no such mapping, or the probability is none, or it is not said (which 0 does), or it is of nothing.
    """
    if probability is not None:
        number(f"{name}_probability", probability, 0, 1)
    by_text = {str(label): label for label in labels}
    pairs = {} if value is None else value
    if not isinstance(pairs, Mapping) or not {str(end) for pair in pairs.items() for end in pair} <= set(by_text):
        shown = ", ".join(list(by_text)[:12])
        raise RecipeError(
            f"{name}: {value}", "it says what is taken for what", f"{{6: 8}}, with a blank, or other pairs of these: {shown}"
        )
    if (value and probability is None) or (probability and not value):
        lacking, there = (f"{name}_probability", name) if value else (name, f"{name}_probability")
        given, example = (value, 0.5) if value else (probability, "{6: 8}")
        raise RecipeError(f"{there}: {given}", f"nothing comes of it without {lacking}", f"{lacking}: {example}, or neither")
    return {by_text[str(shown)]: by_text[str(read)] for shown, read in pairs.items()}
