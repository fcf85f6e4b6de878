"""What rlperc relies on inside TRL. A failure here means: TRL moved, look at rlperc/train/trl_overrides.py."""

import importlib.metadata
import inspect

import trl
from packaging.requirements import Requirement
from trl import GRPOTrainer

from rlperc.train.trl_overrides import RlpercGRPOTrainer


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
    assert set(vars(RlpercGRPOTrainer)) - {"__module__", "__doc__", "__init__", "_tag_names"} == {"_calculate_rewards"}
