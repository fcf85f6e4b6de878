"""A study's page and its numbers, from summaries that are written here. No training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

import pytest
from studies import RECIPE, STUDY, changed, leave, measured, moves, outcomes, summary, write

from rlperc.cli import main
from rlperc.recipe.folder import RunFolder
from rlperc.study.files import load_study, narrow
from rlperc.study.jobs import jobs_of, plan
from rlperc.study.page import lines_of, write_study

SCRIPT = "<script>alert('x')</script>"
ARM = {"recipe": "sft", "from": "base", "stages": ["warm"]}
# Every kind of claim, two cases, and every kind of plot.
WHOLE = changed(
    ("seeds", [0, 1, 2]),
    ("cases.two", {"recipes": {"sft": "small.yaml"}}),
    ("runs.vote", ARM),
    ("runs.blind", ARM),
    (
        "claims",
        [
            {"says": "Warming gains", "kind": "gain", "of": "plain", "over": "base", "aim": {"once": 10}},
            {
                "says": "The favoured one gains",
                "kind": "choice",
                "of": {"v": "vote", "b": "blind"},
                "asked": "base",
                "over": "plain",
            },
            {"says": "Outcome follows reasoning", "kind": "coupling", "run": "plain", "stage": "warm", "published": "0.65"},
            {"says": "Reasoning gains more", "kind": "gap", "of": "plain", "over": "base"},
        ],
    ),
    ("bars", {"Both": ["base", "plain"], "Arms": ["vote", "blind"]}),
)
ALL = {"a": [50, 51, 52], "a_p": [40, 41, 42], "a_r": [60, 61, 62]}


def whole(*cases: str) -> dict[Any, dict[str, Any]]:
    """What all runs leave in some cases."""
    done: dict[Any, dict[str, Any]] = {}
    for case in cases:
        better = {"a": [61, 62, 63], "a_p": [41, 42, 43], "a_r": [80, 81, 82]}
        done |= measured(case, base=ALL, plain=better, vote=[62, 64, 66], blind=[50, 50, 50])
        for seed in range(3):
            done[case, "base", seed]["coupling"] = moves(v=0.4, b=0.1)
            done[case, "plain", seed]["coupling"] = outcomes(0.8 + seed / 100, 0.3)
    return done


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


class Page:
    """A study that is written with what some of its runs left."""

    def __init__(
        self, folder: Path, study: dict[str, Any], done: dict[Any, dict[str, Any]], weights: tuple[float, ...] = ()
    ) -> None:
        self.file, self.out = write(folder, study), folder / "out"
        self.study = load_study(self.file)
        self.jobs = jobs_of(self.study, self.out)
        for job in self.jobs:
            if (job.case, job.run, job.seed) in done:
                leave(job, done[job.case, job.run, job.seed], weights if job.run == "plain" else ())
        self.write()

    def write(self) -> None:
        self.found = write_study(self.study, self.file, RunFolder(self.out), self.jobs, 2, "rlperc study study.yaml --jobs 2")
        self.text = (self.out / "report.html").read_text(encoding="utf-8")
        self.json = json.loads((self.out / "study.json").read_text(encoding="utf-8"), parse_constant=no_constant)

    def headings(self) -> list[str]:
        return re.findall(r"<h2>(.*?)</h2>", self.text)

    def part(self, heading: str) -> str:
        """What stands under a heading."""
        return self.text.partition(f"<h2>{heading}</h2>")[2].partition("<h2>")[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """All of it done in case one, nothing in two."""
    return Page(tmp_path_factory.mktemp("study"), WHOLE, whole("one"), weights=(0.2, 0.3, 0.5))


def test_study_json_holds_every_claim_and_every_run(page: Page) -> None:
    found = page.json
    assert (found["done"], found["planned"], found["seeds"], found["seconds"]) == (12, 24, [0, 1, 2], 720.0)
    assert [(claim["kind"], claim["verdict"]) for claim in found["claims"]] == [
        ("gain", "reproduced"),
        ("choice", "not reproduced"),
        ("coupling", "reproduced"),
        ("gap", "reproduced"),
    ]
    gain = found["claims"][0]
    # 61 - 50, 62 - 51, 63 - 52.
    assert gain["found"]["one"]["values"] == pytest.approx([11, 11, 11])
    assert gain["found"]["two"] == {"values": [], "mean": None, "sd": None, "interval": None, "lacks": "", "notes": []}
    assert (gain["aim"], gain["reached"]) == ("≥ +10 once", True)
    # 62 - 61, 64 - 62, 66 - 63: 1, 2, 3, whose interval is 2 -+ 2.484; the mean of the gap is 20 - 1.
    assert found["claims"][1]["found"]["one"]["notes"] == ["seed by seed: vote, vote, vote"]
    assert found["claims"][3]["found"]["one"]["mean"] == pytest.approx(19)
    header, *lines = found["runs"]["one"]
    assert header == ["run", "a", "a_p", "a_p_partial", "a_r", "a_o", "seeds", "seconds"]
    assert lines[0] == ["base", "51.0 (1.0)", "41.0 (1.0)", "–", "61.0 (1.0)", "–", "3", "60"]
    assert [line[0] for line in lines] == ["base", "plain", "vote", "blind"]
    assert found["runs"]["two"] == [header]


def test_the_page_says_what_became_of_each_claim(page: Page) -> None:
    sections = page.text.split('<section class="claim">')[1:]
    assert len(sections) == 4
    for section, claim, finding in zip(sections, WHOLE["claims"], page.found, strict=True):
        assert claim["says"] in section
        assert f'<span class="verdict {finding.verdict.replace(" ", "-")}">{finding.verdict}</span>' in section
    assert "Aim here: ≥ +10 once (reached)." in sections[0]
    assert "<td>+11.0 (0.0)</td>" in sections[0]
    assert "Published: 0.65." in sections[2]
    assert "<td>+0.51 (0.01)</td><td>[+0.49, +0.53]</td><td>+0.50, +0.51, +0.52</td>" in sections[2]
    assert "12 of 24 runs · seeds 0, 1, 2 · 12 minutes of" in page.text
    assert "<td>two</td><td>–</td><td></td><td></td>" in sections[0]
    assert "one: seed by seed: vote, vote, vote" in sections[1]


def test_the_page_begins_with_all_claims_at_a_glance(page: Page) -> None:
    overview = page.part("What became of the claims").partition("<section")[0]
    lines = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in re.findall(r"<tr>(.*?)</tr>", overview)]
    assert lines == [
        ["claim", "", "one", "two", "published"],
        ["Warming gains", "reproduced", "+11.0 (0.0)", "–", "–"],
        ["The favoured one gains", "not reproduced", "+2.0 (1.0)", "–", "–"],
        ["Outcome follows reasoning", "reproduced", "+0.51 (0.01)", "–", "0.65"],
        ["Reasoning gains more", "reproduced", "+19.0 (0.0)", "–", "–"],
    ]


def test_the_page_shows_its_plots_and_stands_alone(page: Page) -> None:
    assert page.headings() == [
        "What became of the claims",
        "Both",
        "Arms",
        "Over steps",
        "What the outcome reward moves with",
        "Does a surrogate's correlation foretell what it gains?",
        "The λ that each rule chose",
        "Every run",
        "How to repeat it",
    ]
    for heading in page.headings()[1:-2]:
        part = page.part(heading)
        assert part.count("<svg") == part.count("</svg>") == 1, heading  # case two has nothing to show
        assert "<figcaption>" in part
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert re.search(r"\bnan\b", page.text) is None


def test_the_page_says_how_to_repeat_it(page: Page) -> None:
    part = page.part("How to repeat it")
    assert "<pre>rlperc study study.yaml --jobs 2</pre>" in part
    assert "<summary>small.yaml</summary>" in part
    assert "hidden_size: 24" in part
    assert "trl" in part


def test_the_same_in_a_terminal(page: Page) -> None:
    lines = lines_of(page.found)
    assert lines[0] == "REPRODUCED: Warming gains (published –)"
    assert lines[1] == "  one  +11.0 (0.0)  [+11.0, +11.0]  +11.0, +11.0, +11.0"
    assert lines[2] == "  two  –"
    assert lines[3].startswith("NOT REPRODUCED: The favoured one gains")
    assert lines[4].endswith("seed by seed: vote, vote, vote")


def test_text_from_the_studys_files_is_never_markup(tmp_path: Path) -> None:
    study = changed(
        ("about", SCRIPT),
        ("claims.0.says", SCRIPT),
        ("claims.0.published", SCRIPT),
        ("claims.0.needs", [{"run": "base", "measure": "a", "at_least": 0.9}]),
        ("bars", {SCRIPT: ["base", "plain"]}),
        ("curves.0.over", SCRIPT),
        ("cases.one.words.rate", SCRIPT),
    )
    page = Page(tmp_path, study, measured(base=ALL, plain=ALL))
    assert "<script" not in page.text
    # About, says, published, a title and an axis; in the source these and a word.
    assert page.text.count("&lt;script&gt;") >= 11
    assert page.json["claims"][0]["says"] == SCRIPT
    assert page.found[0].verdict == "not testable at this scale"
    assert "would have to be at least 90" in page.text


def test_with_nothing_done_there_is_a_page_all_the_same(tmp_path: Path) -> None:
    page = Page(tmp_path, WHOLE, {})
    assert (page.json["done"], page.json["seconds"]) == (0, 0)
    assert {claim["verdict"] for claim in page.json["claims"]} == {"not measured"}
    assert page.text.count("not measured</span>") == 4
    assert "<svg" not in page.text
    assert "0 of 24 runs" in page.text


def test_with_one_seed_done_nothing_is_reproduced(tmp_path: Path) -> None:
    page = Page(tmp_path, WHOLE, {key: found for key, found in whole("one", "two").items() if key[2] == 1})
    assert {claim["verdict"] for claim in page.json["claims"]} == {"one seed only"}
    assert page.text.count("<td>one seed</td>") == 8
    assert "<svg" in page.text


def test_a_run_that_failed_is_not_done_and_a_torn_metric_is_left_out(tmp_path: Path) -> None:
    page = Page(tmp_path, STUDY, measured(base=[50, 50], plain=[60, 60]), weights=(0.2, 0.4))
    (plain,) = [job for job in page.jobs if (job.run, job.seed) == ("plain", 1)]
    (plain.folder / "summary.json").write_text('{"status": "failed", "error": "out of memory"}')
    other = next(job for job in page.jobs if (job.run, job.seed) == ("plain", 0))
    with (other.folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"kind": "train", "ste')
    page.write()
    assert (page.json["done"], page.json["claims"][0]["found"]["one"]["values"]) == (3, [pytest.approx(10)])
    assert "The λ that each rule chose" in page.text


def test_runs_of_other_numbers_of_processes_are_said_to_be_unlike(tmp_path: Path) -> None:
    done = measured(base=[50, 50], plain=[60, 60])
    for seed in range(2):
        done["one", "base", seed]["processes"] = 8
    assert "Some runs had 1, others 8 processes" in Page(tmp_path, STUDY, done).text


def test_what_is_not_testable_is_no_number_at_a_glance(tmp_path: Path) -> None:
    needs = [{"run": "base", "measure": "a", "at_least": 0.9}]
    page = Page(tmp_path, changed(("claims.0.needs", needs)), measured(base=[50, 50], plain=[60, 60]))
    overview = page.part("What became of the claims").partition("<section")[0]
    assert "<td>not testable</td>" in overview
    assert "+10.0" not in overview


def test_what_was_only_tried_says_so(tmp_path: Path) -> None:
    page = Page(tmp_path, STUDY, measured(base=[50], plain=[60]))
    said = "Its numbers and verdicts mean nothing."
    assert said not in page.text
    write_study(page.study, page.file, RunFolder(page.out), page.jobs, 1, "rlperc study study.yaml --tiny", tiny=True)
    assert said in (page.out / "report.html").read_text()


def test_seeds_that_only_some_runs_have_are_told_apart(tmp_path: Path) -> None:
    page = Page(tmp_path, changed(("more_seeds", {"sft": [7, 8]})), measured(base=[50, 50], plain=[60, 60]))
    assert "seeds 0, 1; with sft also 7, 8 ·" in page.text
    assert (page.json["seeds"], page.json["more_seeds"]) == ([0, 1], {"sft": [7, 8]})


def test_a_weight_that_stays_is_not_drawn(tmp_path: Path) -> None:
    page = Page(tmp_path, STUDY, measured(base=[50], plain=[60]), weights=(0.5, 0.5, 0.5))
    assert "The λ that each rule chose" not in page.text


# --- what a study may well have ------------------------------------------------------------------------------------------


def test_two_runs_may_share_a_place_on_a_curve(tmp_path: Path) -> None:
    study = changed(("runs.twin", ARM), ("curves", [{"over": "λ", "runs": {"base": None, "plain": 0.5, "twin": 0.5}}]))
    page = Page(tmp_path, study, measured(base=[50, 51], plain=[60, 61], twin=[70, 72]))
    assert "<svg" in page.part("Over λ")


def test_two_curves_over_the_same_number_are_both_drawn(tmp_path: Path) -> None:
    curves = [{"over": "λ", "runs": {"base": None, "plain": 0.5}}, {"over": "λ", "runs": {"base": 0, "plain": 0.5}}]
    page = Page(tmp_path, changed(("curves", curves)), measured(base=[50, 51], plain=[60, 61]))
    assert sum(page.part(heading).count("<svg") for heading in {*page.headings()} if heading.startswith("Over")) == 2


def test_a_case_shows_the_runs_it_has_and_curves_that_it_has_all_of(tmp_path: Path) -> None:
    """Case two makes no `more`."""
    two = {"recipes": {"sft": "small.yaml"}}
    study = changed(
        ("cases.one.recipes", {"sft": "small.yaml", "other": "small.yaml"}),
        ("cases.two", two),
        ("runs.more", ARM | {"recipe": "other"}),
        ("bars", {"Arms": ["plain", "more"]}),
        ("curves", [{"over": "steps", "runs": {"plain": 1, "more": 2}}]),
    )
    page = Page(tmp_path, study, {**measured(plain=[60], more=[61]), **measured("two", plain=[60])})
    one, other = page.part("Arms").split("<figcaption>one", 1)
    assert "more" in one
    assert "more" not in other
    assert page.part("Over steps").count("<svg") == 1


def test_recipes_of_the_same_name_in_two_folders_are_both_shown(tmp_path: Path) -> None:
    for folder, size in (("one", 24), ("two", 48)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sft.yaml").write_text(RECIPE.replace("hidden_size: 24", f"hidden_size: {size}"))
    cases = {name: {"recipes": {"sft": f"{name}/sft.yaml"}} for name in ("one", "two")}
    part = Page(tmp_path, changed(("cases", cases)), {}).part("How to repeat it")
    assert "hidden_size: 24" in part
    assert "hidden_size: 48" in part


def test_a_choice_by_a_measure_that_some_run_has_not_is_not_drawn_there(tmp_path: Path) -> None:
    """`summary.json` leaves a measure out where no row has it."""
    study = changed(("claims.1.measure", "a_o"), study=WHOLE)
    page = Page(tmp_path, study, whole("one"))
    assert page.json["claims"][1]["verdict"] == "not measured"


def test_every_choice_is_drawn_in_every_case_that_asked(tmp_path: Path) -> None:
    again = WHOLE["claims"][1] | {"says": "So does what it sees", "measure": "a_p"}
    study = changed(("claims", [*WHOLE["claims"], again]), study=WHOLE)
    part = Page(tmp_path, study, whole("one", "two")).part("Does a surrogate's correlation foretell what it gains?")
    assert [part.count(f"<!-- points of {measure} over plain -->") for measure in ("a", "a_p")] == [2, 2]


def test_colours_are_explained_also_where_the_first_case_is_not_done(tmp_path: Path) -> None:
    part = Page(tmp_path, WHOLE, whole("two")).part("What the outcome reward moves with")
    for word in ("reasoning", "perception", "independence alone"):
        assert f"<!-- {word} -->" in part  # what matplotlib draws as paths it says in a comment


def test_the_command_on_the_page_makes_the_same_study_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Nothing is left to train."""
    file, out = write(tmp_path, changed(("cases.two", {"recipes": {"sft": "small.yaml"}}))), tmp_path / "out"
    study = narrow(load_study(file), [7], ["two"])
    for job, recipe in plan(study, jobs_of(study, out), tmp_path).items():
        leave(job, summary(a=0.5))
        job.file.write_text(recipe)
    assert main(["study", str(file), "--seeds", "7", "--only", "two", "--out", str(out)]) == 0
    assert "2 of 2 runs are there already" in capsys.readouterr().out
    command = (out / "report.html").read_text().partition("How to repeat it")[2].partition("</pre>")[0]
    assert " --seeds 7" in command
    assert " --only two" in command
