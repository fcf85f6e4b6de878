"""The sizes that coordinates are measured in: of the image, and of what the processor made of it."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from rlperc.errors import DataError
from rlperc.recipe.rows import row_images, with_image_size

SIZES = frozenset({"image_size", "resized_size"})


def with_sizes(rows: list[dict[str, Any]], wanted: Set[str], processor: Any) -> list[dict[str, Any]]:
    """The rows with `image_size` and `resized_size` ([width, height] in pixels) where a reward reads them.

    Both are of a row's first image. What the data itself says stays.
    """
    if "image_size" in wanted:
        rows = [with_image_size(row) for row in rows]
    if "resized_size" not in wanted:
        return rows
    found: dict[tuple[int, int], list[int]] = {}  # a processor resizes by size alone
    sized = []
    for row in rows:
        images = row_images(row)
        if images and row.get("resized_size") is None:
            size = images[0].size
            if size not in found:
                found[size] = resized_size(processor, images[0])
            row = {**row, "resized_size": found[size]}
        sized.append(row)
    return sized


def resized_size(processor: Any, image: Any) -> list[int]:
    """[width, height] in pixels that the processor really gives the vision tower, found by running it.

    Raises:
        DataError: it crops the image or cuts it into tiles, so that no one resized image exists.
    """
    if getattr(processor.image_processor, "do_center_crop", False):
        raise DataError(
            "`frame: resized`",
            "this model's processor crops the image, so that places shift too",
            "frame: pixels, unit or thousand, and a prompt that asks for it",
        )
    made = processor.image_processor(images=[image.convert("RGB")], return_tensors="pt")
    if "image_grid_thw" in made:  # the Qwen-VL family: patches of each image, in rows and columns
        _, rows, columns = made["image_grid_thw"][0].tolist()
        patch = processor.image_processor.patch_size
        return [columns * patch, rows * patch]
    pixels = made["pixel_values"]
    shape = list(pixels.shape)
    if len(shape) == 5 and shape[1] == 1:  # Idefics3: images by tiles
        shape = [shape[0], *shape[2:]]
    if len(shape) != 4 or shape[0] != 1:
        raise DataError(
            "`frame: resized`",
            "this model's processor cuts an image into tiles, so that there is no one resized image",
            "frame: pixels, unit or thousand, and a prompt that asks for it",
        )
    return [shape[3], shape[2]]
