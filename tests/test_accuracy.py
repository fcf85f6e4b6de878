"""What `a`, `a_p` and `a_r` mean, with a model that writes what the test wants."""

from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlperc.evaluate import accuracy
from rlperc.evaluate.accuracy import Measures, measure, summarize
from rlperc.evaluate.generate import generate
from rlperc.recipe.rows import row_images
from rlperc.recipe.schema import Data, Evaluate, TinyModel
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
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
