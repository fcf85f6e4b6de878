"""Everything that rlperc overrides in TRL. Each override has a test that fails when TRL moves underneath it.

- `_calculate_rewards` is called with the rows and returns the rewards of all processes, before they are weighed: the one
  place to lend rewards the model, and to see what they say of whole groups.
- `_generate_and_score_completions` returns what a step is trained on: its advantages become those of the recipe's blend, of
  shape (B,), or (B, T), which TRL's loss takes from subclasses.
- `_tokenize_prompts` knows a prompt's messages and images: what `rlperc.train.rollout` gives to vLLM.
- Those two, and `_get_per_token_logps_and_entropies`, which calls the model, are where rows without an image can stand beside
  rows with one: TRL 1.16 writes None for their images, which processors refuse, and gives models tensors of no image.
- `_generate` hands back completions that were drawn before, where groups are drawn again (DAPO's dynamic sampling).

`rlperc.train.ppo` goes on from here, and overrides `_compute_loss` besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOTrainer, RLOOTrainer
from trl.data_utils import prepare_multimodal_messages

from rlperc.recipe.credit import PER_TOKEN
from rlperc.recipe.rows import IMAGE_COLUMNS, row_images
from rlperc.recipe.sizes import with_sizes
from rlperc.reward.contract import Ranges
from rlperc.reward.trl import TrlReward
from rlperc.score.coupling import Coupling
from rlperc.score.roles import roles_of
from rlperc.train.blend import on_tokens, penalize_span, without_gaps, without_spread
from rlperc.train.credit import Credit
from rlperc.train.mixed import counted, keep_in_step, seeing, with_list
from rlperc.train.resample import Drawn, Sharing, draw_alive
from rlperc.train.rollout import rolled_out_by
from rlperc.train.scorer import ModelScorer
from rlperc.train.sharding import whole_models
from rlperc.train.spans import mark_tensor, region_tensor, regions_present
from rlperc.train.tokens import REGIONS
from rlperc.train.vllm_setup import Setup
from rlperc.words.response import Tags, text_of

_Host: Any = object  # the trainer of TRL's that stands behind it in a class's bases


class Rewarded(_Host):
    """A trainer of TRL's, which lends its model to the rewards that ask for it and watches how rewards move within groups."""

    def __init__(self, *, credit: Credit, tags: Tags, setup: Setup | None = None, **kwargs: Any) -> None:
        self.credit, self.tags = credit, tags
        with rolled_out_by(setup):
            super().__init__(**kwargs)
        keep_in_step(self.model, self.accelerator.num_processes)
        if self.use_vllm:
            template = getattr(self, "chat_template", None)
            self.vllm_generation.chat = {**self.chat_template_kwargs, **({"chat_template": template} if template else {})}
        known = [one.reward if isinstance(one, TrlReward) else None for one in self.reward_funcs]
        scaled = credit.blend.mode == "normalize_then_sum"
        self.coupling = Coupling(self.reward_func_names, roles_of(known), scaled=scaled)
        self.silent_shares: list[float] = []
        self._ours = [function for function in self.reward_funcs if isinstance(function, TrlReward)]

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        return float(self.state.global_step / max(1, self.state.max_steps))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        # TRL gathers images only where the process has some, and the others would wait for ever; and its table of them
        # has no place for steps without.
        self.log_multimodal = False
        if self.args.log_multimodal and not inputs[0].keys().isdisjoint(IMAGE_COLUMNS):
            self._logs["images"].extend(gather_object([row_images(row) for row in inputs]))
        output: dict[str, Any] = super()._generate_and_score_completions([with_list(row) for row in inputs])
        return {**output, **counted(output)}

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        # RLOO leaves messages of plain text, of which a template that goes through parts makes nothing.
        messages = [prepare_multimodal_messages(prompt) for prompt in prompts]
        if self.use_vllm:
            self.vllm_generation.conversations = messages
        ids, images, fields = super()._tokenize_prompts(messages)
        return ids, images and [some or [] for some in images], fields

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **fields: Any) -> Any:
        return super()._get_per_token_logps_and_entropies(seeing(model), *args, **{**fields, **counted(fields)})

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> Tensor:
        wanted = {column for function in self._ours for column in function.reward.columns}
        inputs = with_sizes(inputs, wanted, self.processing_class)
        asking = [function for function in self._ours if function.reward.needs_scorer]
        if asking:
            scorer = self._scorer(inputs, completion_ids_list)
            for function in asking:
                function.scorer = scorer
        with whole_models(self.args):
            rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.reward_weights = torch.tensor(self.credit.weights_at(self.progress), dtype=torch.float32)
        return rewards

    def _scorer(self, inputs: list[dict[str, Any]], completion_ids: list[list[int]]) -> ModelScorer:
        prompts = [row["prompt"] for row in inputs]
        size = self.args.per_device_train_batch_size
        return ModelScorer(self.model, self.processing_class, prompts, completion_ids, self.tags, size, self.chat_template_kwargs)

    def _watch(self, rewards: Tensor) -> None:
        """Log how the rewards of all processes move together, where they do not move, and what they weigh."""
        metrics, names = self._metrics["train"], self.coupling.names
        weights = self.credit.weights_at(self.progress)
        moved = self.coupling.add(rewards.double().cpu().numpy(), self.num_generations, weights)
        for name, value in moved.metrics().items():
            metrics[f"coupling/{name}"].append(value)
        for name in self.coupling.alarms():
            metrics[f"coupling/alarm/{name}"].append(1.0)
        for name, weight in zip(names, weights, strict=True):
            metrics[f"blend/weight/{name}"].append(weight)
        if self.num_generations > 1:
            flat = without_spread(rewards, self.num_generations).float().mean(0).tolist()
            for name, share in zip(names, flat, strict=True):
                metrics[f"blend/zero_spread/{name}"].append(share)
            silent = self.credit.silent_groups(rewards, self.num_generations, self.progress)
            self.silent_shares.append(silent.float().mean().item())
            metrics["blend/zero_spread"].append(self.silent_shares[-1])
        for name, value in self.credit.knobs_at(self.progress).items():
            metrics[f"blend/{name}"].append(value)


class RlpercRLOOTrainer(Rewarded, RLOOTrainer):
    """TRL's RLOO on the registry's rewards. Its advantages, of whole responses, stay TRL's own."""

    kind = "rloo"

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.use_vllm:
            said = [math.fsum(map(_or_nan, row)) for row in self.vllm_generation.last_logprobs]
            drawn = torch.tensor(said, device=output["old_logps"].device)
            lengths = output["completion_mask"].sum(1)  # 0 where TRL leaves a response out: NaN then
            gap = ((drawn - output["old_logps"]).abs() / lengths).masked_fill(lengths == 0, math.nan)
            # Under the name of GRPO's, which TRL logs itself; here of whole responses.
            self._metrics["train"]["sampling/sampling_logp_difference/mean"].append(self.accelerator.gather(gap).nanmean().item())
        return output

    def _calculate_rewards(self, *args: Any) -> Tensor:
        rewards = super()._calculate_rewards(*args)
        self._watch(rewards)
        # TRL sums a NaN as 0, which would hold our fault against the completion.
        return without_gaps(rewards, self.num_generations)


class RlpercGRPOTrainer(Rewarded, GRPOTrainer):
    """TRL's GRPO with the recipe's blend of rewards."""

    kind = "grpo"

    def __init__(self, **kwargs: Any) -> None:
        self._held: Drawn | None = None
        self._pieces: dict[int, str] = {}
        super().__init__(**kwargs)

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> Tensor:
        self._completion_ids = completion_ids_list
        self._texts = [text_of(completion) for completion in completions]
        if self._held is None:
            self._rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
            self._marks = self._union_of_marks(len(inputs))
        else:
            self._rewards, self._marks = self._held.rewards, self._held.marks
            self._pending_extra_logs.update(self._held.columns)
            self._held = None
        self._watch(self._rewards)
        return self._rewards

    def _generate(self, prompts: list[Any]) -> Any:
        return super()._generate(prompts) if self._held is None else self._held.generated

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.credit.blend.resample:
            self._held = self._resampled(inputs)
            inputs = self._held.rows
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask = output["completion_mask"]
        regions = self._regions(mask) if self.per_token else None
        output["advantages"] = self._advantages(output, regions)
        self._log_used(output["advantages"], mask, regions)
        return output

    @property
    def per_token(self) -> bool:
        """Whether advantages differ between the tokens of a response."""
        return isinstance(self.credit.blend, PER_TOKEN)

    def _advantages(self, output: dict[str, Any], regions: Tensor | None) -> Tensor:
        """The blend's advantages of this process's completions. Shape: (B,), or (B, T) where regions are given."""
        mask = output["completion_mask"]
        present = None
        if regions is not None:
            present = self.accelerator.gather(regions_present(regions, mask).int()).bool()
        everyone = self.credit.advantages(self._rewards, present, self.num_generations, self.scale_rewards, self.progress)
        mine = self._mine(everyone, len(mask))
        if mine.dim() == 2 and regions is not None:
            return on_tokens(mine, regions)
        penalty = self.credit.knobs_at(self.progress).get("penalty")
        if penalty is None:
            return mine
        wrong = mark_tensor(self._completion_ids, self._decode, self._texts, self._marks, mask.size(1))
        return penalize_span(mine, wrong.to(mask.device), penalty)

    def _mine(self, everyone: Tensor, count: int) -> Tensor:
        """The rows of this process, `count` as in each, among those of all."""
        return everyone[self.accelerator.process_index * count :][:count]

    def _regions(self, mask: Tensor) -> Tensor:
        width = mask.size(1)
        return region_tensor(self._completion_ids, self._decode, self.tags, width, self._pieces).to(mask.device)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.processing_class.decode(ids, skip_special_tokens=True))

    def _union_of_marks(self, count: int) -> list[Ranges]:
        """What the rewards that are trained on marked in each completion."""
        trained = [self.reward_funcs[k] for k in self.credit.active]
        marking = [function.wrong for function in trained if isinstance(function, TrlReward) and function.reward.marks]
        return [tuple(one for wrong in marking for one in wrong[row]) for row in range(count)]

    def _log_used(self, advantages: Tensor, mask: Tensor, regions: Tensor | None) -> None:
        """Put the advantages that are used into TRL's table, in the place of its own: the mean, and that of each region."""
        if regions is not None:
            means = torch.stack([_mean_inside(advantages, mask * (regions == index)) for index in range(len(REGIONS))], dim=1)
            for region, column in zip(REGIONS, self.accelerator.gather(means).T.tolist(), strict=True):
                self._logs["extra"][f"advantage/{region}"].extend(column)
            advantages = _mean_inside(advantages, mask).nan_to_num(0.0)
        used = self.accelerator.gather(advantages.contiguous()).tolist()
        logged = self._logs["advantages"]
        for _ in range(min(len(used), len(logged))):
            logged.pop()
        logged.extend(used)

    # --- dynamic sampling --------------------------------------------------------------------------------------------

    def _resampled(self, rows: list[dict[str, Any]]) -> Drawn:
        """Draw completions, and again for other prompts in the place of groups that teach nothing, some rounds at most."""
        sharing = Sharing(self.num_generations, self.accelerator.num_processes, self.accelerator.process_index)
        # TRL's own count of micro-batches begins at 0 again when a run is resumed.
        within = self._step % self.args.gradient_accumulation_steps
        seed = (self.args.seed, self.state.global_step, within)
        drawn, again = draw_alive(rows, self._draw, self._dead, self.train_dataset, self.credit.blend.resample, sharing, seed)
        self._metrics["train"]["blend/drawn_again"].append(again / len(rows))
        return drawn

    def _draw(self, rows: list[dict[str, Any]]) -> Drawn:
        prompts = [with_images_in_place(row) for row in rows]
        *written, _, tool_images = super()._generate(prompts)
        # Where images are None, TRL takes those of the rows: None and lists of images could not be moved among each other.
        generated = (*written, None, tool_images)
        _, completion_ids, _, completions, *_ = generated
        rewards = super()._calculate_rewards(rows, prompts, completions, completion_ids)
        columns = {name: list(values) for name, values in self._pending_extra_logs.items()}
        self._pending_extra_logs.clear()
        return Drawn(rows, generated, rewards, self._union_of_marks(len(rows)), columns)

    def _dead(self, rewards: Tensor) -> Tensor:
        return self.credit.silent_groups(rewards, self.num_generations, self.progress)


def with_images_in_place(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's prompt as TRL gives it to the chat template, with its images in their place."""
    images = row_images(row)
    prompt: list[dict[str, Any]] = row["prompt"]
    return prepare_multimodal_messages(prompt, images=images) if images else prompt


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _mean_inside(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of each row inside the mask; NaN where there is nothing. Shape: (B,)."""
    return (values * mask).sum(1) / mask.sum(1)
