"""The training model as a scorer: the log-probabilities of what it wrote, under any image."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.data_utils import prepare_multimodal_messages

from rlperc.recipe.rows import row_images
from rlperc.recipe.schema import Data, TinyModel
from rlperc.recipe.sizes import resized_size, with_sizes
from rlperc.train.data import load_rows
from rlperc.train.scorer import ModelScorer
from rlperc.train.tiny import save_tiny_model
from rlperc.words.response import Tags

ROWS = load_rows(Data(world="digits", rows=4), seed=5)
TEXTS = [*ROWS["response"][:2], "no tags at all", "<perception>[[1,1],[1,1]]</perception>"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder: Path = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder, TinyModel(), ROWS["response"], Tags(), seed=0)
    return AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)


def by_itself(model: object, processor: object, prompt: list, image: Image.Image, text: str) -> float | None:
    """The same number from one unpadded sequence, its perception tokens found by encoding the three parts apart."""
    if "<perception>" not in text:
        return None
    messages = prepare_multimodal_messages(prompt, images=[image])
    asked = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[asked], images=[[image]], return_tensors="pt", add_special_tokens=False)
    inside = text.split("<perception>")[1].split("</perception>")[0]
    parts = ["<perception>", inside, text.split("<perception>" + inside)[1]]
    before, span, after = (processor.tokenizer(part, add_special_tokens=False).input_ids for part in parts)
    written = torch.tensor([before + span + after])
    ids = torch.cat([inputs["input_ids"], written], dim=1)
    with torch.no_grad():
        logits = model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[0]
    first = inputs["input_ids"].shape[1] + len(before)
    logprobs = torch.log_softmax(logits, -1)
    return sum(logprobs[first + i - 1, token].item() for i, token in enumerate(span)) / len(span)


def test_logprobs_are_those_of_each_sequence_alone(tiny: tuple) -> None:
    model, processor = tiny
    model.train()
    ids = [processor.tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]
    scorer = ModelScorer(model, processor, ROWS["prompt"], ids, Tags(), 3, {})  # a chunk of three and one of one
    blank = Image.new("RGB", (32, 32))
    for images in ([row_images(row) for row in ROWS], [[blank]] * 4):
        found = scorer.perception_logprobs(images)
        rows = zip(ROWS["prompt"], images, TEXTS, strict=True)
        alone = [by_itself(model.eval(), processor, prompt, seen[0], text) for prompt, seen, text in rows]
        assert found[2] is None
        assert found == [None if value is None else pytest.approx(value, abs=1e-4) for value in alone]
        model.train()
    assert model.training


def test_rows_without_images(tiny: tuple) -> None:
    model, processor = tiny
    ids = [processor.tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS[:2]]
    scorer = ModelScorer(model, processor, ROWS["prompt"][:2], ids, Tags(), 1, {})
    assert all(value < 0 for value in scorer.perception_logprobs([[], []]))


def test_the_size_that_the_processor_really_uses(tiny: tuple) -> None:
    processor = tiny[1]
    rows = [{"image": Image.new("RGB", (80, 40))}, {"image": Image.new("L", (10, 10)), "image_size": [99, 99]}]
    sized = with_sizes(rows, {"image_size", "resized_size"}, processor)
    assert [row["image_size"] for row in sized] == [[80, 40], [99, 99]]
    assert [row["resized_size"] for row in sized] == [[32, 32], [32, 32]]
    assert with_sizes(rows, {"boxes"}, processor) == rows


def test_the_size_for_the_qwen_family() -> None:
    from types import SimpleNamespace

    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = SimpleNamespace(image_processor=Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=448 * 448))
    # 1000 x 500 shrinks until it has at most 448 * 448 pixels, each side a multiple of 28.
    width, height = resized_size(processor, Image.new("RGB", (1000, 500)))
    assert width % 28 == height % 28 == 0
    assert width * height <= 448 * 448
    assert abs(width / height - 2) < 0.2
