"""Recipes for real models, and `--tiny`, which tries them on random tiny ones."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from launch import PAID, QUICKSTART, ROOT, TORCHRUN, rlperc
from shipped import FILES, MEANT_FOR, trained_tiny

from rlperc.errors import RecipeError
from rlperc.recipe.batches import check_batches, group_size, responses_per_process
from rlperc.recipe.check import check_recipe
from rlperc.recipe.load import _Loader, load_recipe, load_tiny, recipes
from rlperc.recipe.rewards import load_rewards
from rlperc.recipe.schema import Recipe
from rlperc.recipe.tiny import make_tiny
from rlperc.reward.runner import RewardRunner
from rlperc.words.response import read_response

SMOL = FILES["grpo_smolvlm_500m"]
QWEN = FILES["grpo_qwen2_5_vl_7b_lora"]


def tiny(file: Path, *overrides: str) -> Recipe:
    return load_tiny(file, *overrides)[0]


def saying(folder: Path, text: str) -> str:
    """An override that names a model's folder, whose config.json is this text."""
    (folder / "config.json").write_text(text)
    return f"model.name={folder}"


def test_all_that_ship_are_looked_at_here() -> None:
    assert set(recipes()) == {*MEANT_FOR, "quickstart"}


@pytest.mark.parametrize("name", MEANT_FOR)
def test_check_finds_nothing_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine lacks is said, and is no fault."""
    for processes in (1, MEANT_FOR[name][0]):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        notes = check_recipe(load_recipe(FILES[name]))
        assert [note for note in notes if "is not installed here" not in note] == []


@pytest.mark.parametrize("processes", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("name", MEANT_FOR)
def test_tiny_ones_fit_into_any_number_of_processes(name: str, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    recipe = tiny(FILES[name])
    check_recipe(recipe)
    model = recipe.stages[0].model
    assert model.tiny is not None
    assert model.tiny.architecture == MEANT_FOR[name][1]
    real = load_recipe(FILES[name])
    assert (recipe.distributed, recipe.stages[-1].blend) == (real.distributed, real.stages[-1].blend)
    for ours, theirs in zip(recipe.stages, real.stages, strict=True):
        assert (ours.rewards, ours.model.lora, ours.model.freeze) == (theirs.rewards, theirs.model.lora, theirs.model.freeze)


def numbers(node: yaml.Node) -> Iterator[int]:
    """The lines that numbers stand on."""
    if isinstance(node, yaml.ScalarNode) and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        yield node.start_mark.line
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from numbers(value)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from numbers(value)


@pytest.mark.parametrize("name", MEANT_FOR)
def test_numbers_have_a_source(name: str) -> None:
    text = FILES[name].read_text()
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    assert "tried with --tiny, and not on" in text
    parts = dict((key.value, value) for key, value in yaml.compose(text, Loader=_Loader).value)
    of_stages = [dict((key.value, value) for key, value in stage.value) for stage in parts["stages"].value]
    looked_at = [parts["model"], *(stage[part] for stage in of_stages for part in ("data", "train", "rollout") if part in stage)]
    found = sorted({line for node in looked_at for line in numbers(node)})
    assert len(found) > 8
    for line in found:
        assert re.search(r"  # \w.{3,}", lines[line]), lines[line]


@pytest.mark.parametrize("name", MEANT_FOR)
def test_what_the_prompt_shows_is_what_is_paid(name: str) -> None:
    recipe = load_recipe(FILES[name])
    stage = recipe.stages[-1]
    shown = read_response(str(stage.data.prompt_template).partition("as in ")[2], recipe.tags)
    row = {"answer": "4", "perception": "[[3,1],[0,7]]"}
    for one in load_rewards(stage):
        (outcome,) = RewardRunner(one.reward, one.use.with_).run(
            [shown], {name: [row[name]] for name in one.reward.columns if name in row}
        )
        assert outcome.value == 1.0, one.reward.name


def test_the_readme_names_them_all() -> None:
    section = (ROOT / "recipes" / "README.md").read_text().partition("## Recipes for real models")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
    assert set(rows) == set(MEANT_FOR)
    for name, row in rows.items():
        recipe = load_recipe(FILES[name])
        model = recipe.stages[0].model
        assert str(model.name) in row
        assert ("LoRA" in row) == (model.lora is not None)
        assert {"zero2": "ZeRO-2", "zero3": "ZeRO-3", "ddp": "DDP"}[recipe.distributed] in row
        assert ("vLLM" in row) == (recipe.stages[-1].rollout.engine == "vllm")


# --- what --tiny changes ----------------------------------------------------------------------------------------------


def test_an_override_wins_wherever_it_is_said() -> None:
    recipe = tiny(
        SMOL,
        "train.logging_steps=3",
        "train.max_completion_length=99",  # the stage says its own, and --tiny changes that
        "stages.reason.train.max_steps=200",  # what the recipe says itself
        "stages.reason.data.rows=40",
        "model.tiny.hidden_size=48",
        "model.dtype=bfloat16",
        "evaluate.max_new_tokens=33",
        "rollout.engine=transformers",
        "output=here",
    )
    warm, reason = recipe.stages
    assert (warm.train["max_steps"], reason.train["max_steps"]) == (2, 200)
    assert reason.train["max_completion_length"] == 16
    assert warm.train["logging_steps"] == reason.train["logging_steps"] == 3
    assert (warm.data.rows, reason.data.rows) == (16, 40)
    assert reason.model.tiny is not None
    assert (reason.model.tiny.hidden_size, reason.model.tiny.image_size, reason.model.dtype) == (48, 64, "bfloat16")
    assert recipe.evaluate is not None
    assert (recipe.evaluate.max_new_tokens, recipe.evaluate.data.rows, str(recipe.output)) == (33, 16, "here")


def test_a_whole_part_that_is_given_stays() -> None:
    recipe = tiny(SMOL, "stages.reason.train={max_steps: 7, num_generations: 6, per_device_train_batch_size: 6}")
    assert recipe.stages[1].train == {"max_steps": 7, "num_generations": 6, "per_device_train_batch_size": 6}
    with pytest.raises(RecipeError, match="a group would be torn apart"):
        check_recipe(tiny(SMOL, "stages.reason.train.per_device_train_batch_size=3"))


def test_an_item_of_what_is_given_whole() -> None:
    given = ("stages.reason.rewards=[{use: answer_number}]", "stages.reason.rewards.answer_number.weight=2")
    assert tiny(SMOL, *given).stages[1].rewards[0].weight == 2


def test_vllm_draws_where_it_is_installed_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else found(name))
    recipe, changed = load_tiny(QWEN)
    assert recipe.stages[0].rollout.engine == "transformers"
    assert "transformers draws, because vllm is not installed here" in changed
    assert tiny(QWEN, "stages.reason.rollout.engine=vllm").stages[0].rollout.engine == "vllm"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found("json") if name == "vllm" else found(name))
    parallel = ("stages.reason.rollout.vllm.tensor_parallel_size=2", "stages.reason.rollout.vllm.max_model_len=4096")
    assert tiny(QWEN).stages[0].rollout.vllm == load_recipe(QWEN).stages[0].rollout.vllm
    assert tiny(QWEN, *parallel).stages[0].rollout.vllm["tensor_parallel_size"] == 2


def test_the_run_does_not_stand_in_the_real_ones_place() -> None:
    assert tiny(SMOL).output == Path("runs/grpo_smolvlm_500m-tiny")
    assert load_recipe(SMOL).output == Path("runs/grpo_smolvlm_500m")


def test_a_tiny_recipe_keeps_its_model() -> None:
    recipe, real = tiny(QUICKSTART), load_recipe(QUICKSTART)
    assert [stage.model for stage in recipe.stages] == [stage.model for stage in real.stages]
    assert [stage.train["max_steps"] for stage in recipe.stages] == [2, 2, 2]


@given(
    kind=st.sampled_from(["grpo", "rloo", "ppo"]),
    group=st.none() | st.integers(2, 16),
    steps=st.dictionaries(st.sampled_from(["gradient_accumulation_steps", "steps_per_generation"]), st.integers(1, 9)),
    processes=st.integers(1, 16),
)
def test_groups_stay_whole(kind: str, group: int | None, steps: dict[str, int], processes: int) -> None:
    train = {**steps, "generation_batch_size": 17, **({} if group is None else {"num_generations": group})}
    stage = {"name": "reason", "kind": kind, "model": {"name": "Qwen/Qwen3-VL-4B-Instruct"}, "data": {"world": "digits"}}
    data: dict[str, Any] = {"name": "r", "output": "runs/r", "stages": [{**stage, "train": train}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(processes))
        make_tiny(data, lambda *_: False)
    made = Recipe.model_validate(data).stages[0]
    check_batches(made, made.data.rows, processes)
    assert responses_per_process(made, processes) % group_size(made) == 0
    assert responses_per_process(made, processes) <= 8
    assert train["generation_batch_size"] == 17  # what it was given is not touched


def test_one_prompt_with_one_response() -> None:
    stage = {"name": "a", "kind": "ppo", "model": {"tiny": {}}, "data": {"world": "digits"}, "train": {"num_generations": 1}}
    data: dict[str, Any] = {"name": "r", "output": "runs/r", "stages": [stage]}
    make_tiny(data, lambda *_: False)
    assert data["stages"][0]["train"] == {
        "num_generations": 1,
        "max_steps": 2,
        "max_completion_length": 16,
        "per_device_train_batch_size": 2,
    }


# --- which architecture -----------------------------------------------------------------------------------------------


def test_a_model_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        load_tiny(SMOL, "model.name=someone/else")
    assert caught.value.asked == "--tiny with the model 'someone/else'"
    assert "config.json" in caught.value.why
    assert "model.tiny.architecture=" in caught.value.instead
    assert "idefics3, qwen2_5_vl, qwen3_vl, internvl" in caught.value.instead
    named = tiny(SMOL, "model.name=someone/else", "model.tiny.architecture=internvl").stages[0].model.tiny
    assert named is not None
    assert named.architecture == "internvl"


@pytest.mark.parametrize("name", ["Qwen/Qwen3-VL-30B-A3B-Instruct", "OpenGVLab/InternVL3_5-2B", "HuggingFaceTB/SmolVLM2-500M"])
def test_names_that_are_nearly_known(name: str) -> None:
    with pytest.raises(RecipeError, match="nor a name that rlperc knows"):
        load_tiny(SMOL, f"model.name={name}")


def test_a_folder_says_its_architecture(tmp_path: Path) -> None:
    made = tiny(SMOL, saying(tmp_path, '{"model_type": "qwen3_vl"}')).stages[0].model.tiny
    assert made is not None
    assert made.architecture == "qwen3_vl"
    with pytest.raises(RecipeError, match="it is a llava, of which rlperc builds no tiny one"):
        load_tiny(SMOL, saying(tmp_path, '{"model_type": "llava"}'))
    for broken in ("{}", "[]", "no json", '"qwen3_vl"'):
        with pytest.raises(RecipeError, match=r"its config.json (cannot be read|has no model_type)"):
            load_tiny(SMOL, saying(tmp_path, broken))


def test_so_does_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "models--someone--else"
    (kept / "snapshots" / "abc").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    (kept / "snapshots" / "abc" / "config.json").write_text('{"model_type": "internvl"}')
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    made = tiny(SMOL, "model.name=someone/else").stages[0].model.tiny
    assert made is not None
    assert made.architecture == "internvl"


# --- from the command line --------------------------------------------------------------------------------------------


def test_check_says_what_it_changed_in_one_line() -> None:
    done = rlperc("check", str(SMOL), "train.logging_steps=2", "--tiny")
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("tiny: a random idefics3 in float32 for HuggingFaceTB/SmolVLM-500M-Instruct; ")
    assert first.endswith("output=runs/grpo_smolvlm_500m-tiny")
    assert last.endswith("2 stages, nothing wrong")


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is here")
def test_what_cannot_be_built_here_is_said(tmp_path: Path) -> None:
    notes = check_recipe(tiny(QWEN))
    assert notes == ["model: the processor of qwen2_5_vl needs torchvision, which is not installed here"]
    done = rlperc("train", str(QWEN), "--tiny", f"output={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "a tiny qwen2_5_vl\n  why: its processor needs torchvision" in done.stderr


def test_smolvlm_256m(tmp_path: Path) -> None:
    summary = trained_tiny("grpo_smolvlm_256m", tmp_path / "run")
    assert set(summary["eval"]) == {"random", "before", "after"}


def test_smolvlm_500m_in_two_processes(tmp_path: Path) -> None:
    """Under ZeRO-2, with transformers where vLLM is not installed; on rewards that differ, so that it learns."""
    summary = trained_tiny("grpo_smolvlm_500m", tmp_path / "run", PAID, "evaluate.answer=answer_number", launcher=TORCHRUN)
    assert summary["processes"] == 2
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(entry["grad_norm"] > 0 for entry in steps if "grad_norm" in entry)
