"""What rlperc relies on inside TRL. A failure here means: TRL moved, look at rlperc/train/trl_overrides.py and ppo.py."""

import importlib.metadata
import inspect
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import trl
from packaging.requirements import Requirement
from trainers import make, tiny_model
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer, RLOOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import utils

from rlperc.train.grpo import PPOConfig
from rlperc.train.ppo import RlpercPPOTrainer
from rlperc.train.rollout import Rollouts
from rlperc.train.trl_overrides import Rewarded, RlpercGRPOTrainer, RlpercRLOOTrainer

SCORING = inspect.getsource(GRPOTrainer._generate_and_score_completions)
LOSS = inspect.getsource(GRPOTrainer._compute_loss)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start"))


def test_the_installed_trl_is_the_supported_one() -> None:
    declared = [Requirement(text) for text in importlib.metadata.requires("rlperc")]
    (trl_requirement,) = [requirement for requirement in declared if requirement.name == "trl"]
    assert trl_requirement.specifier.contains(trl.__version__)


@pytest.mark.parametrize("trainer", [GRPOTrainer, RLOOTrainer])
def test_calculate_rewards_is_as_it_was(trainer: type) -> None:
    arguments = ["self", "inputs", "prompts", "completions", "completion_ids_list"]
    assert list(inspect.signature(trainer._calculate_rewards).parameters) == arguments
    source = inspect.getsource(trainer._calculate_rewards)
    assert "rewards_per_func = gather(rewards_per_func)" in source  # of all processes, groups together
    assert source.rstrip().endswith("return rewards_per_func")  # before weights
    assert "self._calculate_rewards(inputs, prompts, completions, completion_ids_list)" in inspect.getsource(
        trainer._generate_and_score_completions
    )
    assert "rewards_per_func * self.reward_weights" in inspect.getsource(trainer._generate_and_score_completions)


def test_metrics_are_logged_from_where_we_add_to_them() -> None:
    assert "self._metrics[mode].items()" in inspect.getsource(GRPOTrainer.log)
    assert "self.reward_func_names" in inspect.getsource(GRPOTrainer.__init__)


def test_the_advantages_of_the_output_are_those_of_the_loss() -> None:
    assert '"advantages": advantages,' in SCORING
    assert 'advantages = inputs["advantages"]' in LOSS
    assert "if advantages.dim() == 1:" in LOSS  # (B, T) is left as it is
    assert 'self._logs["advantages"].extend(all_process_advantages.tolist())' in SCORING
    assert '**self._logs["extra"],' in inspect.getsource(GRPOTrainer.log)


def test_generate_is_called_once_with_the_prompts_of_the_rows() -> None:
    assert list(inspect.signature(GRPOTrainer._generate).parameters) == ["self", "prompts"]
    assert SCORING.count("self._generate(prompts)") == 1
    assert "prepare_multimodal_messages(prompt, images=image_list)" in SCORING  # as `with_images_in_place` has it
    kept = "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images"
    assert kept in inspect.getsource(GRPOTrainer._generate)


def test_the_model_is_only_called_where_values_are_kept() -> None:
    source = inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies)
    assert "outputs = model(**model_inputs, labels=labels, fused_lm_head=True)" in source
    assert source.count("model(") == 1
    assert LOSS.count("model,") == 2  # in the signature, and on to the log-probabilities
    assert "getattr(self, backbone_attr)(*args, **kwargs)" in inspect.getsource(utils.add_fused_lm_head)
    assert "hidden_states = backbone_outputs.last_hidden_state[:, :-1]" in inspect.getsource(utils.add_fused_lm_head)


def test_the_loss_is_normalised_as_the_value_loss_is() -> None:
    assert 'inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes' in LOSS
    assert "normalizer * self.current_gradient_accumulation_steps / self.args.steps_per_generation" in LOSS
    assert "if self.beta != 0.0:" in LOSS  # where the KL is paid in the reward, beta is 0 here


def test_nothing_else_is_overridden() -> None:
    def overridden(ours: type, theirs: type) -> set[str]:
        return {name for name in vars(ours) if hasattr(theirs, name) and not name.startswith("__")}

    mixed = {"_generate_and_score_completions", "_tokenize_prompts", "_get_per_token_logps_and_entropies"}  # rows and images
    assert overridden(Rewarded, GRPOTrainer) == {"_calculate_rewards", *mixed}
    assert overridden(RlpercRLOOTrainer, RLOOTrainer) == {"_calculate_rewards", "_generate_and_score_completions"}
    grpo = {"_calculate_rewards", "_generate_and_score_completions", "_generate"}
    assert overridden(RlpercGRPOTrainer, GRPOTrainer) == grpo
    theirs = {"_save", "_load_from_checkpoint", "create_optimizer"}  # transformers', for the critic
    assert overridden(RlpercPPOTrainer, GRPOTrainer) == {"_compute_loss", *theirs}
    for name in theirs:
        assert getattr(GRPOTrainer, name) is getattr(Trainer, name)


def test_the_critic_is_not_among_the_weights_for_vllm(start: Path, tmp_path: Path) -> None:
    trainer = make(start, tmp_path, "stages.reason.kind=ppo", "stages.reason.ppo.trunk=own")

    def walked(kind: type[VLLMGeneration]) -> set[str]:
        generation = object.__new__(kind)
        generation.model, generation.mode = trainer.model, "colocate"
        generation._dist = SimpleNamespace(is_fsdp=False, gather_params=lambda _: nullcontext())
        return {name for name, _ in generation._iter_named_params()}

    everything, sent = walked(VLLMGeneration), walked(Rollouts)
    assert {name for name in everything - sent if not name.startswith("critic.")} == set()
    assert {name for name in sent if "critic" in name} == set()
    assert "critic.trunk.text_model.norm.weight" in everything
    source = inspect.getsource(VLLMGeneration.sync_weights)
    assert "self._iter_named_params()" in source
    assert "named_parameters" not in source


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_sum_is_what_trl_computes(start: Path, tmp_path: Path, scale: str) -> None:
    trainer = make(start, tmp_path, f"train.scale_rewards={scale}")
    assert difference_to_trl(trainer) < 1e-6


def test_normalize_then_sum_is_what_trl_computes(start: Path, tmp_path: Path) -> None:
    trainer = make(start, tmp_path, "stages.reason.blend.mode=normalize_then_sum")
    trainer.multi_objective_aggregation = "normalize_then_sum"
    assert difference_to_trl(trainer) < 1e-6


def difference_to_trl(trainer: RlpercGRPOTrainer) -> float:
    """Over real completions, scored by length, because a random model gets nothing right."""
    plain = GRPOTrainer._generate_and_score_completions
    trainer.reward_funcs = [length(k) for k in range(len(trainer.reward_funcs))]
    trainer._ours = []
    found = []

    def both(self: RlpercGRPOTrainer, output: dict, regions: object) -> torch.Tensor:
        ours = RlpercGRPOTrainer._advantages(self, output, regions)
        found.append((output["advantages"], ours))
        return ours

    trainer._advantages = both.__get__(trainer)
    trainer.train()
    assert plain is GRPOTrainer._generate_and_score_completions
    assert len(found) == 2
    assert all(theirs.abs().max() > 0.5 for theirs, _ in found)
    return max((theirs - ours).abs().max().item() for theirs, ours in found)


def length(k: int) -> object:
    def scored(completions: list, **_: object) -> list[float]:
        return [len(one[-1]["content"]) % (k + 3) / (k + 2) for one in completions]

    scored.__name__ = f"length{k}"
    return scored


def test_one_response_for_a_prompt_passes_trl_s_check_for_groups(tmp_path: Path) -> None:
    options = {"output_dir": str(tmp_path), "per_device_train_batch_size": 3, "use_cpu": True, "bf16": False, "report_to": "none"}
    assert type(PPOConfig(num_generations=1, **options).num_generations) is int
    with pytest.raises(ValueError, match="at least 2 generations"):
        GRPOConfig(num_generations=1, **options)
    with pytest.raises(ValueError, match="must be divisible by num_generations"):
        PPOConfig(num_generations=2, **options)
