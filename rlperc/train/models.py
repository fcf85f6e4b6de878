"""Loading the model and its processor, freezing parts of it, and saving both together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from rlperc.errors import RecipeError, did_you_mean
from rlperc.recipe.names import PARTS, part_of
from rlperc.recipe.schema import Model


def load_model(source: str | Path, settings: Model) -> tuple[Any, Any]:
    """Load a model and its processor from a folder or the hub.

    Raises:
        RecipeError: there is no such model, or it is not one that takes images and text.
    """
    dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    processor = load_processor(source, settings)
    with _found(source):
        model = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, attn_implementation=settings.attn_implementation, **_shared(source, settings)
        )
    freeze(model, settings.freeze)
    return model, processor


def load_processor(source: str | Path, settings: Model) -> Any:
    """A model's processor, told what the recipe tells it. Raises RecipeError."""
    with _found(source):
        processor = AutoProcessor.from_pretrained(source, **_shared(source, settings), **settings.processor)
    _check_told(processor, settings.processor)
    return processor


def load_config(source: str | Path, settings: Model) -> Any:
    """A model's config. Raises RecipeError."""
    with _found(source):
        return AutoConfig.from_pretrained(source, **_shared(source, settings))


def _shared(source: str | Path, settings: Model) -> dict[str, Any]:
    revision = {"revision": settings.revision} if settings.revision is not None and str(source) == settings.name else {}
    return {"trust_remote_code": settings.trust_remote_code, **revision}


@contextmanager
def _found(source: str | Path) -> Iterator[None]:
    # `runs/nothing` could be a hub's name, and the hub would be asked for minutes where there is no network.
    above = Path(source).parent
    if above != Path() and above.is_dir() and not Path(source).exists():
        raise RecipeError(f"the model '{source}'", f"there is no such folder in {above}", "a hub name, or a model's folder")
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise RecipeError(
            f"the model '{source}'",
            " ".join(str(error).split())[:600],
            "a vision-language model's hub name, or a folder that holds one and its processor",
        ) from error


def _check_told(processor: Any, told: dict[str, Any]) -> None:
    """Transformers takes options that a processor does not have, and says nothing."""
    known = processor.image_processor.valid_kwargs.__annotations__
    for option in told:
        if option not in known:
            kind = type(processor.image_processor).__name__
            raise RecipeError(f"model.processor: {{{option}: …}}", f"{kind} has no such option", did_you_mean(option, known))


def freeze(model: nn.Module, parts: list[str]) -> None:
    """Stop parts of a model from training. Raises RecipeError for a part that the model does not have."""
    for part in parts:
        for name in frozen_names(model, part):
            model.get_parameter(name).requires_grad_(False)


def frozen_names(model: nn.Module, part: str) -> list[str]:
    """The parameters of a part: `vision`, `projector`, `language`, or the start of a name.

    Raises:
        RecipeError: the model has no such part.
    """
    names = [name for name, _ in model.named_parameters() if (part_of(name) == part if part in PARTS else name.startswith(part))]
    if not names:
        tops = sorted({".".join(name.split(".")[:2]) for name, _ in model.named_parameters()})
        raise RecipeError(
            f"freeze: [{part}]",
            f"no parameter of this model belongs to it; its parts are {', '.join(tops)}",
            f"one of {', '.join(PARTS)}, or the start of a parameter's name",
        )
    return names


def save_model(model: Any, processor: Any, folder: Path) -> None:
    """Save weights and processor so that `from_pretrained` finds both; adapters are merged into the weights."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
