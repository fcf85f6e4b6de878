import math
import pickle

import pytest

from rlperc import Completion, Score, reward
from rlperc.errors import RecipeError, RewardError
from rlperc.reward.contract import Reward, describe
from rlperc.reward.runner import check_columns, check_settings, run_reward
from rlperc.reward.trl import TrlReward
from rlperc.words.response import Tags, read_response

ONE = [read_response("x")]


def returning(value: object, low: float = 0.0, high: float = 1.0) -> Reward:
    @reward(range=(low, high))
    def mine(completion: Completion) -> object:
        return value

    return describe(mine, "here")


@pytest.mark.parametrize(
    ("returned", "value", "why"),
    [(1, 1.0, ""), (0.25, 0.25, ""), (True, 1.0, ""), (Score(0.5, "half"), 0.5, "half"), (None, None, "")],
)
def test_what_counts_as_a_score(returned: object, value: float | None, why: str) -> None:
    (outcome,) = run_reward(returning(returned), ONE, {}, {})
    assert (outcome.value, outcome.why) == (value, why)
    assert outcome.status == ("skip" if value is None else "value")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (math.nan, "it returned nan"),
        (math.inf, "it returned inf"),
        ("high", "'high', which is not a number"),
        ([1.0], "not a number"),
        (1.5, "1.5, outside its declared range 0 to 1"),
        (Score(-0.1), "outside its declared range"),
    ],
)
def test_what_does_not(returned: object, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        run_reward(returning(returned), ONE, {}, {})


def test_a_reward_that_raises_names_its_error() -> None:
    @reward()
    def broken(completion: Completion) -> float:
        return 1 / 0

    with pytest.raises(RewardError, match="ZeroDivisionError: division by zero") as caught:
        run_reward(describe(broken, __file__), ONE, {}, {})
    assert "line " in caught.value.why
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_columns_and_settings_come_from_the_signature() -> None:
    @reward()
    def mine(completion: Completion, answer: str, hint: str = "none", *, factor: float, limit: int = 3) -> float:
        return factor * (answer == hint)

    described = describe(mine, "here")
    assert described.columns == {"answer": True, "hint": False}
    check_columns(described, ["answer"], "rows")
    with pytest.raises(RecipeError, match="needs the column 'answer'; the data has gold, question"):
        check_columns(described, ["question", "gold"], "rows")
    check_settings(described, {"factor": 1.0})
    with pytest.raises(RecipeError, match="needs the setting 'factor'"):
        check_settings(described, {"limit": 3})
    with pytest.raises(RecipeError, match="did you mean 'limit'"):
        check_settings(described, {"factor": 1.0, "limt": 3})
    columns = {"answer": ["a", "b"], "hint": ["a", "a"], "unread": [1, 2]}
    outcomes = run_reward(described, ONE * 2, columns, {"factor": 0.5})
    assert [outcome.value for outcome in outcomes] == [0.5, 0.0]


def test_as_trl_calls_it() -> None:
    @reward()
    def mine(completion: Completion, answer: str) -> Score:
        return Score(float(completion.answer == answer), why=f"{completion.tokens} tokens")

    logged: dict[str, list[str]] = {}
    function = TrlReward(describe(mine, "here"), {}, Tags())
    values = function(
        prompts=[[], []],
        completions=[[{"role": "assistant", "content": "<answer>1</answer>"}], "<answer>2</answer>"],
        completion_ids=[[1, 2, 3], [1]],
        answer=["1", "1"],
        log_extra=logged.__setitem__,
    )
    assert (function.__name__, values) == ("mine", [1.0, 0.0])
    assert logged == {"mine/why": ["3 tokens", "1 tokens"]}


@pytest.mark.parametrize(
    ("returned", "message"),
    [([1.0], "1 scores for 2 completions"), (None, "None instead of a list"), ([1.0, math.inf], "inf"), ([1.0, "x"], "'x'")],
)
def test_a_plain_trl_function_is_held_to_trls_contract(returned: object, message: str) -> None:
    def plain(completions: list, **kwargs: object) -> object:
        return returned

    function = TrlReward(describe(plain, "here"), {}, Tags())
    with pytest.raises(RewardError, match=message):
        function(prompts=["p", "p"], completions=["a", "b"], completion_ids=[[], []])
