"""Sample responses with their images, as a run keeps and shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from rlperc.evaluate.accuracy import Judged
from rlperc.recipe.folder import RunFolder
from rlperc.recipe.rows import row_images

MAX_PIXELS = 512


def write_samples(folder: RunFolder, rows: Dataset, judged: Mapping[str, list[Judged]], count: int) -> list[dict[str, Any]]:
    """Save the first rows' images, and say what each measured model wrote for them.

    The first rows, whatever came out: a chosen sample shows what its chooser wants.
    """
    samples = []
    for index in range(min(count, len(rows))):
        row = rows[index]
        images = row_images(row)
        files = [f"{index}-{number}.png" for number in range(len(images))]
        for file, image in zip(files, images, strict=True):
            target = folder.samples / file
            if not target.exists():
                folder.samples.mkdir(parents=True, exist_ok=True)
                small = image.convert("RGB")
                small.thumbnail((MAX_PIXELS, MAX_PIXELS))
                part = target.with_suffix(".part")
                small.save(part, format="PNG")
                part.replace(target)
        samples.append(
            {
                "images": [f"{folder.samples.name}/{file}" for file in files],
                "prompt": _text(row["prompt"][-1]["content"]),
                "answer": row.get("answer"),
                "perception": row.get("perception"),
                "responses": {label: _shown(_first(found, index)) for label, found in judged.items()},
            }
        )
    return samples


def _text(content: Any) -> str:
    """A message's content, which is text or a list of parts."""
    return content if isinstance(content, str) else " ".join(part.get("text") or "[image]" for part in content)


def _first(judged: Sequence[Judged], index: int) -> Judged:
    """A row's first response, of as many as `evaluate.repeats` asks for."""
    return next(one for one in judged if one.index == index)


def _shown(judged: Judged) -> dict[str, Any]:
    return {"text": judged.response, "a": judged.a, "a_p": judged.a_p, "a_r": judged.a_r}
