"""Every file of the collection: its golden cases, and what holds for all of them."""

import ast
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.reward.plugins import collection, find_reward
from rlperc.reward.runner import run_reward
from rlperc.words.response import read_response

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(collection())


def cases(name: str) -> list[dict]:
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]


ALL_CASES = [(name, case) for name in NAMES for case in cases(name)]


@pytest.mark.parametrize(("name", "case"), ALL_CASES, ids=[f"{name}: {case['case']}" for name, case in ALL_CASES])
def test_golden_case(name: str, case: dict) -> None:
    columns = {column: [value] for column, value in case["columns"].items()}
    read = [read_response(case["completion"])]
    (outcome,) = run_reward(find_reward(name), read, columns, case.get("settings", {}))
    assert outcome.value == case["score"]
    assert outcome.why == case.get("why", "")


@pytest.mark.parametrize("name", NAMES)
def test_golden_cases_cover_the_contract(name: str) -> None:
    scores = [case["score"] for case in cases(name)]
    assert 1.0 in scores
    assert any(case["score"] == 0.0 and case["why"] for case in cases(name))


@pytest.mark.parametrize("name", NAMES)
def test_file_has_one_reward_with_its_name_and_its_source(name: str) -> None:
    reward = find_reward(name)
    assert reward.name == name
    assert reward.style == "rlperc"
    assert reward.summary
    source = collection()[name].read_text()
    assert "Source:" in (ast.get_docstring(ast.parse(source)) or "")
    imports = [node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert all(module.split(".")[0] == "rlperc" for module in imports)
    assert len(source.splitlines()) <= 150


TEXT = st.lists(
    st.sampled_from(
        ["<perception>", "</perception>", "<think>", "</think>", "<answer>", "</answer>", "[[8,7],[1,1]]", "17", "[["]
    )
    | st.text(max_size=20)
).map("".join)


@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
@settings(max_examples=60)
def test_any_text_scores_within_range_and_skipping_depends_on_the_row(name: str, texts: list[str]) -> None:
    reward = find_reward(name)
    for case in cases(name):
        columns = {column: [value] * len(texts) for column, value in case["columns"].items()}
        outcomes = run_reward(reward, [read_response(text) for text in texts], columns, case.get("settings", {}))
        assert {outcome.status for outcome in outcomes} == {"skip" if case["score"] is None else "value"}


def test_scores_survive_pickling() -> None:
    reward = find_reward("answer_number")
    outcomes = run_reward(reward, [read_response("<answer>1</answer>")], {"answer": ["1"]}, {})
    assert pickle.loads(pickle.dumps(outcomes)) == outcomes
