"""How much likelier the training model finds its own perception with the image than with the image hidden.

Source: the implicit perception term of PAPO (arXiv 2507.06448), the divergence between the policy that sees the image and
one that sees it masked, with its random 60 % of patches black; here the log-ratio of the perception's own tokens, as a
bounded reward of a whole completion. The paper reports collapse where the term weighs too much. In our study (a tiny
model, three seeds) 2 times the bare difference against a blank image, beside the outcome, ended 0.8 and 1.9 points of
accuracy below outcome alone after 20 and 40 steps, and correlated .13 to .33 with perception: text that depends on the
image need not be right about it.
"""

import functools
import math
from typing import Any

from rlperc import Completion, Score, reward
from rlperc.errors import RecipeError
from rlperc.reward.contract import Scorer
from rlperc.reward.perturb import Mask, change_all, mask_image, rows_of_images


@reward(range=(0.0, 1.0), credits="perception", scope="batch", timeout_s=120.0, imports=("numpy", "PIL"))
def image_dependence(
    completions: list[Completion],
    image: list[Any] | None = None,
    images: list[list[Any] | None] | None = None,
    *,
    scorer: Scorer,
    mask: Mask = "blank",
    patch: int = 14,
    share: float = 0.6,
    scale: float = 1.0,
    seed: int = 0,
) -> list[Score | None]:
    """1 - exp(-max(0, drop) / scale), where drop is in nats per token of the perception; 0 without a perception.

    Costs two forward passes over the batch, always, so that processes that share a model stay in step. A row without an
    image is skipped.

    Args:
        completions: of the batch.
        image: PIL images, one for each completion or None.
        images: lists of PIL images, for data with several.
        scorer: the training model.
        mask: `blank` (even grey), `patches` (squares of the image black) or `noise` (nothing but noise).
        patch: side of a square in pixels, for `patches`; the model's own patch size fits best.
        share: of the squares that are black.
        scale: the drop, in nats per token, that is worth 1 - 1/e, which is .63.
        seed: which squares and which noise, together with the image.

    Raises:
        RecipeError: a setting cannot be.
    """
    if mask not in ("blank", "patches", "noise"):
        raise RecipeError(f"mask: {mask}", "'image_dependence' has none of that name", "blank, patches or noise")
    if patch < 1 or not 0.0 < share <= 1.0 or not scale > 0.0:
        asked = f"patch: {patch}, share: {share}, scale: {scale}"
        raise RecipeError(
            asked, "a length, a share and a scale are above 0, a share is at most 1", "patch: 14, share: 0.6, scale: 1.0"
        )
    seen = rows_of_images(image, images, len(completions))
    with_image = scorer.perception_logprobs(seen)
    hide = functools.partial(mask_image, kind=mask, patch=patch, share=share, seed=seed)
    without = scorer.perception_logprobs(change_all(seen, hide))
    return [
        _score(completion, left, right, scale) if row else None
        for completion, row, left, right in zip(completions, seen, with_image, without, strict=True)
    ]


def _score(completion: Completion, with_image: float | None, without: float | None, scale: float) -> Score:
    if completion.perception is None or with_image is None or without is None:
        return Score(0.0, why="no perception")
    drop = with_image - without
    if drop <= 0.0:
        return Score(0.0, why="the image makes the perception no likelier")
    return Score(-math.expm1(-drop / scale), why=f"{drop:.2f} nats a token likelier with the image")
