"""Every file of the collection: its golden cases, and what holds for all of them."""

import ast
import pickle
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.cli import main
from rlperc.lint.golden import Case, golden_file, read_cases, run_cases
from rlperc.reward.attempt import Outcome, attempt, attempt_concurrently, attempt_many
from rlperc.reward.contract import Reward
from rlperc.reward.plugins import collection, find_reward
from rlperc.reward.runner import check_imports
from rlperc.words.response import Completion, read_response

NAMES = sorted(collection())
# These ask a server or the training model: test_judged_rewards.py, test_surrogates.py and test_training_rewards.py do.
ASKING = {"facts_hit", "image_dependence", "augment_consistency"}
GOLDEN = sorted(set(NAMES) - ASKING)


def cases(name: str) -> list[Case]:
    return read_cases(find_reward(name), golden_file(collection()[name]))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cases(name: str) -> None:
    results = run_cases(find_reward(name), golden_file(collection()[name]))
    assert [result for result in results if not result.passed] == []


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cases_cover_the_contract(name: str) -> None:
    expected = [one for case in cases(name) for one in case.expected]
    assert any(one.value == 1.0 for one in expected)
    assert any(one.value == 0.0 and one.why for one in expected)
    gold = [column for column, needed in find_reward(name).columns.items() if needed]
    assert not gold or any(one.status == "skip" for one in expected)  # what reads the row may find it is not its own
    assert len({case.name for case in cases(name)}) == len(cases(name))


@pytest.mark.parametrize("name", NAMES)
def test_file_has_one_reward_with_its_name_and_its_source(name: str) -> None:
    reward = find_reward(name)
    assert reward.name == name
    assert reward.style == "rlperc"
    assert reward.summary
    source = collection()[name].read_text()
    tree = ast.parse(source)
    assert "Source:" in (ast.get_docstring(tree) or "")
    imported = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    assert {module.split(".")[0] for module in imported} <= {"rlperc", *sys.stdlib_module_names}
    assert len(source.splitlines()) <= 150
    check_imports(reward)


def scored(reward: Reward, case: Case, texts: list[str]) -> list[Outcome]:
    """Texts in the place of a case's completions, all with the columns of its first."""
    read = [read_response(text, None, len(text)) for text in texts]
    if reward.is_async:
        return attempt_concurrently(reward, read, [case.columns] * len(read), case.settings, 5.0)
    if reward.scope == "group":
        return attempt_many(reward, read, case.columns, case.settings)
    return [attempt(reward, one, case.columns, case.settings) for one in read]


PIECES = [
    *("<perception>", "</perception>", "<think>", "</think>", "<answer>", "</answer>", "[[8,7],[1,1]]", "17", "[[", "]]"),
    *(
        '{"object": "',
        '"}',
        "[0, 0, 10, 10]",
        "(3, 4)",
        "NaN",
        "1e999",
        "\x00",
        "\ud800",
        "٣",
        "\\boxed{",
        "}",
        "9**9**9",
        "½",
        "'",
    ),
]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=20)).map("".join)


@pytest.mark.parametrize("name", GOLDEN)
@given(texts=st.lists(TEXT, min_size=2, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_text_scores_within_range_and_skipping_depends_on_the_row(name: str, texts: list[str]) -> None:
    reward = find_reward(name)
    for case in [case for case in cases(name) if len(case.expected) != 1 or reward.scope == "completion"][::3]:
        expected = {"skip" if case.expected[0].status == "skip" else "value"}
        assert {outcome.status for outcome in scored(reward, case, texts)} == expected, case.name


HUGE = {
    "10 MB of text": "a " * 5_000_000,
    "10 MB of tags": "<perception><answer>" * 500_000,
    "10 MB in the spans": f"<perception>{'[' * 5_000_000}</perception><answer>{'1' * 5_000_000}</answer>",
    "JSON 10,000 deep": f"<perception>{'[' * 10_000}{']' * 10_000}</perception><answer>{'[' * 10_000}{']' * 10_000}</answer>",
    "a tower of powers": "<perception>9**9**9**9</perception><answer>$9^{9^{9^{9}}}$</answer>",
    "Math-Verify#65": r"<answer>\boxed{\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}}</answer>",
    "a regex bomb": f"<perception>{'a' * 20_000}!</perception><answer>{'(a+)+' * 2_000}</answer>",
    "numbers too large": "<perception>[[1e999, 1e308], [9e307, 1]]</perception><answer>1e999</answer>",
    "digits of other scripts": "<perception>[[٨,٧],[١,١]]</perception><answer>١٧</answer>",
    "null bytes and a lone surrogate": "<perception>\x00[1]\ud800</perception><answer>\x00\udfff17</answer>",
    "nested tags": "<perception><perception>[[1]]</perception></perception><answer><answer>17</answer></answer>",
    "unclosed tags": "<perception>[[8,7],[1,1]] <think> 17 <answer>17",
}


@pytest.mark.parametrize("hostile", HUGE)
@pytest.mark.parametrize("name", GOLDEN)
def test_hostile_text_takes_little_time_and_is_a_score_with_a_reason(name: str, hostile: str) -> None:
    reward = find_reward(name)
    case = next(case for case in cases(name) if any(one.value == 1.0 for one in case.expected))
    scored(reward, case, ["warm up", "the imports"])
    began = time.process_time()
    outcomes = scored(reward, case, [HUGE[hostile], HUGE[hostile] + " "])
    seconds = time.process_time() - began
    assert {outcome.status for outcome in outcomes} == {"value"}
    assert all(outcome.value == 1.0 or outcome.why for outcome in outcomes)
    # Generous, for a busy machine: `rewards lint` holds bounded ones to 50 ms.
    assert seconds < (1.0 if reward.bounded else 4.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_reward_travels_as_its_name(name: str) -> None:
    again = pickle.loads(pickle.dumps(find_reward(name)))
    assert (again.name, again.columns, again.settings) == (name, find_reward(name).columns, find_reward(name).settings)


def test_outcomes_of_a_completion_depend_on_it_alone() -> None:
    reward = find_reward("answer_number")
    one, other = Completion("a", answer="1"), Completion("b", answer="2")
    forth = [attempt(reward, completion, {"answer": "1"}, {}) for completion in (one, other)]
    back = [attempt(reward, completion, {"answer": "1"}, {}) for completion in (other, one)]
    assert forth == back[::-1]


def test_lint_finds_nothing_in_the_collection(capsys: pytest.CaptureFixture) -> None:
    assert main(["rewards", "lint"]) == 0
    assert capsys.readouterr().out.count("nothing found") == len(NAMES)
