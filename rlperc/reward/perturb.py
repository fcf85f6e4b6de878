"""Other images in a row's place: masked ones, and ones that show the same a little differently. Pure functions.

What is random is drawn from the image and a seed, so that every completion of a prompt is measured on the same pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Mask = Literal["blank", "patches", "noise"]
Augmentation = Literal["brightness", "contrast", "blur", "noise"]
Change = Callable[["Image.Image"], "Image.Image"]

GREY = 128
# Of an augmentation: mild enough that a person would read the image alike.
FACTOR = 0.1
BLUR_PIXELS = 0.5
NOISE_LEVELS = 5.0


def rows_of_images(image: Sequence[Any] | None, images: Sequence[Any] | None, count: int) -> list[list[Any]]:
    """The images of each row of a batch, whichever of the two columns holds them; none is an empty list."""
    one, many = image or [None] * count, images or [None] * count
    return [
        list(several) if several else [single] if single is not None else [] for single, several in zip(one, many, strict=True)
    ]


def change_all(rows: list[list[Image.Image]], change: Change) -> list[list[Image.Image]]:
    """Change every image of every row; one that several rows share is changed once."""
    changed: dict[int, Image.Image] = {}
    for image in (image for row in rows for image in row):
        if id(image) not in changed:
            changed[id(image)] = change(image)
    return [[changed[id(image)] for image in row] for row in rows]


def mask_image(image: Image.Image, kind: Mask, *, patch: int = 14, share: float = 0.6, seed: int = 0) -> Image.Image:
    """Hide an image, all of it or in part.

    Args:
        image: of any mode.
        kind: `blank` is even grey, `noise` is every pixel and channel drawn evenly from 0 to 255, `patches` is the image
            with squares of it black.
        patch: side of a square in pixels, for `patches`; those at the right and lower edge may be cut off.
        share: of the squares, how many are black, 0 to 1; one at least.
        seed: which squares, which noise.

    Returns:
        An RGB image of the same size.
    """
    import numpy as np
    from PIL import Image

    width, height = image.size
    if kind == "blank":
        return Image.new("RGB", image.size, (GREY, GREY, GREY))
    random = _random(image, kind, seed)
    if kind == "noise":
        return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8), "RGB")
    rows, columns = -(-height // patch), -(-width // patch)
    black = np.zeros(rows * columns, dtype=bool)
    black[random.permutation(rows * columns)[: max(1, round(share * rows * columns))]] = True
    squares = black.reshape(rows, columns).repeat(patch, axis=0).repeat(patch, axis=1)[:height, :width]
    pixels = np.array(image.convert("RGB"))
    pixels[squares] = 0
    return Image.fromarray(pixels, "RGB")


def augment_image(image: Image.Image, kind: Augmentation, *, seed: int = 0) -> Image.Image:
    """Change an image so little that what it shows stays the same.

    Args:
        image: of any mode.
        kind: `brightness` and `contrast` go 10 % up or down, `blur` is Gaussian with a radius of half a pixel, `noise` is
            normal with a standard deviation of 5 of 255 levels.
        seed: whether up or down, which noise.

    Returns:
        An RGB image of the same size.
    """
    import numpy as np
    from PIL import Image, ImageEnhance, ImageFilter

    plain = image.convert("RGB")
    if kind == "blur":
        return plain.filter(ImageFilter.GaussianBlur(BLUR_PIXELS))
    random = _random(image, kind, seed)
    if kind == "noise":
        noise = NOISE_LEVELS * random.standard_normal((plain.height, plain.width, 3), dtype=np.float32)
        return Image.fromarray((np.asarray(plain) + noise).round().clip(0, 255).astype(np.uint8), "RGB")
    factor = 1.0 + FACTOR * random.choice((-1.0, 1.0))
    enhancer = ImageEnhance.Brightness(plain) if kind == "brightness" else ImageEnhance.Contrast(plain)
    return enhancer.enhance(factor)


def _random(image: Image.Image, kind: str, seed: int) -> np.random.Generator:
    import numpy as np

    drawn = hashlib.sha256(f"{kind} {seed} {image.mode} {image.size}".encode())
    drawn.update(image.tobytes())
    return np.random.default_rng(int.from_bytes(drawn.digest()[:8], "little"))
