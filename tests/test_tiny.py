from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlperc.recipe.schema import TinyModel
from rlperc.train.models import freeze
from rlperc.train.tiny import idefics3, save_tiny_model
from rlperc.train.tiny.tokenizer import train_tokenizer
from rlperc.words.response import Tags
from rlperc.worlds import digits

ITEMS = list(digits.items(50, 0, "train"))
TEXTS = [item.question for item in ITEMS] + [item.response() for item in ITEMS]
TOKENIZER = train_tokenizer(idefics3.VOCABULARY, TEXTS, Tags())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    save_tiny_model(path, TinyModel(), TEXTS, Tags(), seed=0)
    return path


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_tokenizer(text: str) -> None:
    marks = set(TOKENIZER.all_special_tokens)
    if not any(mark in text for mark in marks):
        assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_tags_and_numbers_are_single_ordinary_tokens() -> None:
    for word in ("<perception>", "</answer>", "7", "144"):
        assert len(TOKENIZER(word)["input_ids"]) == 1
    for item in ITEMS:
        ids = TOKENIZER(item.response())["input_ids"]
        assert TOKENIZER.decode(ids, skip_special_tokens=True) == item.response()
        assert len(ids) < 50


def test_it_loads_like_any_model_and_is_small(folder: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ITEMS[0].question}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    assert text == f"<|user|><image>{ITEMS[0].question}<|end|><|assistant|>"
    inputs = processor(text=[text], images=[[ITEMS[0].image]], return_tensors="pt")
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 4
    assert model(**inputs).logits.shape[-1] == len(processor.tokenizer)


def test_the_seed_fixes_the_weights(folder: Path, tmp_path: Path) -> None:
    def weight(path: Path) -> torch.Tensor:
        return AutoModelForImageTextToText.from_pretrained(path).get_input_embeddings().weight

    for name, seed in (("same", 0), ("other", 1)):
        save_tiny_model(tmp_path / name, TinyModel(), TEXTS, Tags(), seed=seed)
    assert torch.equal(weight(folder), weight(tmp_path / "same"))
    assert not torch.equal(weight(folder), weight(tmp_path / "other"))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"architecture": "idefics3", "image_size": 40}, "must be a multiple of patch_size 16"),
        ({"architecture": "qwen3_vl", "image_size": 48}, r"must be a multiple of 2 \* patch_size = 32"),
        ({"architecture": "internvl", "hidden_size": 36}, r"must be a multiple of 8 \* heads = 24"),
    ],
)
def test_sizes_that_an_architecture_cannot_have(settings: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TinyModel(**settings)


@pytest.mark.parametrize(
    ("part", "frozen", "free"),
    [
        ("vision", "model.vision_model.embeddings.patch_embedding.weight", "model.connector.modality_projection.proj.weight"),
        ("projector", "model.connector.modality_projection.proj.weight", "model.text_model.norm.weight"),
        ("language", "model.text_model.norm.weight", "model.vision_model.post_layernorm.weight"),
        ("model.text_model.layers.0", "model.text_model.layers.0.mlp.up_proj.weight", "model.text_model.norm.weight"),
    ],
)
def test_freezing_a_part(folder: Path, part: str, frozen: str, free: str) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder)
    freeze(model, [part])
    assert not model.get_parameter(frozen).requires_grad
    assert model.get_parameter(free).requires_grad
