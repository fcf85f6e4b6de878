from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from launch import QUICKSTART

from rlperc.errors import RecipeError
from rlperc.recipe.load import _Loader, dump_recipe, load_recipe, recipes

SMALL = """\
model: {{name: some/model}}
data: {{world: digits, rows: 64, with: {{grid: 3}}}}
rewards: [{{use: answer_number}}, {{use: ./mine.py:f, weight: 0.5}}]
stages:
  - {{name: warm, kind: sft, data: {{with: {{noise: 0.2}}}}}}
  - {{name: reason, kind: grpo, rewards: [{{use: answer_number}}]{extra}}}
"""


def write(folder: Path, text: str = SMALL.format(extra="")) -> Path:
    file = folder / "small.yaml"
    file.write_text(text)
    return file


def test_every_stage_gets_the_recipes_defaults_under_its_own(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path))
    warm, reason = recipe.stages
    assert recipe.name == "small"
    assert recipe.output == Path("runs/small")
    assert warm.data.with_ == {"grid": 3, "noise": 0.2}
    assert (reason.data.with_, reason.data.rows) == ({"grid": 3}, 64)
    assert [use.use for use in warm.rewards] == ["answer_number", f"{tmp_path}/mine.py:f"]
    assert [use.use for use in reason.rewards] == ["answer_number"]
    assert reason.model.name == "some/model"


def test_data_from_another_source_inherits_nothing(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL.format(extra=", data: {file: rows.jsonl}")))
    data = recipe.stages[1].data
    assert (data.world, data.file, data.rows, data.with_) == (None, tmp_path / "rows.jsonl", None, {})


@pytest.mark.parametrize("file", sorted(recipes().values()), ids=lambda file: file.stem)
def test_a_resolved_recipe_reads_back_as_itself(file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(file)
    again = tmp_path / "recipe.yaml"
    again.write_text(dump_recipe(recipe))
    assert load_recipe(again) == recipe


def test_overrides_address_lists_by_name() -> None:
    recipe = load_recipe(
        QUICKSTART,
        "seed=7",
        "stages.reason.train.max_steps=20",
        "stages.reason.train.learning_rate=1e-5",
        "rewards.perception_cells.weight=0",
        "data.with.grid=3",
        "evaluate.curve.every=5",
        "stages.warm.data.with.misread={1: 7}",
    )
    reason = recipe.stages[2]
    assert recipe.seed == 7
    assert (reason.train["max_steps"], reason.train["learning_rate"]) == (20, 1e-5)
    assert {use.use: use.weight for use in reason.rewards}["perception_cells"] == 0
    assert recipe.stages[1].data.with_["misread"] == {1: 7}
    assert recipe.evaluate is not None
    assert recipe.evaluate.curve is not None
    assert recipe.evaluate.curve.every == 5
    assert recipe.evaluate.curve.data.with_["grid"] == 3


BAD = [
    ("seeed=1", "the key 'seeed'", "did you mean 'seed'"),
    ("model.tny=1", "the key 'tny' in 'stages.see.model'", "did you mean 'tiny'"),
    ("evaluate.dat.rows=3", "the key 'dat' in 'evaluate'", "did you mean 'data'"),
    ("stages.reson.train.max_steps=20", "'stages' has no item 'reson'", "did you mean 'reason'"),
    ("rewards.cells.weight=1", "'rewards' has no item 'cells'", "perception_cells"),
    ("seed=many", "'seed: many'", "integer"),
    ("stages.reason.kind=ppo2", "'stages.reason.kind: ppo2'", "'grpo'"),
    ("evaluate.curve.every=0", "'evaluate.curve.every: 0'", "at least 1"),
    ("model.tiny.hidden_size=100", "must be a multiple", "6"),
    ("model.name=a/b", "say either", "only one"),
    ("data.file=x.jsonl", "say one of world, file, folder, hub", "world and file"),
    ("data.split=dev", "train, validation and test", "dev"),
    ("stages.warm.name=see", "two stages are called", "see"),
    ("stages.warm.model.tiny.heads=2", "the same model", "lora"),
    ("seed", "it has no `=`", "a.b=c"),
    ("seed.x=1", "'seed' is the value 0", "path"),
    ("rewards.weight=1", "is a list", "rewards.weight.KEY"),
    ("rewards.answer_number=", "is a list", "rewards.answer_number=null"),
    ("rewards.answer_nmber=null", "'rewards' has no item 'answer_nmber'", "did you mean 'answer_number'?"),
    ("seed=[1", "not YAML", "quote"),
]


@pytest.mark.parametrize(("override", "asked", "instead"), BAD, ids=[override for override, _, _ in BAD])
def test_what_no_recipe_can_say(override: str, asked: str, instead: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, *(["seed=0", override] if override == "seed.x=1" else [override]))
    assert asked in str(caught.value)
    assert instead in str(caught.value)


def test_an_override_takes_an_item_out_of_a_list() -> None:
    whole = load_recipe(QUICKSTART)
    without = load_recipe(QUICKSTART, "rewards.perception_cells=null", "stages.see=null")
    assert [stage.name for stage in without.stages] == [stage.name for stage in whole.stages if stage.name != "see"]
    uses = [[use.use for use in recipe.stages[-1].rewards] for recipe in (whole, without)]
    assert uses[1] == [use for use in uses[0] if use != "perception_cells"] != uses[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "it is not YAML"),
        ("- 1\n- 2", "it holds no keys"),
        ("seed: 1\nseed: 2", "the key 'seed' stands twice"),
        ("seed: 1", "'stages' is missing"),
        ("!!python/object/apply:os.system ['true']", "it is not YAML"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, text))


def test_a_recipe_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match=r"no such file[\s\S]*quickstart"):
        load_recipe("recipes/quikstart.yaml")


def test_a_shipped_recipe_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/quickstart.yaml").name == "quickstart"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_in_any_notation_are_numbers(value: float) -> None:
    assert yaml.load(f"{value:e}", Loader=_Loader) == pytest.approx(value, rel=1e-5)
    assert yaml.load(repr(value), Loader=_Loader) == value
