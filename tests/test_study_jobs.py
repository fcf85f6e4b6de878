"""From a study to its trainings: what is trained, in which order, with which recipe. Nothing trains here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import changed, leave, recipes_of, summary, write

from rlperc.errors import RecipeError
from rlperc.recipe.load import dump_recipe, load_recipe
from rlperc.study.files import load_study, narrow
from rlperc.study.jobs import Job, jobs_of, plan
from rlperc.study.plan import Study

Change = tuple[str, Any]
RL = """\
model: {tiny: {hidden_size: 24}, freeze: [vision]}
data: {world: digits, rows: 4, with: {grid: 1}}
rewards: [{use: answer_number}, {use: perception_cells, weight: 0}, {use: format_tags}]
stages:
  - {name: see, kind: contrast, train: {max_steps: 1, per_device_train_batch_size: 2}}
  - {name: reason, kind: grpo, train: {max_steps: 1, per_device_train_batch_size: 4, num_generations: 4, bf16: false}}
evaluate: {data: {split: test, rows: 2}, after: [see]}
"""


def study(folder: Path, *changes: Change) -> Study:
    (folder / "rl.yaml").write_text(RL)
    return load_study(write(folder, changed(*changes)))


def planned(folder: Path, *changes: Change, tiny: bool = False) -> dict[str, dict[str, Any]]:
    """The jobs' recipes, by "case run seed"."""
    found = study(folder, *changes)
    return {str(job): yaml.safe_load(text) for job, text in plan(found, jobs_of(found, folder / "out"), folder, tiny).items()}


def stage(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in recipe["stages"] if one["name"] == name]
    return found


def test_whole_seeds_come_first_and_each_job_after_the_one_it_needs(tmp_path: Path) -> None:
    last = {"recipe": "sft", "from": "plain", "stages": ["warm"]}
    backwards = {"last": last, "plain": {**last, "from": "base"}, "base": {"recipe": "sft", "stages": ["see"]}}
    found = study(tmp_path, ("runs", backwards), ("cases.two", {"recipes": {"sft": "small.yaml"}}), ("seeds", [7, 3]))
    jobs = jobs_of(found, tmp_path / "out")
    assert [str(job) for job in jobs] == [
        f"{case} {run} {seed}" for seed in (7, 3) for case in ("one", "two") for run in ("base", "plain", "last")
    ]
    for place, job in enumerate(jobs):
        assert job.folder == tmp_path / "out" / job.case / f"{job.run}-{job.seed}"
        if job.run == "base":
            assert job.needs is None
        else:
            assert job.needs in jobs[:place]
            assert (job.needs.case, job.needs.seed) == (job.case, job.seed)


def test_a_run_is_made_where_its_recipe_is(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        ("cases.two", {"recipes": {"rl": "rl.yaml"}}),
        ("runs.reason", {"recipe": "rl", "stages": ["reason"]}),
        ("seeds", [0]),
    )
    assert [str(job) for job in jobs_of(found, tmp_path)] == ["one base 0", "one plain 0", "two reason 0"]


def test_no_stage_of_a_case_draws_another_ones_rows(tmp_path: Path) -> None:
    (tmp_path / "rl.yaml").write_text(RL)
    found = planned(
        tmp_path,
        ("cases.one.recipes", {"sft": "small.yaml", "other": "small.yaml", "rl": "rl.yaml"}),
        ("runs.again", {"recipe": "other", "stages": ["see", "warm"]}),
        ("runs.reason", {"recipe": "rl", "from": "plain", "stages": ["reason"]}),
        ("runs.told", {"recipe": "rl", "stages": ["see"], "set": ["data.seed=5"]}),
        ("seeds", [7]),
    )
    seeds = {run: {one["name"]: one["data"]["seed"] for one in recipe["stages"]} for run, recipe in found.items()}
    assert seeds == {
        "one base 7": {"see": 7000},
        "one plain 7": {"warm": 7001},
        "one again 7": {"see": 7000, "warm": 7001},  # the same rows as the other runs of that recipe
        "one reason 7": {"reason": 7101},
        "one told 7": {"see": 5},
    }


def test_a_recipes_runs_can_have_more_seeds(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        ("cases.one.recipes", {"sft": "small.yaml", "other": "small.yaml"}),
        ("runs.last", {"recipe": "other", "from": "plain", "stages": ["warm"]}),
        ("seeds", [3]),
        ("more_seeds", {"sft": [8, 5]}),
    )
    wanted = ["base 3", "plain 3", "last 3", "base 8", "plain 8", "base 5", "plain 5"]
    assert [str(job) for job in jobs_of(found, tmp_path)] == [f"one {job}" for job in wanted]
    # Those that the command names are all there are.
    assert {job.seed for job in jobs_of(narrow(found, [7], None), tmp_path)} == {7}
    assert len(jobs_of(narrow(found, None, ["one"]), tmp_path)) == 7


def test_seeds_and_cases_can_be_named(tmp_path: Path) -> None:
    found = study(tmp_path, ("cases.two", {"recipes": {"sft": "small.yaml"}}))
    assert [str(job) for job in jobs_of(narrow(found, [5], ["two"]), tmp_path)] == ["two base 5", "two plain 5"]
    assert narrow(found, None, None) == found


def test_a_run_has_the_stages_it_names_in_its_order_and_measures_only_those(tmp_path: Path) -> None:
    found = planned(tmp_path, ("runs.both", {"recipe": "sft", "stages": ["warm", "see"]}))
    names = {run: [one["name"] for one in found[f"one {run} 0"]["stages"]] for run in ("base", "plain", "both")}
    assert names == {"base": ["see"], "plain": ["warm"], "both": ["warm", "see"]}
    after = {run: found[f"one {run} 0"]["evaluate"]["after"] for run in ("base", "plain", "both")}
    assert after == {"base": ["see"], "plain": ["warm"], "both": ["see", "warm"]}
    # What a run begins with is measured by the run that leaves it.
    assert {recipe["evaluate"]["first"] for recipe in found.values()} == {False}


def test_a_case_can_have_other_stages_of_its_own(tmp_path: Path) -> None:
    two = {"recipes": {"sft": "small.yaml"}, "stages": {"base": ["warm", "see"]}}
    found = planned(tmp_path, ("cases.two", two), ("seeds", [0]))
    names = {job: [one["name"] for one in recipe["stages"]] for job, recipe in found.items()}
    assert names == {"one base 0": ["see"], "one plain 0": ["warm"], "two base 0": ["warm", "see"], "two plain 0": ["warm"]}
    assert found["two base 0"]["evaluate"]["after"] == ["see", "warm"]


def test_overrides_and_words_reach_the_recipe_and_the_runs_own_win_over_the_cases(tmp_path: Path) -> None:
    case = {"recipes": {"sft": "small.yaml"}, "words": {"rate": "1e-4", "stage": "warm"}}
    found = planned(
        tmp_path,
        ("cases.two", {**case, "set": ["stages.$stage.train.max_steps=5", "stages.warm.train.weight_decay=0.5"]}),
        ("cases.one.words.stage", "warm"),
        ("runs.plain.set", ["stages.${stage}.train.learning_rate=$rate", "stages.warm.train.max_steps=7"]),
        ("runs.twin", {"recipe": "sft", "stages": ["warm"]}),
    )
    one, two, twin = (stage(found[f"{name} 0"], "warm")["train"] for name in ("one plain", "two plain", "two twin"))
    assert (one["learning_rate"], one["max_steps"], one.get("weight_decay")) == (1e-3, 7, None)
    assert (two["learning_rate"], two["max_steps"], two["weight_decay"]) == (1e-4, 7, 0.5)
    assert (twin.get("learning_rate"), twin["max_steps"], twin["weight_decay"]) == (None, 5, 0.5)


def test_a_choice_is_between_rewards_that_the_run_it_asks_has(tmp_path: Path) -> None:
    def asking(reward: str) -> dict[str, Any]:
        return {"says": "s", "kind": "choice", "of": {reward: "reason"}, "asked": "reason", "over": "reason"}

    rl = ("cases.one.recipes.rl", "rl.yaml"), ("runs.reason", {"recipe": "rl", "stages": ["reason"]})
    assert planned(tmp_path, *rl, ("claims", [asking("perception_cells")]))
    with pytest.raises(RecipeError) as error:
        planned(tmp_path, *rl, ("claims", [asking("perception_cell")]))
    assert error.value.asked == "one, reason: a claim's choice of 'perception_cell'"
    assert "did you mean 'perception_cells'" in error.value.instead


@pytest.mark.parametrize(
    ("claim", "rewards", "said"),
    [
        ({"kind": "choice", "of": {"format_tags": "reason"}, "asked": "reason", "over": "reason"}, "", "perception_exact"),
        ({"kind": "coupling", "run": "reason", "stage": "reason"}, "{use: perception_exact}", "answer_follows"),
        ({"kind": "coupling", "run": "reason", "stage": "reason"}, "{use: answer_follows}", "perception_exact"),
    ],
)
def test_correlations_are_asked_of_runs_that_have_both_sides(
    claim: dict[str, Any], rewards: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a claim would be "not measured" after all runs."""
    mine = f"[{{use: answer_number}}, {{use: format_tags}}{rewards and ', ' + rewards}]"
    monkeypatch.setitem(globals(), "RL", RL.replace(RL.splitlines()[2], f"rewards: {mine}"))
    rl = ("cases.one.recipes.rl", "rl.yaml"), ("runs.reason", {"recipe": "rl", "stages": ["reason"]})
    with pytest.raises(RecipeError, match="one, reason: a claim's") as error:
        planned(tmp_path, *rl, ("claims", [{"says": "s", **claim}]))
    assert said in error.value.instead


def test_a_coupling_is_asked_of_a_stage_that_the_case_makes(tmp_path: Path) -> None:
    rl = ("cases.one.recipes.rl", "rl.yaml"), ("runs.reason", {"recipe": "rl", "stages": ["reason"]})
    claim = {"says": "s", "kind": "coupling", "run": "reason", "stage": "reason"}
    with pytest.raises(RecipeError, match="the run does not make it here"):
        planned(tmp_path, *rl, ("claims", [claim]), ("cases.one.stages", {"reason": ["see"]}))


def test_a_run_begins_with_the_model_of_the_run_it_is_from(tmp_path: Path) -> None:
    found = planned(
        tmp_path,
        ("cases.one.recipes.rl", "rl.yaml"),
        ("runs.reason", {"recipe": "rl", "from": "plain", "stages": ["see", "reason"]}),
    )
    for seed in (0, 1):
        base, plain, reason = (found[f"one {run} {seed}"] for run in ("base", "plain", "reason"))
        assert base["stages"][0]["model"]["tiny"]["hidden_size"] == 24
        assert "name" not in base["stages"][0]["model"]
        assert stage(plain, "warm")["model"]["name"] == str(tmp_path / "out" / "one" / f"base-{seed}" / "model")
        for one in reason["stages"]:
            assert one["model"]["name"] == f"{plain['output']}/model"
            assert "tiny" not in one["model"]
            assert one["model"]["freeze"] == ["vision"]  # of the recipe it is, not of the one before
        assert [one["seed"] for one in (base, plain, reason)] == [seed] * 3
        assert [one["name"] for one in (base, plain, reason)] == ["one-base", "one-plain", "one-reason"]


def test_a_planned_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    found = study(tmp_path, ("runs.plain.set", ["stages.warm.reweight={mode: fixed, perception: 0.5}"]))
    for job, text in plan(found, jobs_of(found, tmp_path / "out"), tmp_path).items():
        (tmp_path / "again.yaml").write_text(text)
        recipe = load_recipe(tmp_path / "again.yaml")
        assert yaml.safe_load(dump_recipe(recipe)) == yaml.safe_load(text)
        assert recipe.output == job.folder


def test_paths_in_a_studys_overrides_count_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": "?", "response": "1", "answer": "1"}) + "\n")
    own = ["stages.warm.data={file: mine.jsonl}"]
    for tiny in (False, True):
        warm = stage(planned(tmp_path, ("runs.plain.set", own), tiny=tiny)["one plain 0"], "warm")
        assert warm["data"]["file"] == str(tmp_path / "mine.jsonl")


def test_tiny_trains_two_steps_of_random_models_but_begins_with_what_the_first_run_left(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(
        "model: {name: HuggingFaceTB/SmolVLM-256M-Instruct, revision: main, dtype: bfloat16}\n"
        "data: {world: digits, rows: 4000, with: {grid: 1}}\ntrain: {max_steps: 500, per_device_train_batch_size: 64}\n"
        "stages: [{name: see, kind: sft}, {name: warm, kind: sft}]\nevaluate: {data: {split: test, rows: 512}}\n"
    )
    found = planned(tmp_path, ("cases.one.recipes.sft", "real.yaml"), tiny=True)
    base, plain = (found[f"one {run} 0"] for run in ("base", "plain"))
    assert [one["train"]["max_steps"] for one in (*base["stages"], *plain["stages"])] == [2, 2]
    assert base["stages"][0]["model"]["tiny"]["architecture"] == "idefics3"
    assert (base["output"], base["evaluate"]["data"]["rows"]) == (str(tmp_path / "out" / "one" / "base-0"), 16)
    model = stage(plain, "warm")["model"]
    assert (model["name"], "tiny" in model, "revision" in model) == (f"{base['output']}/model", False, False)


@pytest.mark.parametrize("name", ["a study", "study #1", "study: again", "a$word", "100%"])
def test_a_studys_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    found = study(tmp_path)
    for job, text in plan(found, jobs_of(found, tmp_path / name), tmp_path).items():
        assert yaml.safe_load(text)["output"] == str(job.folder)


# --- folders -------------------------------------------------------------------------------------------------------------


def begun(folder: Path, *changes: Change) -> tuple[Study, list[Job]]:
    """A study of which the first job is done."""
    found = study(folder, *changes)
    recipes = recipes_of(found, folder / "out")
    first = next(iter(recipes))
    leave(first, summary(a=0.5))
    first.file.write_text(recipes[first])
    return found, list(recipes)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_study_that_has_begun_goes_on(tmp_path: Path) -> None:
    found, jobs = begun(tmp_path)
    assert list(plan(found, jobs, tmp_path)) == jobs
    assert [job.summary() is not None for job in jobs] == [True, False, False, False]


def test_the_run_of_another_recipe_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    _, jobs = begun(tmp_path)
    before = contents(tmp_path / "out")
    other = study(tmp_path, ("runs.base.set", ["stages.see.train.max_steps=3"]))
    with pytest.raises(RecipeError) as caught:
        plan(other, jobs_of(other, tmp_path / "out"), tmp_path)
    error = caught.value
    assert str(tmp_path / "out") in error.asked
    assert f"{jobs[0].folder} holds a run of another recipe than the study's one base 0 is now" in error.why
    assert str(jobs[0].folder) in error.instead
    assert contents(tmp_path / "out") == before


def test_a_run_is_not_compared_with_a_model_that_it_did_not_begin_with(tmp_path: Path) -> None:
    found, jobs = begun(tmp_path)
    base, plain = jobs[:2]
    text = plan(found, jobs, tmp_path)[plain]
    leave(plain, summary(a=0.5))
    plain.file.write_text(text)
    assert list(plan(found, jobs, tmp_path)) == jobs
    (base.folder / "summary.json").unlink()
    with pytest.raises(RecipeError, match="began with the model of one base 0, which is not there any more"):
        plan(found, jobs, tmp_path)


def test_a_folder_of_which_nothing_is_known_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    found, jobs = begun(tmp_path)
    jobs[0].file.unlink()
    before = contents(tmp_path / "out")
    with pytest.raises(RecipeError, match="base-0"):
        plan(found, jobs, tmp_path)
    assert contents(tmp_path / "out") == before


def test_more_runs_seeds_and_claims_may_come_to_a_study_that_has_begun(tmp_path: Path) -> None:
    begun(tmp_path)
    more = ("runs.more", {"recipe": "sft", "from": "base", "stages": ["warm"]})
    found = study(tmp_path, more, ("seeds", [0, 1, 2]), ("claims", []))
    assert len(plan(found, jobs_of(found, tmp_path / "out"), tmp_path)) == 9


@pytest.mark.parametrize("text", ['{"status": "running"}', '{"status": "failed"}', '{"status": "do', ""])
def test_a_run_that_is_not_done_has_no_summary(text: str, tmp_path: Path) -> None:
    job = Job("one", "base", 0, tmp_path / "one" / "base-0", None)
    assert job.summary() is None
    leave(job, summary(a=0.5))
    assert job.summary() == summary(a=0.5)
    (job.folder / "summary.json").write_text(text)
    assert job.summary() is None


def test_what_a_run_began_with_belongs_to_it(tmp_path: Path) -> None:
    """Where the first run is another one now, those that began with its model are, too; others stay."""
    apart = ("runs.apart", {"recipe": "sft", "stages": ["warm"]})
    before = study(tmp_path, apart)
    after = study(tmp_path, apart, ("runs.base.set", ["stages.see.train.weight_decay=0.5"]))
    texts = [plan(one, jobs_of(one, tmp_path / "out"), tmp_path) for one in (before, after)]
    changes = {job.run for job in texts[0] if texts[0][job] != texts[1][job]}
    assert changes == {"base", "plain"}
