"""Regions and marks of a batch of completions, as tensors over their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlperc.errors import RewardError
from rlperc.reward.contract import Ranges
from rlperc.train.tokens import REGIONS, Decode, Pieces, Prefixes, region_of_tokens
from rlperc.words.response import Tags


def region_tensor(
    completion_ids: Sequence[list[int]], decode: Decode, tags: Tags, width: int, pieces: Pieces | None = None
) -> Tensor:
    """Which region each token belongs to, as indices of `REGIONS`; padding belongs to the first, the rest.

    Args:
        completion_ids: tokens of each completion.
        decode: from tokens to text.
        tags: the words of the regions.
        width: of the padded batch.
        pieces: what single tokens decode to, kept from batch to batch.

    Returns:
        Shape: (completions, width).
    """
    regions = torch.zeros(len(completion_ids), width, dtype=torch.long)
    pieces = {} if pieces is None else pieces
    known: dict[tuple[int, ...], list[int]] = {}  # a group often writes the same thing twice
    for row, ids in enumerate(completion_ids):
        key = tuple(ids)
        if key not in known:
            known[key] = region_of_tokens(ids, decode, tags, pieces)
        regions[row, : len(ids)] = torch.tensor(known[key], dtype=torch.long)
    return regions


def regions_present(regions: Tensor, mask: Tensor) -> Tensor:
    """Which regions each completion has tokens in. Shape: (completions, regions), boolean."""
    return torch.stack([((regions == region) & mask.bool()).any(1) for region in range(len(REGIONS))], dim=1)


def mark_tensor(
    completion_ids: Sequence[list[int]], decode: Decode, texts: Sequence[str], marks: Sequence[Ranges], width: int
) -> Tensor:
    """Which tokens hold characters that a reward marked.

    Args:
        completion_ids: tokens of each completion.
        decode: from tokens to text.
        texts: what the rewards saw of each completion.
        marks: for each completion, half-open ranges of its text.
        width: of the padded batch.

    Returns:
        Shape: (completions, width), boolean.

    Raises:
        RewardError: a reward saw another text than the tokens decode to, so that its marks have no place there.
    """
    marked = torch.zeros(len(completion_ids), width, dtype=torch.bool)
    pieces: Pieces = {}
    for row, (ids, text, ranges) in enumerate(zip(completion_ids, texts, marks, strict=True)):
        if not ranges:
            continue
        prefixes = Prefixes(ids, decode, pieces)
        if prefixes.text != text:
            raise RewardError(
                "blend: {mode: penalize_span}",
                "the rewards saw another text than the tokens decode to, as under a tokenizer with a response template, so that"
                " what they marked has no place among the tokens",
                "a tokenizer without one, or another mode",
            )
        for start, end in ranges:
            marked[row, list(prefixes.token_range(start, end))] = True
    return marked


def last_token(mask: Tensor, regions: Tensor | None = None, region: int | None = None) -> Tensor:
    """Index of each completion's last token, or of its last in a region; its last of all where it has none there.

    Returns:
        Shape: (completions,). 0 for an empty completion.
    """
    places = torch.arange(mask.size(1), device=mask.device)
    end = torch.where(mask.bool(), places, 0).amax(1)
    if regions is None or region is None:
        return end
    inside = mask.bool() & (regions == region)
    return torch.where(inside.any(1), torch.where(inside, places, 0).amax(1), end)
