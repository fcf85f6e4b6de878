"""Running rewards in this process: what counts as a score, what becomes of faults, how TRL calls them."""

import asyncio
import math
import pickle
from typing import Literal

import pytest

from rlperc import Completion, Score, reward
from rlperc.errors import MissingPackageError, PluginError, RecipeError, RewardError
from rlperc.reward.contract import Reward, Scorer, describe
from rlperc.reward.runner import Handling, RewardRunner, check_columns, check_settings
from rlperc.reward.trl import TrlReward
from rlperc.words.response import Tags, read_response

ONE = [read_response("x")]
SKIP, ZERO = Handling(on_error="skip"), Handling(on_error="zero")


def returning(value: object, low: float = 0.0, high: float = 1.0) -> Reward:
    @reward(range=(low, high))
    def mine(completion: Completion) -> object:
        return value

    return describe(mine, "here")


def as_trl(function: object, settings: dict | None = None, group_size: int = 2) -> TrlReward:
    return TrlReward(RewardRunner(describe(function, "here"), settings or {}), Tags(), group_size)


@pytest.mark.parametrize(
    ("returned", "value", "why"),
    [(1, 1.0, ""), (0.25, 0.25, ""), (True, 1.0, ""), (Score(0.5, "half"), 0.5, "half"), (None, None, "")],
)
def test_what_counts_as_a_score(returned: object, value: float | None, why: str) -> None:
    (outcome,) = RewardRunner(returning(returned), {}).run(ONE, {})
    assert (outcome.value, outcome.why) == (value, why)
    assert outcome.status == ("skip" if value is None else "value")


@pytest.mark.parametrize(
    ("returned", "status", "message"),
    [
        (math.nan, "nan", "it returned nan"),
        (-math.inf, "inf", "it returned -inf"),
        ("high", "error", "'high', which is not a number"),
        ([1.0], "error", "not a number"),
        ("0.5", "error", "'0.5', which is not a number"),
        (1.5, "error", "1.5, outside its declared range 0 to 1"),
        (Score(-0.1), "error", "outside its declared range"),
        (10**400, "error", "not a number"),
    ],
)
def test_what_does_not(returned: object, status: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        RewardRunner(returning(returned), {}).run(ONE, {})
    (skipped,) = RewardRunner(returning(returned), {}, SKIP).run(ONE, {})
    assert (skipped.status, skipped.value) == (status, None)
    assert message in skipped.why
    (zero,) = RewardRunner(returning(returned), {}, ZERO).run(ONE, {})
    assert (zero.status, zero.value) == (status, 0.0)


def test_zero_is_the_nearest_value_within_the_range() -> None:
    (outcome,) = RewardRunner(returning(math.nan, 1.0, 5.0), {}, ZERO).run(ONE, {})
    assert outcome.value == 1.0


def test_a_reward_that_raises_names_its_error() -> None:
    @reward()
    def broken(completion: Completion) -> float:
        return 1 / 0

    with pytest.raises(RewardError, match="ZeroDivisionError: division by zero") as caught:
        RewardRunner(describe(broken, __file__), {}).run(ONE * 3, {})
    assert "line " in caught.value.why
    assert "(on completion 1 of 3, and on 2 more)" in caught.value.why
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_too_many_faults_stop_the_run_all_the_same() -> None:
    @reward()
    def often(completion: Completion, good: bool) -> float:
        if not good:
            raise ValueError("no")
        return 1.0

    runner = RewardRunner(describe(often, "here"), {}, Handling(on_error="skip", max_error_share=0.15))
    runner.run(ONE * 100, {"good": [True] * 90 + [False] * 10})
    with pytest.raises(RewardError, match="it failed on 22 of the last 112 completions, most often because it raised ValueError"):
        runner.run(ONE * 12, {"good": [False] * 12})
    assert runner.counts == {"value": 90, "error": 22}


def test_a_missing_package_is_never_a_score() -> None:
    @reward()
    def needy(completion: Completion) -> float:
        import a_package_that_is_not_there  # noqa: F401

        return 1.0

    for handling in (SKIP, ZERO, None):
        with pytest.raises(MissingPackageError, match="a_package_that_is_not_there"):
            RewardRunner(describe(needy, "here"), {}, handling).run(ONE, {})


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
    outcomes = RewardRunner(described, {"factor": 0.5}).run(ONE * 2, columns)
    assert [outcome.value for outcome in outcomes] == [0.5, 0.0]


def test_settings_are_held_to_their_types() -> None:
    @reward
    def mine(
        completion: Completion, *, within: float = 1.0, mode: Literal["a", "b"] = "a", names: list[str] | None = None
    ) -> float:
        return 0.0

    described = describe(mine, "here")
    check_settings(described, {"within": 2, "mode": "b", "names": ["x"]})
    for settings, message in [
        ({"within": "hi"}, "`with: {within: hi}`.*\n.*should be a valid number.*\n.*within: float"),
        ({"mode": "c"}, "should be 'a' or 'b'"),
        ({"names": "x"}, "valid list"),
    ]:
        with pytest.raises(RecipeError, match=message):
            check_settings(described, settings)


@reward(scope="group")
def longest(completions: list[Completion], bonus: float) -> list[float] | None:
    """1 for the longest of its group; rows without a bonus are not its own."""
    if bonus is None:
        return None
    most = max(len(one.text) for one in completions)
    return [bonus * (len(one.text) == most) for one in completions]


def test_a_group_reward_sees_whole_groups_wherever_they_stand() -> None:
    completions = [read_response(text) for text in ("a", "bbb", "cc", "d", "ee")]
    columns = {"bonus": [1.0, 0.5, 1.0, None, 0.5]}
    outcomes = RewardRunner(describe(longest, "here"), {}).run(completions, columns, groups=[[0, 2], [1, 4], [3]])
    assert [outcome.value for outcome in outcomes] == [0.0, 0.5, 1.0, None, 0.0]
    for groups in (None, [[0, 1]], [[0, 1, 2, 3, 4, 4]]):
        with pytest.raises(RewardError, match="it is not known which belong together"):
            RewardRunner(describe(longest, "here"), {}).run(completions, columns, groups=groups)


def test_a_group_reward_of_the_wrong_length_fails_its_group_alone() -> None:
    @reward(scope="group")
    def short(completions: list[Completion]) -> list[float]:
        return [1.0] * (len(completions) - completions[0].text.count("!"))

    completions = [read_response(text) for text in ("a", "b", "!", "c")]
    outcomes = RewardRunner(describe(short, "here"), {}, SKIP).run(completions, {}, groups=[[0, 1], [2, 3]])
    assert [outcome.value for outcome in outcomes] == [1.0, 1.0, None, None]
    assert outcomes[2].why == "it returned 1 scores for 2 completions"


def test_a_batch_reward_gets_lists() -> None:
    @reward(scope="batch")
    def ranked(completions: list[Completion], answer: list[str]) -> list[float]:
        return [answer.index(one.text) / len(answer) for one in completions]

    columns = {"answer": ["b", "a"]}
    outcomes = RewardRunner(describe(ranked, "here"), {}).run([read_response("a"), read_response("b")], columns)
    assert [outcome.value for outcome in outcomes] == [0.5, 0.0]


def test_async_rewards_wait_together_and_each_has_its_own_limit() -> None:
    waiting, most = 0, 0

    @reward(timeout_s=0.2)
    async def slow(completion: Completion) -> float:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(9 if completion.text == "hang" else 0.02)
        waiting -= 1
        if completion.text == "raise":
            raise TimeoutError("its own")
        return 1.0

    runner = RewardRunner(describe(slow, "here"), {}, SKIP)
    outcomes = runner.run([read_response(text) for text in ("a", "hang", "b", "raise")], {})
    assert [outcome.status for outcome in outcomes] == ["value", "timeout", "value", "error"]
    assert outcomes[1].why == "it took longer than its 0.2 s"
    assert "TimeoutError: its own" in outcomes[3].why
    assert most == 4
    assert [outcome.value for outcome in runner.run(ONE, {})] == [1.0]  # the loop lives on


def test_a_scorer_reaches_the_reward_that_asks_for_it() -> None:
    @reward(scope="batch")
    def sure(completions: list[Completion], *, scorer: Scorer, scale: float = 1.0) -> list[float]:
        return [scale * value for value in scorer.perception_logprobs([[]] * len(completions))]

    class Half:
        def perception_logprobs(self, images: list) -> list[float]:
            return [0.5] * len(images)

    described = describe(sure, "here")
    assert described.needs_scorer
    assert described.settings == {"scale": 1.0}
    outcomes = RewardRunner(described, {"scale": 0.5}).run(ONE * 2, {}, scorer=Half())
    assert [outcome.value for outcome in outcomes] == [0.25, 0.25]
    with pytest.raises(RecipeError, match="it works on the model"):
        RewardRunner(described, {}, Handling(isolate=True))


def test_a_scorer_is_for_whole_batches() -> None:
    @reward()
    def one(completion: Completion, *, scorer: Scorer) -> float:
        return 0.0

    with pytest.raises(PluginError, match="about a whole batch at once"):
        describe(one, "here")


def test_as_trl_calls_it() -> None:
    @reward()
    def mine(completion: Completion, answer: str) -> Score:
        return Score(float(completion.answer == answer), why=f"{completion.tokens} tokens")

    logged: dict[str, list[str]] = {}
    function = as_trl(mine)
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

    function = as_trl(plain)
    with pytest.raises(RewardError, match=message):
        function(prompts=["p", "p"], completions=["a", "b"], completion_ids=[[], []])


def test_a_plain_trl_function_may_be_async() -> None:
    async def plain(completions: list, **kwargs: object) -> list[float]:
        await asyncio.sleep(0)
        return [float(len(text)) for text in completions]

    assert as_trl(plain)(prompts=["p", "p"], completions=["a", "bb"], completion_ids=[[], []]) == [1.0, 2.0]


def test_groups_are_those_of_the_trainer() -> None:
    prompts = [
        [{"role": "user", "content": [{"type": "image", "image": object()}, {"type": "text", "text": text}]}] for text in "ppqq"
    ]
    arguments = {"completions": ["a", "bb", "c", "d"], "completion_ids": [[1]] * 4, "bonus": [1.0] * 4}
    assert as_trl(longest)(prompts=prompts, **arguments) == [0.0, 1.0, 1.0, 1.0]
    with pytest.raises(RewardError, match="the 4 completions of a prompt, and they do not stand together"):
        as_trl(longest, group_size=4)(prompts=prompts, **arguments)


def test_what_came_of_the_completions_goes_to_the_metrics() -> None:
    @reward()
    def picky(completion: Completion, mine: bool) -> float | None:
        return 1.0 if mine else None

    logged: dict[str, float] = {}
    function = as_trl(picky)
    arguments = {"prompts": ["p"] * 4, "completions": ["a"] * 4, "completion_ids": [[1]] * 4, "log_metric": logged.__setitem__}
    function(mine=[True] * 4, **arguments)
    assert set(logged.values()) == {0.0}
    function(mine=[True, False, False, False], **arguments)
    assert {name for name, value in logged.items() if value} == {"rewards/picky/skip"}
    assert logged["rewards/picky/skip"] == 0.75
    assert function.runner.counts == {"value": 5, "skip": 3}


@pytest.mark.parametrize("wrong", [{"scope": "groups"}, {"credits": "outcom"}, {"timeout_s": 0}, {"range": (1.0, 0.0)}])
def test_what_a_reward_may_not_declare(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        reward(**wrong)
