"""What is shown instead of a row's image, to see what a model gets without it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from rlperc.recipe.schema import Blind
from rlperc.reward.perturb import change_all, mask_image


def shown(kind: Blind, images: Sequence[list[Any]], others: Sequence[list[Any]]) -> list[list[Any]]:
    """The images of each row of a batch.

    Args:
        kind: `none` shows no image, `blank` a grey one of the same size, `other` another row's.
        images: each row's own.
        others: other rows', for `other`.
    """
    if kind == "none":
        return [[] for _ in images]
    if kind == "other":
        return [list(seen) for seen in others]
    return change_all([list(seen) for seen in images], functools.partial(mask_image, kind="blank"))


def without_pictures(prompt: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A conversation without the places that its images had."""
    return [
        message
        if isinstance(message["content"], str)
        else {**message, "content": [part for part in message["content"] if part.get("type") != "image"]}
        for message in prompt
    ]
