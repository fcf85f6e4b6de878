"""What a study's file may say, and the trainings that follow from it. Nothing trains here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from launch import ROOT
from studies import CLAIMS, RECIPE, changed, write

from rlperc.cli import main
from rlperc.errors import RecipeError
from rlperc.recipe.load import dump_recipe, load_recipe
from rlperc.study.files import find_study, load_study, narrow
from rlperc.study.jobs import Job, jobs_of, plan
from rlperc.study.plan import Study

SHIPPED = sorted((ROOT / "recipes" / "reproduce").glob("*.yaml"))
Change = tuple[str, Any]


def planned(file: Path, out: Path) -> tuple[Study, dict[Job, str]]:
    """A study of one seed, and its jobs' recipes."""
    study = load_study(file)
    study = narrow(study, study.seeds[:1], None)
    return study, plan(study, jobs_of(study, out), file.parent)


def fault(folder: Path, *changes: Change, recipe: str = RECIPE) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        planned(write(folder, changed(*changes), recipe), folder / "out")
    return caught.value


# --- what ships ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_study_can_be_planned_and_its_recipes_read_back_as_themselves(file: Path, tmp_path: Path) -> None:
    study, found = planned(file, tmp_path / "out")
    assert len(found) == sum(len(study.runs_of(case)) for case in study.cases) > 0
    for job, text in found.items():
        (tmp_path / "again.yaml").write_text(text)
        recipe = load_recipe(tmp_path / "again.yaml")
        assert yaml.safe_load(dump_recipe(recipe)) == yaml.safe_load(text)
        assert (recipe.seed, recipe.output) == (job.seed, job.folder)
        assert (job.needs is None) or {stage.model.name for stage in recipe.stages} == {str(job.needs.folder / "model")}
    assert find_study(Path("recipes/reproduce") / file.name) == file
    assert not (tmp_path / "out").exists()


def test_what_ships_is_listed_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "/reproduce/" in line] == [f"recipes/reproduce/{file.name}" for file in SHIPPED]
    assert all(len(line.split("  ")[1]) > 20 for line in lines)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_run_of_a_shipped_study_is_looked_at(file: Path) -> None:
    study = load_study(file)
    shown = {run for runs in (*study.bars.values(), *(curve.runs for curve in study.curves)) for run in runs}
    claimed = {run for claim in study.claims for run in claim.runs}
    begun = {run.from_ for run in study.runs.values()}
    assert set(study.runs) <= shown | claimed | begun


def test_every_recipe_that_ships_beside_a_study_belongs_to_one() -> None:
    named = {recipe for file in SHIPPED for case in load_study(file).cases.values() for recipe in case.recipes.values()}
    assert named == set((ROOT / "recipes" / "reproduce").glob("*/*.yaml"))


# --- faults, in three beats ----------------------------------------------------------------------------------------------

TWO_CASES: list[Change] = [
    ("cases.one.recipes", {"sft": "small.yaml", "rl": "small.yaml"}),
    ("cases.two", {"recipes": {"rl": "small.yaml"}}),
    ("runs.plain.recipe", "rl"),
]
CLAIM = "claims.Warming gains"
NO_RUN = "there is no run 'plan'; did you mean 'plain'?"
# Changes; what the error has to say of what was asked, why it cannot be, and what to write instead ("" where `why` says it).
FAULTS: dict[str, tuple[list[Change], str, str, str]] = {
    "unknown key": ([("seedz", 1)], "the key 'seedz'", "none of that name", "did you mean 'seeds'?"),
    "of a case": ([("cases.one.wrds", {})], "the key 'wrds' in 'cases.one'", "none of that name", "did you mean 'words'?"),
    "of a run": ([("runs.plain.form", "x")], "the key 'form' in 'runs.plain'", "none of that name", "did you mean 'from'?"),
    "of a curve": ([("curves.0.ovr", "x")], "the key 'ovr'", "none of that name", "did you mean 'over'?"),
    "of an aim": ([("claims.0.aim", {"onc": 1})], "the key 'onc'", "none of that name", "did you mean 'once'?"),
    "of a need": (
        [("claims.0.needs", [{"run": "base", "measure": "a", "atleast": 1}])],
        "the key 'atleast'",
        "none of that name",
        "did you mean 'at_least'?",
    ),
    "a percentage": ([("claims.0.needs", [{"run": "base", "measure": "a", "at_least": 50}])], "at_least: 50", "", "at most 1"),
    "a measure": ([("claims.0.measure", "a_q")], "measure: a_q", "'a_r'", "'a_r'"),
    "a kind of claim": ([("claims.0.kind", "gian")], f"'{CLAIM}.kind: gian'", "none of that name", "did you mean 'gain'?"),
    "no kind": ([("claims.0", {"says": "s", "of": "plain", "over": "base"})], "claims", "'claims.s.kind' is missing", "kind: …"),
    "a seed below 0": ([("seeds", [-1])], "seeds.0: -1", "", "at least 0"),
    "no seed": ([("seeds", [])], "seeds", "at least 1 item", ""),
    "no case": ([("cases", {})], "cases", "at least 1 item", ""),
    "no stage": ([("runs.plain.stages", [])], "runs.plain.stages", "at least 1 item", ""),
    "a name with a blank": ([("cases.a b", {"recipes": {"sft": "small.yaml"}})], "a b", "", "letters, digits, - and _"),
    "one override": ([("runs.plain.set", "a=b")], "runs.plain.set: a=b", "a valid list", "[a, b]"),
    "a claim's run": ([("claims.0.of", "plan")], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "one of several": ([("claims.0.of", ["plain", "plan"])], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "what it is over": ([("claims.0.over", "plan")], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "what it is a share of": ([("claims.0.share_of", "plan")], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "a choice's run": ([("claims.0", CLAIMS["choice"] | {"of": {"x": "plan"}})], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "whom a choice asks": ([("claims.0", CLAIMS["choice"] | {"asked": "plan"})], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "a coupling's run": ([("claims.0", CLAIMS["coupling"] | {"run": "plan"})], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "a gap's run": ([("claims.0", CLAIMS["gap"] | {"over": "plan"})], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "more seeds of no recipe": ([("more_seeds", {"stf": [2]})], "study.yaml", "more_seeds.stf: no case has a recipe of", ""),
    "a seed of all, again": ([("more_seeds", {"sft": [2, 1]})], "study.yaml", "more_seeds.sft: all runs have seed 1 already", ""),
    "no base of a seed": (
        [("cases.one.recipes.rl", "small.yaml"), ("runs.plain.recipe", "rl"), ("more_seeds", {"rl": [2]})],
        "study.yaml",
        "more_seeds: 'plain' begins with 'base', which has no seed 2",
        "",
    ),
    "a case's run": ([("cases.one.stages", {"plan": ["see"]})], "study.yaml", f"cases.one.stages: {NO_RUN}", ""),
    "a case's stage": (
        [("cases.one.stages", {"plain": ["wram"]})],
        "the stage 'wram' of the study's run 'plain'",
        "none",
        "'warm'",
    ),
    "a need's run": ([("claims.0.needs", [{"run": "plan", "measure": "a"}])], "study.yaml", f"{CLAIM}: {NO_RUN}", ""),
    "a bar's run": ([("bars.Both", ["plan"])], "study.yaml", f"bars.Both: {NO_RUN}", ""),
    "a curve's run": ([("curves.0.runs", {"base": 1, "plan": 2})], "study.yaml", f"curves.steps: {NO_RUN}", ""),
    "a curve of one": ([("curves.0.runs", {"base": 1})], "curves", "at least 2 items", ""),
    "from nowhere": ([("runs.plain.from", "plan")], "study.yaml", f"runs.plain.from: {NO_RUN}", ""),
    "from itself": ([("runs.base.from", "base")], "study.yaml", "runs.base.from: base from base never begins", ""),
    "a circle": ([("runs.base.from", "plain")], "study.yaml", "runs.base.from: base from plain from base never begins", ""),
    "no case's recipe": ([("runs.plain.recipe", "stf")], "study.yaml", "runs.plain.recipe: no case has a recipe 'stf'", ""),
    "a case without the first": (TWO_CASES, "study.yaml", "runs.plain.from: in the case 'two' there is no run 'base'", ""),
    "a word it lacks": (
        [("runs.plain.set", ["seed=$rat"])],
        "'seed=$rat' in the study's run 'plain'",
        "the case 'one' has no word 'rat'; it has rate",
        "words: {",
    ),
    "a price": ([("runs.plain.set", ["name=$5"])], "'name=$5' in the study's run 'plain'", "here none follows", "$$"),
    "a stage it lacks": (
        [("runs.plain.stages", ["wram"])],
        "the stage 'wram' of the study's run 'plain'",
        "the recipe 'sft' of 'one' has none of that name",
        "did you mean 'warm'?",
    ),
    "a file it lacks": (
        [("cases.one.recipes.sft", "smal.yaml")],
        "smal.yaml in the study's case 'one'",
        "/smal.yaml",
        "a recipe",
    ),
    "an override": ([("runs.plain.set", ["stages.wram.kind=sft"])], "stages.wram.kind=sft", "no item 'wram'", "'warm'"),
    "a seed of its own": ([("runs.plain.set", ["seed=7"])], "one, plain: set: seed=7", "says every run's seed", "seeds: […]"),
    "a need that cannot hold": (
        [("claims.0.needs", [{"run": "base", "measure": "a", "at_least": 0.5, "at_most": 0.2}])],
        "needs",
        "nothing is at least 0.5 and at most 0.2",
        "",
    ),
    "over itself": ([("claims.0.over", "plain")], "study.yaml", f"{CLAIM}: 'plain' cannot gain over itself", ""),
    "an option": ([("runs.plain.set", ["train.max_stps=3"])], "one, plain: the option 'max_stps'", "SFTConfig", "'max_steps'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_no_study_can_say(name: str, tmp_path: Path) -> None:
    changes, asked, why, instead = FAULTS[name]
    error = fault(tmp_path, *changes)
    assert asked in error.asked
    assert why in error.why
    assert instead in error.instead
    assert not (tmp_path / "out").exists()


def test_no_fault_of_a_study_sends_its_author_to_the_check_of_recipes(tmp_path: Path) -> None:
    assert [name for name, (changes, *_) in FAULTS.items() if "rlperc check" in fault(tmp_path, *changes).instead] == []


def test_no_fault_speaks_of_a_part_that_is_called_none(tmp_path: Path) -> None:
    assert [name for name, (changes, *_) in FAULTS.items() if "None" in str(fault(tmp_path, *changes))] == []


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("gain", "aim, kind, measure, needs, of, over, published, says, share_of"),
        ("choice", "aim, asked, kind, measure, needs, of, over, published, says, share_of"),
        ("coupling", "aim, kind, needs, published, run, says, stage"),
        ("gap", "aim, kind, needs, of, over, published, says"),
    ],
)
def test_the_keys_offered_are_those_of_the_claims_own_kind(kind: str, keys: str, tmp_path: Path) -> None:
    error = fault(tmp_path, ("claims", [*CLAIMS.values(), CLAIMS[kind] | {"zzz": 1}]))
    assert "the key 'zzz'" in error.asked
    assert error.instead == f"one of: {keys}"


def test_a_run_that_is_called_like_a_kind_of_claim_is_a_run(tmp_path: Path) -> None:
    error = fault(tmp_path, ("runs.gap", {"recipe": "sft", "stages": ["see"], "sett": []}))
    assert (error.asked, error.instead) == ("the key 'sett' in 'runs.gap'", "did you mean 'set'?")


@pytest.mark.parametrize(
    "changes",
    [
        [("seeds", [0, 0])],  # one training, counted twice
        [("runs.plain.stages", ["warm", "warm"])],
        [("claims.0.of", [])],
        [("claims.0", CLAIMS["coupling"] | {"stage": "see"})],  # `plain` has no such stage
    ],
    ids=["seed twice", "stage twice", "gain of nothing", "coupling in a stage that its run lacks"],
)
def test_what_can_never_come_to_anything_is_said_before_hours_of_training(changes: list[Change], tmp_path: Path) -> None:
    fault(tmp_path, *changes)


def test_a_recipe_that_measures_nothing(tmp_path: Path) -> None:
    error = fault(tmp_path, recipe=RECIPE.partition("evaluate")[0])
    assert str(tmp_path / "small.yaml") in error.asked
    assert (error.why, error.instead) == ("it measures nothing", "evaluate: {data: …}")


@pytest.mark.parametrize(
    ("text", "why"),
    [("a: [1", "it is not YAML"), ("- 1", "it holds no keys"), ("seeds: [0]\nseeds: [1]", "'seeds' stands twice")],
)
def test_what_is_no_study(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_study(tmp_path / "study.yaml")
    assert caught.value.asked == f"the study {tmp_path}/study.yaml"
    assert why in caught.value.why


def test_a_reward_that_does_not_exist_is_said_with_case_and_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = write(tmp_path, changed(("runs.plain.set", ["evaluate.answer=answer_numbr"])))
    assert main(["study", str(file), "--check"]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'answer_number'?" in error
    assert "one, plain" in error


@pytest.mark.parametrize(
    ("arguments", "beats"),
    [
        (["--only", "on"], ["--only on", "no case of that name", "did you mean 'one'?"]),
        (["--seeds", "1", "-3"], ["--seeds -3", "at least 0", "--seeds 0 1 2"]),
        (["--seeds", str(2**32)], ["seed", "4294967296", "less than"]),
        (["--seeds", "1", "1"], ["--seeds 1 1"]),
        (["--jobs", "0"], ["--jobs 0", "at least one", "--jobs 1"]),
    ],
    ids=["case", "seed", "large seed", "seed twice", "jobs"],
)
def test_wrong_arguments_are_one_message(
    arguments: list[str], beats: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["study", str(write(tmp_path)), "--check", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("rlperc: ") == error.count("\n  why: ") == error.count("\n  instead: ") == 1
    assert all(beat in error for beat in beats), error


def test_a_study_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["study", str(tmp_path / "nothing.yaml")]) == 2
    error = capsys.readouterr().err
    assert f"the study {tmp_path}/nothing.yaml\n  why: there is no such file" in error
    assert "recipes/reproduce/tiny.yaml" in error


def test_check_says_how_much_there_is_to_do_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = write(tmp_path)
    assert main(["study", str(file), "--check", "--seeds", "4", "5", "6", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{file}: 6 runs; checking their recipes\nnothing wrong\n"
    assert not (tmp_path / "out").exists()


def test_a_recipe_and_a_study_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write(tmp_path)
    assert main(["check", str(study)]) == 2
    assert "this is a study" in capsys.readouterr().err
    assert main(["study", str(tmp_path / "small.yaml"), "--check"]) == 2
    assert f"rlperc train {tmp_path / 'small.yaml'}" in capsys.readouterr().err
