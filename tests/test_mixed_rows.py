"""Rows with images and rows without, in one data set and in one batch."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from launch import QUICKSTART, ROOT, in_two_processes
from mixed import TEXT, batch_of, by_itself, largest_difference, mixed_rows, trained, trainer_on
from trainers import reason_stage, tiny_model

from rlperc.errors import DataError
from rlperc.evaluate.accuracy import Measures, measure
from rlperc.recipe.load import load_recipe
from rlperc.recipe.rows import row_images
from rlperc.recipe.schema import Evaluate
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import RewardRunner
from rlperc.train import stages
from rlperc.train.images import has_images
from rlperc.train.mixed import seeing
from rlperc.train.models import load_model
from rlperc.train.scorer import ModelScorer
from rlperc.words.response import Tags

SMALL = ("train.per_device_train_batch_size=2", "train.gradient_accumulation_steps=4")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start"))


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize(
    "counts",
    [
        [0, 1],  # the column `image`, the first row empty
        [1, 0],
        [2, 1, 0, 1],  # as many images as rows, though every row is padded to two
        [0, 2],
    ],
)
def test_every_row_is_seen_as_by_itself(kind: str, counts: list[int], start: Path, tmp_path: Path) -> None:
    # Micro-batches of two: some hold no image at all.
    trainer = trainer_on(
        mixed_rows(counts * 4, max(counts) > 1), start, tmp_path, f"kind={kind}", "train.num_generations=2", *SMALL
    )
    trainer.model.train()
    torch.manual_seed(0)
    trainer._prepare_inputs(batch_of(trainer, [0, 1, 2, 3]))
    assert len(trainer._buffered_inputs) == 4
    assert largest_difference(trainer) < 1e-4


@pytest.mark.parametrize("kind", ["grpo", "rloo", "ppo"])
@pytest.mark.parametrize("many", [False, True])
def test_training_with_a_reference(kind: str, many: bool, start: Path, tmp_path: Path) -> None:
    rows = mixed_rows([0, 2, 1, 0] * 4, many)
    options = ("train.beta=0.1", "train.num_iterations=2", *(["ppo.trunk=own"] if kind == "ppo" else []), *SMALL)
    trainer = trainer_on(rows, start, tmp_path, f"kind={kind}", *options)
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.state.log_history[0]["grad_norm"] > 0


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("column", ["image", "images", None])
def test_a_batch_without_images(kind: str, column: str | None, start: Path, tmp_path: Path) -> None:
    rows = mixed_rows([0] * 4, column == "images")
    rows = rows if column else rows.remove_columns("image")
    trainer = trainer_on(rows, start, tmp_path, f"kind={kind}")
    trainer.train()
    assert all("pixel_values" not in micro for micro in trainer._buffered_inputs)


@pytest.mark.parametrize("first", [[0, 1], [1, 0]])
def test_groups_drawn_again_bring_their_images(
    first: list[int], start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both groups of the first round are dead: rows without images give place to rows with, or the other way round.
    trainer = trainer_on(mixed_rows(first * 4, many=False), start, tmp_path, "blend.resample=1")
    rounds = iter([[True, True], [False, False]])
    monkeypatch.setattr(trainer, "_dead", lambda rewards: torch.tensor(next(rounds)))
    monkeypatch.setattr("rlperc.train.resample.draw_rows", lambda count, *_: [1] * count)
    trainer.model.train()
    trainer._prepare_inputs(batch_of(trainer, [0, 0]))
    assert ("pixel_values" in trainer._buffered_inputs[0]) == (first[1] == 1)
    assert largest_difference(trainer) < 1e-4


def test_the_table_has_the_images_of_its_rows(start: Path, tmp_path: Path) -> None:
    trainer = trainer_on(mixed_rows([1, 0] * 4, many=False), start, tmp_path)
    trainer.model.train()
    for indices in ([0, 1], [1, 1]):
        trainer._prepare_inputs(batch_of(trainer, indices))
        trainer._buffered_inputs = None
        assert [len(images) for images in trainer._logs["images"]] == [1 - index for index in indices for _ in range(4)]
        assert len(trainer._logs["prompt"]) == 8


def test_a_scorer_sees_every_row_as_by_itself(start: Path, tmp_path: Path) -> None:
    trainer = trainer_on(mixed_rows([0, 2, 1, 0, 0], many=True), start, tmp_path)
    rows = [dict(row) for row in trainer.train_dataset]
    written = trainer.processing_class.tokenizer(TEXT, add_special_tokens=False).input_ids
    arguments = (trainer.model, trainer.processing_class, [row["prompt"] for row in rows], [written] * 5, Tags(), 3, {})
    found = ModelScorer(*arguments).logprobs([row_images(row) for row in rows], trainer.temperature)
    for row, logprobs in zip(rows, found, strict=True):
        assert torch.allclose(logprobs, by_itself(trainer, row, torch.tensor(written)), atol=1e-4)


def test_a_reward_that_asks_the_model_skips_rows_without_images(start: Path, tmp_path: Path) -> None:
    recipe, stage = reason_stage("stages.reason.rewards=[{use: answer_number}, {use: image_dependence}]")
    rows = mixed_rows([0, 1] * 4, many=False)
    args = stages.stage_config(recipe, stage, tmp_path)
    trainer = stages.make_trainer(recipe, stage, args, *load_model(start, stage.model), rows, [])
    place = trainer.reward_func_names.index("image_dependence")
    trainer.model.train()
    trainer._prepare_inputs(batch_of(trainer, [0, 1]))
    assert trainer._rewards[:, place].isnan().tolist() == [True] * 4 + [False] * 4


def test_supervised_rows(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for counts in ([1, 0, 0, 0] * 4, [0] * 16):
        monkeypatch.setattr("mixed.mixed_rows", lambda *_, counts=counts, **__: mixed_rows(counts, many=False))
        trained("sft", start, tmp_path / str(sum(counts)))


def test_measuring(start: Path) -> None:
    model, processor = load_model(start, reason_stage()[1].model)
    rows = mixed_rows([0, 1, 1, 0, 2], many=True)
    answer = RewardRunner(find_reward("answer_number"), {})
    settings = Evaluate.model_construct(batch_size=2, max_new_tokens=4)
    together = measure(model, processor, rows, has_images(rows), Measures(answer, None, Tags()), settings, "")
    for index, judged in enumerate(together):
        one = rows.select([index])
        (alone,) = measure(model, processor, one, has_images(one), Measures(answer, None, Tags()), settings, "")
        assert (judged.index, judged.response) == (index, alone.response)


@pytest.mark.parametrize("index", [1, 2])
def test_weights_in_shards_need_an_image_everywhere(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, args = load_recipe(QUICKSTART).stages[index], SimpleNamespace()
    rows = mixed_rows([1, 0] * 4, many=False)
    stages.check_images(stage, rows, args)
    monkeypatch.setattr(stages, "is_deepspeed_zero3_enabled", lambda: True)
    stages.check_images(stage, rows, args)  # one process waits for nobody
    monkeypatch.setattr(stages, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(DataError, match="4 of 8 rows have no image"):
        stages.check_images(stage, rows, args)
    stages.check_images(stage, mixed_rows([1] * 8, many=False), args)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("grpo", ["train.gradient_checkpointing=true", "train.ddp_find_unused_parameters=false"]),
        ("sft", []),
    ],
)
def test_one_process_without_images(kind: str, options: list[str], start: Path, tmp_path: Path) -> None:
    in_two_processes(ROOT / "tests" / "mixed.py", kind, start, tmp_path / "run", *options, seconds=120)


def test_black_images_are_images() -> None:
    """Without normalisation their pixels are zeros; padding is known by its mask, no image by its size."""
    black, mask = torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8)

    def given(**inputs: torch.Tensor) -> set[str]:
        return set(seeing(lambda **kept: kept)(input_ids=torch.ones(1, 3), **inputs))

    assert "pixel_values" in given(pixel_values=black)
    assert "pixel_values" in given(pixel_values=black[:, None], pixel_attention_mask=mask)
    assert "pixel_values" not in given(pixel_values=black[:, None], pixel_attention_mask=0 * mask)
    assert given(pixel_values=black[:0], image_grid_thw=torch.zeros(0, 3)) == {"input_ids"}


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_text_reaches_templates_that_go_through_parts(start: Path, tmp_path: Path, kind: str) -> None:
    trainer = trainer_on(mixed_rows([0] * 8, many=True), start, tmp_path, f"kind={kind}")
    trainer.processing_class.chat_template = (
        "{% for message in messages %}{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    ids, _, _ = trainer._tokenize_prompts([[{"role": "user", "content": "How many digits?"}]] * 2)
    assert [trainer.processing_class.decode(row) for row in ids] == ["How many digits?"] * 2
