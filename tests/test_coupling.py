"""How rewards move together, beside what chance would give, and which surrogate that speaks for."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyarrow.parquet import write_table

from rlperc.cli import main
from rlperc.reward.plugins import find_reward
from rlperc.score.choose import choice_text, choose
from rlperc.score.coupling import WINDOW, Coupling
from rlperc.score.null import Null
from rlperc.score.roles import Roles, roles_of

ROLES = Roles(outcome=0, perception=1, reasoning=2, surrogates=(3,), highs=(1.0,) * 4)
NAMES = ["outcome", "seen", "thought", "surrogate"]
NAN = float("nan")


def test_roles_follow_from_what_rewards_credit_and_read() -> None:
    names = (
        "format_tags",
        "agreement",
        "perception_cells",
        "answer_follows",
        "perception_exact",
        "answer_number",
        "blind_solver",
        "agreement_right",  # it knows the answer, and not what is in the image
    )
    found = roles_of([find_reward(name) for name in names])
    assert (found.outcome, found.perception, found.reasoning, found.surrogates) == (5, 4, 3, (1, 6, 7))
    assert roles_of([None, find_reward("answer_number")]).outcome == 1
    boxes = roles_of([find_reward(name) for name in ("box_iou", "perception_edges", "agreement")])
    assert (boxes.perception, boxes.surrogates) == (1, (2,))  # gold boxes are labels too; what reads p* says more


def test_a_group_worked_by_hand() -> None:
    """Two groups of two. In the first the outcome is flat and the second reward is not; in the second both move, apart."""
    rewards = np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.5]])
    coupling = Coupling(["a", "b"], Roles(outcome=0))
    coupling.add(rewards, 2, [1.0, 4.0])
    report = coupling.report()
    assert report["flat"] == {"a": 0.5, "b": 0.0}
    assert report["rescued"] == {"a": 0.0, "b": 0.5}
    assert report["opposed"][0][1] == 1.0
    # Group 1: only b. Group 2: a = ±.5 and 4 b = ∓1 in sum ∓.5: a's share is .5 * -.5 * 2 / (2 * .25) = -1, b's is 2.
    assert report["share"] == {"a": pytest.approx((0 - 1) / 2), "b": pytest.approx((1 + 2) / 2)}
    assert report["groups"] == 2


def test_a_batch_says_what_it_says_by_itself() -> None:
    """The second batch alone: the outcome is flat in its group, the other reward moves, and who thought right is rare."""
    coupling = Coupling(NAMES[:3], ROLES._replace(surrogates=()))
    coupling.add(np.array([[1.0, 1, 1], [0, 0, 1]]), 2, [1, 1, 0])
    alone = coupling.add(np.array([[0.0, 1, 0], [0, 0, 1]]), 2, [1, 1, 0])
    assert alone.metrics() == {
        "within/seen/thought": pytest.approx(-1),
        "overall/seen/thought": pytest.approx(-1),
        "opposed/seen/thought": 1.0,
        "share/outcome": 0.0,
        "share/seen": 1.0,
        "share/thought": 0.0,
        "rescued/outcome": 0.0,
        "rescued/seen": 1.0,
        "rescued/thought": 1.0,
        # p = r = 1/2 in two completions: cov(a, P) = 1/8, var(a) = 3/16 less 1/16 for so few, var(P) = 1/4.
        "independent/perception": pytest.approx(0.125 / np.sqrt(0.125 * 0.25)),
        "independent/reasoning": pytest.approx(0.125 / np.sqrt(0.125 * 0.25)),
    }
    assert coupling.report()["rescued"]["seen"] == 0.5


@given(arrays(np.float64, (12, 3), elements=st.floats(-10, 10, width=32)))
def test_overall_it_is_numpys_correlation_and_shares_make_a_whole(rewards: np.ndarray) -> None:
    coupling = Coupling(["a", "b", "c"])
    coupling.add(rewards[:4], 4, [1.0, 0.5, 2.0])
    coupling.add(rewards[4:], 4, [1.0, 0.5, 2.0])
    overall = coupling.total.overall()
    spread = rewards.std(0)
    for i, j in product(range(3), repeat=2):
        if min(spread[i], spread[j]) > 1e-3:
            assert overall[i, j] == pytest.approx(np.corrcoef(rewards[:, i], rewards[:, j])[0, 1], abs=1e-6)
    shares = coupling.report()["share"]
    assert not shares or sum(shares.values()) == pytest.approx(1, abs=1e-6)


def test_what_independence_gives_worked_by_hand() -> None:
    """p = .8 and r = .2: corr(a, R) = sqrt(.16 / .84 * …): .873, and corr(a, P) = .218. All five pairs and twenty of them."""
    rows = [(p * r, p, r) for p in (1, 1, 1, 1, 0) for r in (1, 0, 0, 0, 0)]
    groups = np.array([rows], dtype=float)
    null = Null(Roles(outcome=0, perception=1, reasoning=2, highs=(1, 1, 1)))
    null.add(groups)
    report = null.report()
    assert (report["perception"], report["reasoning"], report["outcome"], report["n"]) == (0.8, 0.2, pytest.approx(0.16), 25)
    # In a group of 25, .16 * .16 / 24 less of the outcome's variance than shares that are known would give.
    variances = {"overall": 0.16 * 0.84, "within": 0.16 * 0.84 - 0.16 * 0.16 / 24}
    for where, variance in variances.items():
        found = report[where]
        assert found["reasoning"]["independent"] == pytest.approx(0.16 * 0.8 / np.sqrt(variance * 0.16))
        assert found["perception"]["independent"] == pytest.approx(0.16 * 0.2 / np.sqrt(variance * 0.16))
        # These are exactly independent.
        assert found["reasoning"]["observed"] == pytest.approx(np.sqrt(0.8 * 0.8 / 0.84))
        assert found["perception"]["observed"] == pytest.approx(np.sqrt(0.2 * 0.2 / 0.84))


@pytest.mark.parametrize(("size", "p", "r"), [(2, 0.5, 0.5), (4, 0.3, 0.6), (8, 0.3, 0.3)])
def test_independent_things_look_independent_also_in_small_groups(size: int, p: float, r: float) -> None:
    random = np.random.default_rng(0)
    seen, thought = random.random((20_000, size)) < p, random.random((20_000, size)) < r
    null = Null(Roles(outcome=0, perception=1, reasoning=2, highs=(1, 1, 1)))
    null.add(np.stack([seen & thought, seen, thought], axis=2).astype(float))
    for found in null.report()["within"].values():
        assert found["observed"] == pytest.approx(found["independent"], abs=0.02)


def test_hard_and_easy_prompts_are_independent_within_but_not_overall() -> None:
    """In one group nothing is right and in the other all is: overall all move as one, within nobody moves."""
    null = Null(Roles(outcome=0, perception=1, reasoning=2, highs=(1, 1, 1)))
    null.add(np.array([[[0.0, 0, 0]] * 4, [[1.0, 1, 1]] * 4]))
    report = null.report()
    assert report["within"]["perception"] == {"observed": None, "independent": None}
    assert report["overall"]["perception"]["observed"] == pytest.approx(1)
    assert report["overall"]["perception"]["independent"] == pytest.approx(np.sqrt(0.5 * 0.5 / 0.75))


def test_what_one_has_no_opinion_on_is_left_out() -> None:
    null = Null(Roles(outcome=0, perception=1, reasoning=2, highs=(1, 1, 1)))
    null.add(np.array([[[1.0, 1, 1], [1, NAN, 1], [0, 0, NAN]]]))
    assert null.report()["n"] == 1
    assert Null(Roles(outcome=0)).report() == {}


def steps(coupling: Coupling, outcome: list[float], surrogate: list[float]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (len(outcome), 2))
    for (a, b), (da, db) in zip(zip(outcome, surrogate, strict=True), noise, strict=True):
        coupling.add(np.array([[a + da, 0, 0, b + db]] * 2), 2)


def test_a_surrogate_that_rises_alone_raises_an_alarm() -> None:
    half = [0.5] * WINDOW
    alone, together, young, full, unknown = (Coupling(NAMES, ROLES) for _ in range(5))
    steps(full, [1.1] * 2 * WINDOW, half + [0.7] * WINDOW)
    steps(unknown, [NAN] * 2 * WINDOW, half + [0.7] * WINDOW)
    assert full.alarms() == unknown.alarms() == []
    steps(alone, half + half, half + [0.7] * WINDOW)
    steps(together, half + [0.6] * WINDOW, half + [0.7] * WINDOW)
    steps(young, half, [0.1] * 5 + [0.9] * 5)
    assert alone.alarms() == ["surrogate"]
    assert together.alarms() == []
    assert young.alarms() == []


def test_a_slow_rise_raises_an_alarm_and_is_remembered() -> None:
    """Too slow for ten steps against ten; and after it the surrogate stays where it is."""
    rising = np.linspace(0.3, 0.8, 200).tolist()
    coupling = Coupling(NAMES, ROLES)
    random = np.random.default_rng(0)
    for mean in rising + [0.8] * 30:
        right = random.random(192) < 0.4
        coupling.add(np.stack([right, right, right, mean + random.normal(0, 0.1, 192)], axis=1).astype(float), 8)
    assert coupling.report()["alarms"].keys() == {"surrogate"}
    assert 2 * WINDOW <= coupling.report()["alarms"]["surrogate"] < 100
    jump = Coupling(NAMES, ROLES)
    steps(jump, [0.5] * 30, [0.5] * 15 + [0.9] * 15)
    steps(jump, np.linspace(0.5, 1.0, 60).tolist(), [0.9] * 60)  # the outcome follows
    assert jump.alarms() == []
    assert list(jump.report()["alarms"]) == ["surrogate"]


def test_shares_of_the_sum_that_is_trained_on() -> None:
    """A reward of a tenth of the spread brings 1 % of a plain sum, and half of one of normalised rewards."""
    random = np.random.default_rng(0)
    rewards = np.stack([random.normal(0, 1, 8000), random.normal(0, 0.1, 8000)], axis=1)
    for scaled, least, most in ((False, 0.0, 0.03), (True, 0.45, 0.55)):
        coupling = Coupling(["a", "b"], scaled=scaled)
        coupling.add(rewards, 8, [1.0, 1.0])
        assert least < coupling.report()["share"]["b"] < most


def test_noise_raises_no_alarm() -> None:
    """Also where outcome and surrogate rise alike, and the outcome, which is right or wrong, is the noisier of the two."""
    random = np.random.default_rng(0)
    raised = []
    for rise in (0.0, 0.3):
        coupling = Coupling(NAMES, ROLES)
        for step in range(100):
            right = random.random(192) < 0.4 + rise * step / 100
            graded = 0.4 + rise * step / 100 + random.normal(0, 0.1, 192)
            coupling.add(np.stack([right, right, right, graded], axis=1).astype(float), 8)
            raised.append(bool(coupling.alarms()))
    assert sum(raised) <= 2


def test_constants_do_not_correlate() -> None:
    coupling = Coupling(["a", "b"])
    coupling.add(np.tile([0.7, 0.9], (800, 1)), 8)
    assert np.isnan(coupling.total.overall()).all()


def test_it_goes_on_from_what_it_kept() -> None:
    random = np.random.default_rng(1)
    batches = [random.integers(0, 2, (8, 4)).astype(float) for _ in range(3)]
    batches[1][0, 3] = NAN
    whole, first, second = (Coupling(NAMES, ROLES) for _ in range(3))
    for batch in batches:
        whole.add(batch, 4, [1, 1, 0, 0.5])
    first.add(batches[0], 4, [1, 1, 0, 0.5])
    second.restore(json.loads(json.dumps(first.kept())))
    for batch in batches[1:]:
        second.add(batch, 4, [1, 1, 0, 0.5])
    assert second.report() == whole.report()
    json.dumps(whole.report(), allow_nan=False)


def test_the_surrogate_that_follows_the_truth_is_chosen() -> None:
    """One is the truth with noise, one is noise, one is against it."""
    random = np.random.default_rng(0)
    groups = []
    for _ in range(60):
        truth = random.integers(0, 2, 8).astype(float)
        groups.append(np.stack([truth, truth + random.normal(0, 1, 8), random.normal(0, 1, 8), -truth], axis=1))
    names, roles = ["truth", "good", "idle", "bad"], Roles(perception=0, surrogates=(1, 2, 3), highs=(1.0,) * 4)
    best, *rest = choose(groups, names, roles)
    assert best.names == ("good",)
    assert best.interval is not None
    assert best.interval[0] > 0.2
    found = {one.names: one.correlation for one in (best, *rest)}
    assert found[("bad",)] == pytest.approx(-1)
    assert set(found) == {
        ("good",),
        ("idle",),
        ("bad",),
        ("good", "idle"),
        ("good", "bad"),
        ("idle", "bad"),
        ("good", "idle", "bad"),
    }
    assert "the data favour good" in choice_text([best, *rest])[-1]
    assert "choose none" in choice_text([one for one in rest if one.names == ("bad",)])[-1]


def test_of_many_that_are_noise_one_is_seldom_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of them, fifteen with their pairs and all together: one by one, an interval lies above 0 in every fifth file."""
    monkeypatch.setattr("rlperc.score.choose.RESAMPLES", 300)
    random, chosen = np.random.default_rng(0), 0
    names, roles = ["truth", *"abcde"], Roles(perception=0, surrogates=(1, 2, 3, 4, 5), highs=(1.0,) * 6)
    for _ in range(50):
        groups = [np.c_[random.integers(0, 2, 8), random.normal(0, 1, (8, 5))] for _ in range(50)]
        chosen += "choose none" not in choice_text(choose(groups, names, roles))[-1]
    assert chosen <= 5  # 2.5 % of 50, and 5 are exceeded once in a thousand times


def file_of(tmp_path: Path, prompts: bool = True) -> Path:
    """Twelve prompts, each with two responses: right from a right reading, and wrong from a wrong one."""
    lines = []
    for index, (grid, answer) in enumerate((([[8, 7], [1, 2]], 18), ([[1, 1], [1, 1]], 4)) * 6):
        task = '{"grid":2,"kind":"total","world":"digits"}'
        row = {"prompt_id": index} if prompts else {}
        row |= {"answer": str(answer), "perception": json.dumps(grid), "task": task}
        wrong = [[0, 0], [0, 0]]
        for stated, said in ((grid, answer), (wrong, 0)):
            text = f"<perception>{json.dumps(stated)}</perception><think></think><answer>{said}</answer>"
            lines.append(json.dumps({**row, "completion": text}))
    (tmp_path / "c.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "c.jsonl"


def test_coupling_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rewards = "answer_number,perception_exact,answer_follows,blind_solver,agreement"
    arguments = [str(file_of(tmp_path)), "--rewards", rewards, "--choose", "--summary", str(tmp_path / "s.json")]
    assert main(["coupling", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "12 groups" in shown
    assert "right, of 24 completions: outcome 50.0 %, perception 50.0 %, reasoning 100.0 %; both by chance 50.0 %" in shown
    assert "within groups with perception +1.00 (independent: +1.00); with reasoning   –   (independent:   –  )" in shown
    assert "the data favour blind_solver" in shown
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["roles"] == {
        "outcome": "answer_number",
        "perception": "perception_exact",
        "reasoning": "answer_follows",
        "surrogates": ["blind_solver", "agreement"],
    }
    assert report["candidates"][0]["names"] == ["blind_solver"]


@pytest.mark.parametrize(
    ("rewards", "prompts", "why"),
    [
        ("answer_number,perception_exact", False, '"prompt_id": … in every row'),
        ("answer_number,agreement", True, "none of the rewards knows what is in the image"),
        ("answer_number,perception_exact", True, "none of the rewards is a surrogate"),
    ],
)
def test_what_cannot_be_told_is_one_message(
    rewards: str, prompts: bool, why: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["coupling", str(file_of(tmp_path, prompts)), "--rewards", rewards, "--choose"]) == 2
    assert why in capsys.readouterr().err


def run_of(tmp_path: Path, names: str = "answer_number, perception_exact, image_dependence") -> Path:
    """Two stages of a run with twelve tables each, of two prompts: image_dependence goes with the truth in all but the first."""
    uses = ", ".join(f"{{use: {name}, weight: 1}}" for name in names.split(", "))
    stage = "kind: grpo, train: {num_generations: 4}"
    (tmp_path / "recipe.yaml").write_text(
        f"model: {{name: some/model}}\ndata: {{world: digits}}\nrewards: [{uses}]\n"
        f"stages: [{{name: first, {stage}}}, {{name: second, {stage}}}]\n"
    )
    for name in ("first", "second"):
        folder = tmp_path / "stages" / name / "completions"
        folder.mkdir(parents=True)
        for step in range(1, 13):
            seen = [0.0, 1, 0, 1, 1, 1, 0, None]
            depends = [0.1, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.5] if step > 1 else [0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9, 0.5]
            table = {"answer_number": [0.0, 1, 0, 1, 0, 0, 0, 0], "perception_exact": seen, "image_dependence": depends}
            write_table(pa.table(table), folder / f"completions_{step:05d}.parquet")
    return tmp_path


def test_coupling_of_a_run_reads_what_training_scored(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of rewards that only the training model can give; steps 2 to 12 agree with the truth, and the first one is against it."""
    arguments = ["coupling", str(run_of(tmp_path)), "--stage", "first", "--choose"]
    assert main([*arguments, "--summary", str(tmp_path / "s.json")]) == 0
    assert "the data favour image_dependence" in capsys.readouterr().out
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["groups"] == 24
    assert report["matrix"][1][2] == pytest.approx((11 - 1) / 12)
    assert main([*arguments, "--steps", "1", "--summary", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text())["matrix"][1][2] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "--stage first or second"),
        (["--stage", "secnd"], "did you mean 'second'?"),
        (["--stage", "first", "--rewards", "answer_number"], "a run has scores of its own recipe's rewards"),
        (["--stage", "first", "--steps", "0"], "--steps 1 or more"),
    ],
)
def test_what_a_run_cannot_tell(arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["coupling", str(run_of(tmp_path)), *arguments]) == 2
    assert why in capsys.readouterr().err


def test_tables_of_another_run_are_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = run_of(tmp_path, "answer_number, perception_exact, perception_cells")
    assert main(["coupling", str(run), "--stage", "first"]) == 2
    assert "has no column 'perception_cells'" in capsys.readouterr().err
    for file in (run / "stages" / "second" / "completions").iterdir():
        file.unlink()
    assert main(["coupling", str(run), "--stage", "second"]) == 2
    assert "there are no completions tables" in capsys.readouterr().err
    assert main(["coupling", str(tmp_path / "stages")]) == 2
    assert "it has no recipe.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--rewards", "answer_number", "--steps", "2"]])
def test_a_file_says_which_rewards_and_has_no_steps(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["coupling", str(file_of(tmp_path)), *arguments]) == 2
    assert ("--rewards" if not arguments else "a file has neither") in capsys.readouterr().err


def test_what_a_reward_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    plugin = tmp_path / "boom.py"
    plugin.write_text(
        "from rlperc import Completion, reward\n\n\n"
        '@reward(range=(0, 1), credits="perception")\n'
        "def boom(completion: Completion, answer: str) -> float:\n"
        '    """Source: none."""\n'
        '    raise ValueError(f"no {answer}")\n'
    )
    file = file_of(tmp_path)
    file.write_text(file.read_text().replace("</perception>", "", 1))
    assert main(["coupling", str(file), "--rewards", f"answer_number,perception_exact,{plugin}"]) == 0
    shown = capsys.readouterr().out
    assert "boom: warning: it scored nothing: 24 errors" in shown
    assert "boom: the first error: " in shown
    assert "ValueError: no 18" in shown
    assert "24 completions of 12 prompts, 1 unreadable" in shown


def test_one_completion_of_each_prompt_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = file_of(tmp_path)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[::2]) + "\n")
    assert main(["coupling", str(file), "--rewards", "answer_number"]) == 2
    assert "no prompt has two completions" in capsys.readouterr().err
