"""Every snippet of recipes/README.md is lines of a stage that can run, and its tables say what the schema says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch import QUICKSTART, ROOT

from rlperc.recipe.check import check_recipe
from rlperc.recipe.credit import MODES, Ppo, Sum
from rlperc.recipe.load import _Loader, load_recipe
from rlperc.recipe.part import Part
from rlperc.recipe.rollout import Parity, Rollout
from rlperc.recipe.schema import Stage

README = (ROOT / "recipes" / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SNIPPETS = [text for _, text in BLOCKS]
OPTIMISERS = {
    "GRPO": "2402.03300",
    "Dr.GRPO": "2503.20783",
    "DAPO": "2503.14476",
    "GSPO": "2507.18071",
    "CISPO": "2506.13585",
    "RLOO": "2402.14740",
    "PPO": "1707.06347",
}


def named(snippet: str) -> str:
    return snippet.splitlines()[0].removeprefix("# ").partition(" (")[0]


def merged(snippet: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """The snippet's lines, and the quickstart with them in the place of its stage `reason`'s own."""
    lines = yaml.load(snippet, Loader=_Loader)
    recipe = yaml.load(QUICKSTART.read_text(), Loader=_Loader)
    stage = next(stage for stage in recipe["stages"] if stage["name"] == "reason")
    stage.update({**lines, "train": {**stage["train"], **lines.get("train", {})}})
    file = folder / "merged.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return lines, file


def test_every_block_is_lines_of_a_stage() -> None:
    assert {language for language, _ in BLOCKS} == {"yaml"}
    for snippet in SNIPPETS:
        assert set(yaml.load(snippet, Loader=_Loader)) <= set(Stage.model_fields) - {"name"}


@pytest.mark.parametrize("snippet", SNIPPETS, ids=named)
def test_every_snippet_makes_a_stage_that_can_run(snippet: str, tmp_path: Path) -> None:
    lines, file = merged(snippet, tmp_path)
    recipe = load_recipe(file)
    assert [note for note in check_recipe(recipe) if "vllm is not installed" not in note] == []
    stage = recipe.stages[-1]
    assert stage.kind == lines["kind"]
    assert lines.get("train", {}).items() <= stage.train.items()
    assert lines.get("blend", {}).items() <= stage.blend.model_dump().items()
    assert lines.get("ppo", {}).items() <= (stage.ppo.model_dump().items() if stage.ppo else set())
    assert [use["weight"] for use in lines.get("rewards", [])] == [use.weight for use in stage.rewards if "rewards" in lines]


def test_every_optimiser_is_there_with_its_paper() -> None:
    section = README.partition("## Optimisers")[2].partition("\n## ")[0]
    firsts = {named(text): text.splitlines()[0] for text in SNIPPETS if text in section}
    found = {name.partition(" ")[0]: re.findall(r"arXiv (\d{4}\.\d{5})", first) for name, first in firsts.items()}
    assert {name: papers[0] for name, papers in found.items() if papers} == OPTIMISERS
    assert "1506.02438" in found["PPO"]


def test_every_loss_is_one_of_the_installed_trls() -> None:
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "trainer" / "grpo_trainer.py").read_text()
    known = {word for line in re.findall(r"self\.loss_type (?:==|in) .*:", source) for word in re.findall(r'"(\w+)"', line)}
    used = {yaml.load(text, Loader=_Loader).get("train", {}).get("loss_type") for text in SNIPPETS} - {None}
    assert used == {"grpo", "dr_grpo", "dapo", "cispo"}
    assert used <= known


def options(model: type[Part], beside: type[Part] = Part) -> set[str]:
    """A model's options with their defaults, as a recipe would write them: what `beside` does not have, or otherwise."""
    own = {name: field.default for name, field in model.model_fields.items() if name != "mode"}
    others = {name: field.default for name, field in beside.model_fields.items()}
    different = {name: default for name, default in own.items() if name not in others or others[name] != default}
    return {f"{name}: {yaml.safe_dump(default).splitlines()[0]}" for name, default in different.items()}


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`(\w+: [\w.]+)`", text))


def test_the_table_of_modes_says_what_the_schema_says() -> None:
    told = README.partition("## Rollouts on vLLM")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", told, re.MULTILINE))
    rows.pop("mode")  # the header
    assert list(rows) == list(MODES)
    for mode, last in rows.items():
        assert quoted(last) == options(MODES[mode], Sum), mode


def test_the_table_of_ppos_options_says_what_the_schema_says() -> None:
    table = re.search(r"^\| `gamma.*?\n\n", README.partition("### PPO's options")[2], re.DOTALL | re.MULTILINE)
    assert table is not None
    assert quoted("".join(line.split("|")[1] for line in table[0].splitlines() if line)) == options(Ppo)


def test_the_table_of_rollouts_says_what_the_schema_says() -> None:
    section = README.partition("## Rollouts on vLLM")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", section, re.MULTILINE)
    told = {name: default for names, default in rows for name in re.findall(r"`([\w.]+)`", names)}
    told.pop("rollout", None)
    parity = {f"parity.{name}": field.default for name, field in Parity.model_fields.items()}
    own = {name: field.get_default(call_default_factory=True) for name, field in Rollout.model_fields.items() if name != "parity"}
    assert set(told) - {"rollout"} == set(own) | set(parity)
    for name, default in {**own, **parity}.items():
        if default is not None:
            assert told[name].strip("`") == str(default), name


def test_options_of_every_mode_are_explained() -> None:
    for option in set(Sum.model_fields) - {"mode"}:
        assert re.search(rf"^- `{option}`", README, re.MULTILINE), option
