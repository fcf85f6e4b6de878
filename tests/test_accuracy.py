"""What `a`, `a_p` and `a_r` mean, with a model that writes what the test wants."""

from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlperc.evaluate import accuracy
from rlperc.evaluate.accuracy import Judged, Measures, compare, measure, summarize
from rlperc.evaluate.generate import generate
from rlperc.evaluate.samples import write_samples
from rlperc.recipe.folder import RunFolder
from rlperc.recipe.rows import row_images
from rlperc.recipe.schema import Data, Evaluate, TinyModel
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.score.paired import paired
from rlperc.train.data import load_rows
from rlperc.train.tiny import save_tiny_model
from rlperc.words.response import Tags, read_response
from rlperc.worlds import solve

MEASURES = Measures(RewardRunner(find_reward("answer_number"), {}), RewardRunner(find_reward("perception_exact"), {}), Tags())
ROWS = load_rows(Data(world="digits", rows=20, split="validation"), seed=3)
IMAGES = [row_images(row) for row in ROWS]
WITH_IMAGE = [True] * len(ROWS)


class Writer:
    """Sees nothing but zeros, and reasons without fault from whatever perception it goes on from."""

    training = False

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def write(self, processor: object, prompts: list, images: list, prefixes: list[str], *_: object) -> list[str]:
        tasks = {row["prompt"][0]["content"]: row["task"] for row in ROWS}
        starts = [prefix or "<perception>[[0,0],[0,0]]</perception>" for prefix in prefixes]
        seen = [read_response(start).perception for start in starts]
        answers = [solve(tasks[prompt[0]["content"]], what) for prompt, what in zip(prompts, seen, strict=True)]
        return [f"{start}<answer>{answer}</answer>" for start, answer in zip(starts, answers, strict=True)]


def test_a_model_that_reasons_well_and_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "generate", lambda model, *rest: model.write(*rest))
    settings = Evaluate(data=Data(world="digits"), batch_size=8)
    judged = measure(Writer(), None, ROWS, WITH_IMAGE, MEASURES, settings, "test")
    summary = summarize(judged)
    assert [one.index for one in judged] == list(range(20))
    assert summary["a_r"] == 1.0
    assert summary["a_p"] == 0.0
    zeros = [solve(row["task"], "[[0,0],[0,0]]") == row["answer"] for row in ROWS]
    assert summary["a"] == pytest.approx(sum(zeros) / 20)
    assert summary["a_r_interval"][1] == 1.0


class Peeper(Writer):
    """Reads the first image of the exam wherever it is shown, as its own or as another row's, and says 7 without one."""

    def write(self, processor: object, prompts: list, images: list, prefixes: list[str], *_: object) -> list[str]:
        truth = {row_images(row)[0].tobytes(): row for row in ROWS}
        rows = [truth.get(seen[0].tobytes()) if seen else None for seen in images]
        seen = [row["perception"] if row else "[[0,0],[0,7]]" for row in rows]
        starts = [prefix or f"<perception>{one}</perception>" for prefix, one in zip(prefixes, seen, strict=True)]
        return [f"{start}<answer>{row['answer'] if row else 7}</answer>" for start, row in zip(starts, rows, strict=True)]


def test_what_is_right_without_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "generate", lambda model, *rest: model.write(*rest))
    settings = Evaluate(data=Data(world="digits"), batch_size=8, blind=["none", "blank", "other"])
    judged = measure(Peeper(), None, ROWS, WITH_IMAGE, MEASURES, settings, "test")
    summary = summarize(judged)
    assert (summary["a"], summary["a_p"], summary["a_p_partial"]) == (1, 1, 1)
    sevens = sum(row["answer"] == "7" for row in ROWS) / 20
    assert summary["blind_none"] == summary["blind_blank"] == pytest.approx(sevens)
    following = ROWS["answer"][1:] + ROWS["answer"][:1]
    right = [one == other for one, other in zip(ROWS["answer"], following, strict=True)]
    assert [one.blind["other"] for one in judged] == right
    assert "a_o" not in summary  # nobody was asked to


def test_partial_perception_and_the_own_reasoning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever states zeros has read a zero in four right, and reasons well from it."""
    monkeypatch.setattr(accuracy, "generate", lambda model, *rest: model.write(*rest))
    cells, follows = (RewardRunner(find_reward(name), {}) for name in ("perception_cells", "answer_follows"))
    measures = Measures(MEASURES.answer, cells, Tags(), follows)
    judged = measure(Writer(), None, ROWS, WITH_IMAGE, measures, Evaluate(data=Data(world="digits")), "test")
    summary = summarize(judged)
    assert summary["a_o"] == 1.0
    assert summary["a_p"] == 0.0
    zeros = sum(row["perception"].count("0") for row in ROWS)
    assert summary["a_p_partial"] == pytest.approx(zeros / 80)
    assert judged[0].why["a_p"].endswith("cells misread")


def test_several_responses_to_a_row_are_one_cluster() -> None:
    """Two rows, each answered four times, always alike: as sure as two values, not eight."""
    judged = [Judged(index, "", a=float(index), a_p=None, a_r=None) for index in (0, 1) for _ in range(4)]
    summary = summarize(judged)
    low, high = summary["a_interval"]
    assert (summary["n"], summary["a"]) == (2, 0.5)
    assert high - low == 1.0
    assert compare(judged, judged)["a"]["rose"] == 0


def test_samples_show_each_rows_own_response(tmp_path: Path) -> None:
    judged = [Judged(index, f"{index} of {kind}", a=0.0, a_p=None, a_r=None) for index in (0, 1) for kind in ("first", "second")]
    samples = write_samples(RunFolder(tmp_path), ROWS.select([0, 1]), {"after": judged}, 2)
    assert [one["responses"]["after"]["text"] for one in samples] == ["0 of first", "1 of first"]


def test_before_and_after_on_the_same_rows() -> None:
    """Of ten rows three rise and one falls: +.2, and by the sign test (1 + 4 + …)/16: p = 10/16."""
    before = [Judged(i, "", a=float(i < 4), a_p=None, a_r=None) for i in range(10)]
    after = [Judged(i, "", a=float(1 <= i < 7), a_p=None, a_r=None) for i in range(10)]
    change = compare(before, after)["a"]
    assert (change["difference"], change["rose"], change["fell"]) == (pytest.approx(0.2), 3, 1)
    assert change["p"] == pytest.approx(10 / 16)
    # As if of twelve rows four rose and two fell: 1/6, with the variance (6/12 - 1/36) / 12.
    half = 1.959964 * ((1 / 2 - 1 / 36) / 12) ** 0.5
    assert change["interval"] == pytest.approx([1 / 6 - half, 1 / 6 + half], abs=1e-6)


@pytest.mark.parametrize(("rose", "fell", "above"), [(5, 0, False), (9, 0, True), (0, 0, False), (200, 0, True)])
def test_an_interval_above_0_and_mcnemars_p_agree(rose: int, fell: int, above: bool) -> None:
    before = {i: float(i >= rose) * float(i < rose + fell) for i in range(200)}
    after = {i: float(i < rose) for i in range(200)}
    change = paired(before, after)
    assert change is not None
    assert change.interval is not None
    assert (change.interval[0] > 0) == (change.p < 0.05) == above
    assert -1 <= change.interval[0] <= change.difference <= change.interval[1] <= 1


def test_differences_of_means_have_the_interval_of_their_spread() -> None:
    """Of rows with several responses: +.5, +.5, 0 and -.5; variance (.75 - 4 * .125 ** 2) / 3, by 4 rows; t of 3."""
    change = paired(dict.fromkeys(range(4), 0.5), {0: 1.0, 1: 1.0, 2: 0.5, 3: 0.0})
    assert change is not None
    half = 3.182446 * ((0.75 - 4 * 0.125**2) / 3 / 4) ** 0.5
    assert change.interval == pytest.approx([0.125 - half, 0.125 + half], abs=1e-6)


def test_generation_goes_on_from_the_prefix(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, TinyModel(), ROWS["response"], Tags(), seed=0)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    arguments = (model, processor, ROWS["prompt"][:3], IMAGES[:3])
    prefix = "<perception>[[8,7],[1,1]]</perception>"
    mixed = generate(*arguments, ["", prefix, prefix], 8)
    alone = [
        text
        for i in range(3)
        for text in generate(model, processor, [ROWS["prompt"][i]], [IMAGES[i]], [["", prefix, prefix][i]], 8)
    ]
    assert mixed[1].startswith(prefix)
    assert mixed == alone  # padding on the left changes nothing
