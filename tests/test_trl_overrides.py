"""What rlperc relies on inside TRL. A failure here means: TRL moved, look at rlperc/train/trl_overrides.py."""

import importlib.metadata
import inspect

import torch
import trl
from packaging.requirements import Requirement
from trl import GRPOTrainer

from rlperc import Completion, reward
from rlperc.reward.contract import describe
from rlperc.reward.runner import RewardRunner
from rlperc.reward.trl import TrlReward
from rlperc.train.trl_overrides import RlpercGRPOTrainer
from rlperc.words.response import Tags


def test_the_installed_trl_is_the_supported_one() -> None:
    declared = [Requirement(text) for text in importlib.metadata.requires("rlperc")]
    (trl_requirement,) = [requirement for requirement in declared if requirement.name == "trl"]
    assert trl_requirement.specifier.contains(trl.__version__)


def test_calculate_rewards_is_as_it_was() -> None:
    assert list(inspect.signature(GRPOTrainer._calculate_rewards).parameters) == [
        "self",
        "inputs",
        "prompts",
        "completions",
        "completion_ids_list",
    ]
    source = inspect.getsource(GRPOTrainer._calculate_rewards)
    assert "rewards_per_func = gather(rewards_per_func)" in source  # of all processes, groups together
    assert source.rstrip().endswith("return rewards_per_func")  # before weights
    assert "self._calculate_rewards(inputs, prompts, completions, completion_ids_list)" in inspect.getsource(
        GRPOTrainer._generate_and_score_completions
    )


def test_metrics_are_logged_from_where_we_add_to_them() -> None:
    assert "self._metrics[mode].items()" in inspect.getsource(GRPOTrainer.log)
    assert "self.reward_func_names" in inspect.getsource(GRPOTrainer.__init__)


def test_nothing_else_is_overridden() -> None:
    ours = set(vars(RlpercGRPOTrainer)) - {"__module__", "__doc__", "__init__"}
    assert {name for name in ours if hasattr(GRPOTrainer, name)} == {"_calculate_rewards"}


def test_a_fault_is_not_held_against_its_completion() -> None:
    @reward()
    def ours(completion: Completion) -> float:
        return 0.0

    def theirs(completions: list, **kwargs: object) -> list[float]:
        return []

    trainer = object.__new__(RlpercGRPOTrainer)
    trainer.num_generations = 4
    trainer.reward_funcs = [TrlReward(RewardRunner(describe(f, "here"), {}), Tags(), 4) for f in (ours, theirs)]
    trainer._ours = trainer.reward_funcs
    nan = float("nan")
    rewards = torch.tensor([[1.0, 1.0], [nan, nan], [0.0, 0.0], [0.5, 0.5], [nan, 1], [nan, 1], [nan, 1], [nan, 1]])
    settled = trainer._without_faults(rewards)
    # By hand: the mean of 1, 0 and 0.5 is 0.5, so that the faulty completion stands where its group stands.
    assert settled[:4, 0].tolist() == [1.0, 0.5, 0.0, 0.5]
    assert settled[4:, 0].isnan().all()  # the row is not the reward's
    assert settled[1, 1].isnan()  # what TRL's own functions mean by None stays what TRL makes of it
