"""TRL's `SFTTrainer` with a loss that is shared between perception and the rest.

Overrides two of its methods: where a step's tokens are counted, and where the loss is made of their log-probabilities.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from rlperc.recipe.reweight import Dynamic, Fixed
from rlperc.train.balance import PERCEPTION, REST, Balance, Seen
from rlperc.train.tokens import REGIONS, Decode, Pieces, region_of_tokens
from rlperc.words.response import Tags

log = logging.getLogger(__name__)
PERCEIVED = "perceived"
"""Of a batch: which labels belong to a perception span. Shape: that of `labels`."""
IGNORED = -100
"""The label of what is not learned."""


class ReweightedSFTTrainer(SFTTrainer):
    """Trains on λ·L_p + (1 − λ)·L_r, each a mean over the tokens of all batches and processes of a step."""

    def __init__(self, *, reweight: Fixed | Dynamic, tags: Tags, **shared: Any) -> None:
        super().__init__(**shared)
        self.data_collator: Any
        self.balance = Balance(reweight)
        tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)
        self.data_collator = Marking(self.data_collator, tokenizer, tags)
        self._tokens = torch.zeros(2)
        self._seen: Seen | None = None
        self._hidden: Tensor | None = None
        self._gradients: Tensor | None = None
        base = self.accelerator.unwrap_model(self.model)
        base = base.get_base_model() if hasattr(base, "get_base_model") else base
        base.base_model.register_forward_hook(self._keep_hidden)
        base.register_forward_hook(self._keep_gradients)
        self._width = base.config.get_text_config().hidden_size if self.balance.rule == "ngdiff" else 0
        self.add_callback(_AfterStep(self))

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        count = super()._get_num_items_in_batch(batch_samples, device)
        self._tokens = self._everywhere(
            sum((_counted(batch).to(device) for batch in batch_samples), torch.zeros(2, device=device))
        )
        return count

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's, on log-probabilities that are weighed before they are summed."""
        perceived = inputs[PERCEIVED][..., 1:].bool()
        weights = self.balance.weights(self._tokens)

        def weighing(**given: Any) -> Any:
            outputs = model(**given)
            if self.model.training:
                self._look(outputs, perceived)
            chosen = torch.where(perceived, weights[PERCEPTION], weights[REST]).to(outputs.log_probs)
            outputs.log_probs = outputs.log_probs * chosen
            return outputs

        given = {name: value for name, value in inputs.items() if name != PERCEIVED}
        return super().compute_loss(weighing, given, return_outputs, num_items_in_batch)

    def after_step(self, step: int) -> None:
        """Let λ follow what the step has shown. All processes take part in it."""
        if self._seen is None:
            return
        seen, self._seen = Seen(*map(self._everywhere, vars(self._seen).values())), None
        found = self.balance.update(step, seen)
        if not found and step == 0:
            log.warning("rlperc: no token of the first step stands between the perception's tags: reweight changes nothing there")
        for name, value in (found or {"share": 0.0}).items():
            self._metrics["train"][f"reweight/{name}"].append(value)

    def _look(self, outputs: Any, perceived: Tensor) -> None:
        """Add a batch to what the step has shown."""
        measured = self.balance.measures(self.state.global_step)
        if self._seen is None:
            self._seen = Seen.nothing(outputs.log_probs.device, self._width if measured else 0)
        learned, seen = outputs.label_mask, self._seen
        for kind, chosen in ((REST, learned & ~perceived), (PERCEPTION, learned & perceived)):
            seen.tokens[kind] += chosen.sum()
            seen.losses[kind] -= outputs.log_probs.detach()[chosen].float().sum()
            if self._gradients is None or self._hidden is None:
                continue
            gradients = self._gradients[chosen].float()
            seen.lengths[kind] += gradients.norm(dim=-1).sum()
            if seen.maps.numel():
                seen.maps[kind] += gradients.T @ self._hidden.detach()[:, :-1][chosen].float()
        self._hidden = self._gradients = None

    def _keep_hidden(self, module: Any, args: Any, outputs: Any) -> None:
        """The backbone has run."""
        wanted = torch.is_grad_enabled() and self.model.training and self.balance.measures(self.state.global_step)
        # Where nothing in front of it trains and no image came along, it has no gradient, and says nothing.
        self._hidden = outputs.last_hidden_state if wanted and outputs.last_hidden_state.requires_grad else None

    def _keep_gradients(self, module: Any, args: Any, outputs: Any) -> None:
        """The head has run, and nobody has wrapped the model's outputs yet: DeepSpeed takes the first gradient for the step's.

        Of each token's loss by the hidden state that it alone is read from.
        """
        if self._hidden is not None:
            (found,) = torch.autograd.grad(-outputs.log_probs.sum(), self._hidden, retain_graph=True)
            self._gradients = found[:, :-1]

    def _everywhere(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, "sum")


class _AfterStep(TrainerCallback):
    """Before a checkpoint of the step is written, which is to hold its λ."""

    def __init__(self, trainer: ReweightedSFTTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called with the step already counted."""
        self.trainer.after_step(state.global_step - 1)


class Marking:
    """A collator whose batches say which labels belong to a perception span."""

    def __init__(self, collate: Callable[[list[Any]], Any], tokenizer: Any, tags: Tags) -> None:
        self.collate, self.tokenizer, self.tags = collate, tokenizer, tags
        self._pieces: Pieces = {}

    def __call__(self, rows: list[Any]) -> Any:
        """Collate, and mark."""
        batch = self.collate(rows)
        batch[PERCEIVED] = perceived(batch["labels"], self._decode, self.tags, self._pieces)
        return batch

    def _decode(self, ids: Any) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def perceived(labels: Tensor, decode: Decode, tags: Tags, pieces: Pieces) -> Tensor:
    """Which labels belong to a perception span, tags included.

    Args:
        labels: -100 where nothing is learned; responses that are packed into one row stand apart by their prompts.
            Shape: (B, T).
        decode: from tokens to text.
        tags: the words of the spans.
        pieces: what single tokens decode to, kept from batch to batch.

    Returns:
        Shape: (B, T), boolean.
    """
    found = torch.zeros_like(labels, dtype=torch.bool)
    for row, ids in enumerate(labels.tolist()):
        for start, end in _runs(ids):
            regions = region_of_tokens(ids[start:end], decode, tags, pieces)
            found[row, start:end] = torch.tensor(regions) == REGIONS.index("perception")
    return found


def _runs(ids: list[int]) -> list[tuple[int, int]]:
    """Where learned labels stand in a row: half-open ranges."""
    ends = [i for i in range(len(ids) + 1) if (i > 0 and ids[i - 1] != IGNORED) != (i < len(ids) and ids[i] != IGNORED)]
    return list(zip(ends[::2], ends[1::2], strict=True))


def _counted(batch: Any) -> Tensor:
    """Learned tokens of each kind, as TRL counts them: the first label of a row is nobody's next token. Shape: (2,)."""
    learned, seen = batch["labels"][..., 1:] != IGNORED, batch[PERCEIVED][..., 1:]
    return torch.stack([(learned & ~seen).sum(), (learned & seen).sum()]).float()
