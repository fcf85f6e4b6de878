"""Whether vLLM samples from the policy itself: asked before the first step, and watched from then on.

Both sides have to agree on the ids of a prompt (`rlperc.train.rollout` compares them at every generation) and, within a
tolerance, on how likely a response is. Training on samples of another model than the one that is trained does no harm that
a reward curve would show at once; it only learns less, or something else.
"""

from __future__ import annotations

import logging
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlperc.errors import RolloutError
from rlperc.recipe.rollout import Parity
from rlperc.train.images import has_images
from rlperc.train.scorer import ModelScorer
from rlperc.train.trl_overrides import with_images_in_place
from rlperc.train.vllm_setup import replaced

log = logging.getLogger(__name__)

# In nats. float32 was measured at 1e-6 (tests/on_vllm); half precision rounds a log-probability of 10 to 0.03.
TOLERANCES = {"float32": (1e-3, 0.02)}
HALF = (0.05, 1.0)
JUMP, WINDOW, FLOOR = 5.0, 20, 0.01
USUAL = (
    "The usual reasons: weights that did not reach vLLM, image embeddings or a prefix computed with older ones, a sampling "
    "option that vLLM applies and the trainer does not (top_p, top_k, min_p, repetition_penalty), or half precision and a "
    "policy that grew very sure of itself"
)


@dataclass(frozen=True)
class Compared:
    """One response: its tokens, and the differences in log-probability, vLLM's less the trainer's, in nats."""

    process: int
    row: int
    prompt_tokens: int
    images: int
    ids: list[int]
    differences: list[float]


def compare(trainer: Any, settings: Parity) -> list[Compared]:
    """Draw responses with vLLM and ask the trainer's model how likely they are. All processes take part.

    Returns:
        Those of all processes. Tokens from the first image token on are left out: the trainer cannot read such a response.

    Raises:
        RolloutError: the two make different ids of a prompt.
    """
    generation = trainer.vllm_generation
    chosen = _some(trainer.train_dataset, settings.rows, trainer.accelerator.process_index)
    rows = [trainer.train_dataset[index] for index in chosen]
    prompts = [with_images_in_place(row) for row in rows]
    ids, images, _ = trainer._tokenize_prompts(prompts)
    generation.sync_weights()
    trainer._last_loaded_step = trainer.state.global_step
    with _plain(generation, settings.tokens):
        _, completion_ids, _, _ = generation.generate(ids, images, 1)
    return measure(trainer, rows, ids, images, completion_ids, generation.last_logprobs)


def measure(
    trainer: Any,
    rows: Sequence[dict[str, Any]],
    ids: Sequence[list[int]],
    images: Sequence[list[Any]] | None,
    completion_ids: Sequence[list[int]],
    logprobs: Sequence[list[float | None]],
) -> list[Compared]:
    """Hold responses that were drawn for rows, and what vLLM says of them, against the trainer's model."""
    images = images or [[] for _ in rows]
    cut = [_before_images(row, trainer.model) for row in completion_ids]
    size, template = trainer.args.per_device_train_batch_size, trainer.chat_template_kwargs
    prompts = [row["prompt"] for row in rows]
    scorer = ModelScorer(trainer.model, trainer.processing_class, prompts, cut, trainer.tags, size, template)
    with trainer.accelerator.autocast():
        ours = scorer.logprobs([list(seen or []) for seen in images], trainer.temperature)
    found = []
    for row, (prompt, seen, written) in enumerate(zip(ids, images, cut, strict=True)):
        pairs = zip(logprobs[row][: len(written)], ours[row][: len(written)].tolist(), strict=True)
        differences = [theirs - own for theirs, own in pairs if theirs is not None]
        found.append(Compared(trainer.accelerator.process_index, row, len(prompt), len(seen or []), written, differences))
    return list(gather_object(found))


def check(found: Sequence[Compared], settings: Parity, dtype: str, processor: Any) -> None:
    """Hold what was found to the tolerances. Raises RolloutError, with the responses that differ most."""
    mean, largest = spread(found)
    usual = TOLERANCES.get(dtype, HALF)
    mean_limit, largest_limit = settings.mean or usual[0], settings.max or usual[1]
    if not any(one.differences for one in found):
        raise RolloutError("the check of vLLM's responses", "all of them are empty", "rollout: {parity: {rows: 0}} to go without")
    if mean <= mean_limit and largest <= largest_limit:
        return
    raise RolloutError(
        f"responses from vLLM, in {dtype}",
        f"their log-probabilities differ from the trainer's by {mean:.2g} on average and {largest:.2g} at most, where "
        f"{mean_limit:g} and {largest_limit:g} are allowed:\n{table(found, processor)}\n    {USUAL}",
        "rollout: {vllm: {dtype: …}}, or {parity: {mean: …, max: …}} where the difference is meant",
    )


def spread(found: Sequence[Compared]) -> tuple[float, float]:
    """Mean and largest absolute difference, over all tokens."""
    every = [abs(value) for one in found for value in one.differences]
    return (statistics.fmean(every), max(every)) if every else (0.0, 0.0)


def table(found: Sequence[Compared], processor: Any, rows: int = 8) -> str:
    """The responses that differ most, for a person to read."""
    worst = sorted(found, key=lambda one: -max(map(abs, one.differences), default=0.0))[:rows]
    lines = ["    prompt  tokens  images  response  mean     largest  at"]
    for one in worst:
        sizes = [abs(value) for value in one.differences] or [0.0]
        place = sizes.index(max(sizes))
        token = processor.decode(one.ids[place : place + 1]) if one.ids else ""
        what = f"    {one.process}:{one.row:<6}{one.prompt_tokens:>6}{one.images:>8}{len(one.ids):>10}"
        lines.append(f"{what}  {statistics.fmean(sizes):<8.2g} {max(sizes):<8.2g} {place} {token!r}")
    return "\n".join(lines)


def _some(rows: Any, count: int, process: int) -> list[int]:
    """Some rows, others in each process, and one twice, so that an image is seen again; with and without images, if there are."""
    illustrated = has_images(rows)
    order = [(process * count + offset) % len(rows) for offset in range(len(rows))]
    chosen = [next(index for index in order if illustrated[index] == kind) for kind in (True, False) if kind in illustrated]
    chosen += [index for index in order if index not in chosen]
    return [*chosen[: max(1, count - 1)], chosen[0]][:count]


@contextmanager
def _plain(generation: Any, tokens: int) -> Iterator[None]:
    """Sampling that both sides see alike: nothing cut off the distribution, no token held back."""
    changed: dict[str, Any] = {
        "max_completion_length": tokens,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "structured_outputs_regex": None,
        "generation_kwargs": {},
        "_warned": True,  # of a context too short: that is for the responses of the training
    }
    with replaced(generation, **changed):
        yield


def _before_images(ids: list[int], model: Any) -> list[int]:
    token = getattr(model.config, "image_token_id", None)
    return ids[: ids.index(token)] if token in ids else ids


class ParityWatch(TrainerCallback):
    """Checks when training begins, and warns when the difference jumps. All processes take part in it."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.settings = trainer, trainer.vllm_generation.setup.rollout.parity
        self.seen: deque[float] = deque(maxlen=WINDOW)
        self.at_start: tuple[float, float] | None = None

    def kept(self) -> list[Any]:
        """What was seen, as JSON has it."""
        return [self.at_start, list(self.seen)]

    def restore(self, kept: list[Any]) -> None:
        """Go on from there; the check itself is made again."""
        at_start, seen = kept
        self.at_start = tuple(at_start) if at_start else None
        self.seen.extend(seen)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the run where vLLM does not sample from the policy."""
        if not self.settings.rows:
            return
        found = compare(self.trainer, self.settings)
        check(found, self.settings, self.trainer.vllm_generation.setup.coarser_dtype, self.trainer.processing_class)
        self.at_start = mean, largest = spread(found)
        metrics = self.trainer._metrics["train"]
        metrics["parity/mean"].append(mean)
        metrics["parity/max"].append(largest)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        """Hold the last difference against those before it."""
        gap = (logs or {}).get("sampling/sampling_logp_difference/mean")
        if gap is None:
            return
        usual = statistics.median(self.seen) if len(self.seen) >= 5 else None
        self.seen.append(gap)
        if usual is not None and gap > max(FLOOR, JUMP * usual) and state.is_world_process_zero:
            log.warning(
                "rlperc: step %d: vLLM's log-probabilities are %.3f from the trainer's on average, after %.3f before. %s.",
                *(state.global_step, gap, usual, USUAL),
            )
