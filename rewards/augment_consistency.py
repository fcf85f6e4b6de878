"""The training model finds its own perception as likely when the image is a little brighter, blurred or noisy.

Source: the perturbation-stable half of the visual dependency of PRPO (arXiv 2606.08708); images changed as mildly as here
are what NoisyRollout (arXiv 2504.13055) trains on. As a reward by itself it has no source that we know of, and it must
not stand by itself: a perception that ignores the image is perfectly consistent. Pair it with `image_dependence` or with
a reward that knows the truth.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

from rlperc import Completion, Score, reward
from rlperc.errors import RecipeError
from rlperc.reward.contract import Scorer
from rlperc.reward.perturb import Augmentation, augment_image, change_all, rows_of_images

_ALL: tuple[Augmentation, ...] = ("brightness", "contrast", "blur", "noise")


@reward(range=(0.0, 1.0), credits="perception", scope="batch", timeout_s=120.0, imports=("numpy", "PIL"))
def augment_consistency(
    completions: list[Completion],
    image: list[Any] | None = None,
    images: list[list[Any] | None] | None = None,
    *,
    scorer: Scorer,
    augmentations: Sequence[Augmentation] = _ALL,
    scale: float = 0.1,
    seed: int = 0,
) -> list[Score | None]:
    """exp(-difference / scale), the mean over augmentations in nats per token of the perception; 0 without a perception.

    Costs one forward pass over the batch for each augmentation and one more, always, so that processes that share a model
    stay in step. A row without an image is skipped.

    Args:
        completions: of the batch.
        image: PIL images, one for each completion or None.
        images: lists of PIL images, for data with several.
        scorer: the training model.
        augmentations: of `brightness` and `contrast` (10 % up or down), `blur` (half a pixel) and `noise` (5 of 255
            levels). Leave out what would change an answer of your data, such as brightness.
        scale: the difference, in nats per token, that is worth 1/e, which is .37.
        seed: up or down and which noise, together with the image.

    Raises:
        RecipeError: a setting cannot be.
    """
    if not augmentations or not set(augmentations) <= set(_ALL):
        raise RecipeError(f"augmentations: {augmentations}", "these are not augmentations", f"some of: {', '.join(_ALL)}")
    if not scale > 0.0:
        raise RecipeError(f"scale: {scale}", "it divides a difference", "scale: 0.1")
    seen = rows_of_images(image, images, len(completions))
    plain = scorer.perception_logprobs(seen)
    changed = [
        scorer.perception_logprobs(change_all(seen, functools.partial(augment_image, kind=kind, seed=seed)))
        for kind in augmentations
    ]
    return [
        _score(completion, before, after, scale) if row else None
        for completion, row, before, after in zip(completions, seen, plain, zip(*changed, strict=True), strict=True)
    ]


def _score(completion: Completion, before: float | None, after: Sequence[float | None], scale: float) -> Score:
    known = [value for value in after if value is not None]
    if completion.perception is None or before is None or len(known) < len(after):
        return Score(0.0, why="no perception")
    difference = sum(abs(value - before) for value in known) / len(known)
    return Score(math.exp(-difference / scale), why=f"{difference:.3f} nats a token apart" if difference else "")
