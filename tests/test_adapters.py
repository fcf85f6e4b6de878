"""Rewards written for other trainers, each to the signature that its project documents."""

import pickle
from pathlib import Path

import pytest

from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.reward.trl import TrlReward
from rlperc.words.response import Tags, read_response

COMPLETIONS = [read_response(text, None, len(text)) for text in ("it is 4", "it is 5")]
GOLD = {"answer": ["4", "4"]}

VERL = '''
def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0.0):
    """Right where the text ends with the truth."""
    right = solution_str.endswith(ground_truth)
    if extra_info:
        return {"score": float(right) + bonus, "seen": extra_info["level"], "from": data_source}
    return float(right)
'''
EASY_ONE = """
REWARD_NAME = "ending"
REWARD_TYPE = "sequential"

def compute_score(reward_input, format_weight=0.1):
    right = float(reward_input["response"].endswith(reward_input["ground_truth"]))
    return {"overall": (1 - format_weight) * right, "accuracy": right, "length": reward_input["response_length"]}
"""
EASY_MANY = """
REWARD_TYPE = "batch"

def compute_score(reward_inputs: list[dict], format_weight: float = 0.1) -> list[dict]:
    return [{"overall": float(one["response"].endswith(one["ground_truth"])), "format": 0.0} for one in reward_inputs]
"""
SWIFT = '''
class ORM:
    """Stands in for the base class, which needs the whole of ms-swift."""
    def __init__(self, args=None, **kwargs):
        self.args = args

class Ending(ORM):
    """Right where the text ends with the solution."""
    def __call__(self, completions, solution, **kwargs):
        step = kwargs["trainer_state"].global_step
        return [step * float(text.endswith(gold)) for text, gold in zip(completions, solution)]
'''


def written(folder: Path, text: str, name: str = "theirs.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_verl(tmp_path: Path) -> None:
    reward = find_reward(written(tmp_path, VERL))
    assert (reward.name, reward.summary) == ("theirs", "Right where the text ends with the truth.")
    assert reward.columns == {"answer": True, "data_source": False, "extra_info": False}
    assert reward.settings == {"bonus": 0.0}
    outcomes = RewardRunner(reward, {}, Handling(isolate=False)).run(COMPLETIONS, GOLD)
    assert [outcome.value for outcome in outcomes] == [1.0, 0.0]
    columns = {**GOLD, "extra_info": [{"level": 3}, {"level": 4}], "data_source": ["gsm", "gsm"]}
    runner = RewardRunner(reward, {"bonus": 0.5})  # in a worker
    assert [(one.value, one.why) for one in runner.run(COMPLETIONS, columns)] == [
        (1.5, "seen=3, from=gsm"),
        (0.5, "seen=4, from=gsm"),
    ]
    runner.close()


def test_verl_may_be_async(tmp_path: Path) -> None:
    signature = "compute_score(data_source, solution_str, ground_truth, bonus=0.0)"
    text = f"async def {signature}:\n    return {{'score': 1.0 + bonus, 'n': 2}}\n"
    runner = RewardRunner(find_reward(written(tmp_path, text)), {"bonus": 0.5}, Handling(isolate=False))
    assert [(one.value, one.why) for one in runner.run(COMPLETIONS, GOLD)] == [(1.5, "n=2")] * 2


@pytest.mark.parametrize("isolate", [False, True])
def test_easyr1_one_at_a_time(tmp_path: Path, isolate: bool) -> None:
    reward = find_reward(written(tmp_path, EASY_ONE, "math.py"))  # as EasyR1 itself calls one
    runner = RewardRunner(reward, {"format_weight": 0.5}, Handling(isolate=isolate))
    assert [(one.value, one.why) for one in runner.run(COMPLETIONS, GOLD)] == [
        (0.5, "accuracy=1.0, length=7"),
        (0.0, "accuracy=0.0, length=7"),
    ]
    runner.close()


def test_easyr1_in_batches(tmp_path: Path) -> None:
    reward = find_reward(written(tmp_path, EASY_MANY))
    assert reward.scope == "batch"
    assert [one.value for one in RewardRunner(reward, {}, Handling(isolate=False)).run(COMPLETIONS, GOLD)] == [1.0, 0.0]


def test_ms_swift(tmp_path: Path) -> None:
    from types import SimpleNamespace

    reward = find_reward(written(tmp_path, SWIFT) + ":Ending")
    assert (reward.name, reward.summary) == ("Ending", "Right where the text ends with the solution.")
    assert reward.columns == {"solution": True}
    values = TrlReward(RewardRunner(reward, {}), Tags(), 2)(
        prompts=["p", "p"],
        completions=[[{"role": "assistant", "content": one.text}] for one in COMPLETIONS],
        completion_ids=[[], []],
        solution=["4", "4"],
        trainer_state=SimpleNamespace(global_step=7),
    )
    assert values == [7.0, 0.0]


def test_a_dictionary_without_its_score_is_a_fault(tmp_path: Path) -> None:
    text = "def compute_score(data_source, solution_str, ground_truth):\n    return {'acc': 1.0}\n"
    runner = RewardRunner(find_reward(written(tmp_path, text)), {}, Handling(on_error="skip", isolate=False))
    assert "KeyError: 'score'" in runner.run(COMPLETIONS, GOLD)[0].why


def test_adapted_rewards_travel(tmp_path: Path) -> None:
    for text, name in ((VERL, "a.py"), (EASY_MANY, "b.py")):
        reward = find_reward(written(tmp_path, text, name))
        assert pickle.loads(pickle.dumps(reward)).columns == reward.columns
