"""What TRL gets wrong between images and vLLM: each test fails without rlperc's repair.

Those called `…_upstream` fail once TRL does it right: then the repair in rlperc/train/rollout.py can go.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow
from rollouts import ARCHITECTURES, build, differences, every_kind, picture, rolling, rows
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration

from rlperc.errors import RolloutError
from rlperc.recipe.rollout import Parity
from rlperc.recipe.schema import Data
from rlperc.train.data import load_rows
from rlperc.train.parity import check
from rlperc.train.trl_overrides import with_images_in_place
from rlperc.train.vllm_setup import Setup

EXACT = 2e-5  # nats; float32 on both sides was measured at 1e-6 on average and 5e-6 at most


@pytest.fixture(scope="module", params=ARCHITECTURES)
def trainer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A trainer on a model of each architecture, with vLLM in this process."""
    folder = tmp_path_factory.mktemp(request.param)
    trainer = rolling(build(request.param, folder / "start"), folder / "out", every_kind())
    trainer.architecture = request.param
    yield trainer
    trainer.vllm_generation.close()


@contextmanager
def moved(*parameters: torch.nn.Parameter) -> Iterator[None]:
    """Other values for a while, as after an optimizer's step."""
    before, random = [parameter.data.clone() for parameter in parameters], torch.Generator().manual_seed(1)
    for parameter in parameters:
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=random) * parameter.data.abs().mean()
    yield
    for parameter, values in zip(parameters, before, strict=True):
        parameter.data.copy_(values)


def vision_weight(trainer: Any) -> torch.nn.Parameter:
    return next(value for name, value in trainer.model.named_parameters() if "patch_embed" in name and value.dim() > 1)


def tokenized(trainer: Any) -> tuple[list[list[int]], list[Any]]:
    prompts = [with_images_in_place(row) for row in trainer.train_dataset]
    ids, images, _ = trainer._tokenize_prompts(prompts)
    return ids, images


def test_vllm_samples_from_the_policy(trainer: Any) -> None:
    mean, largest, found = differences(trainer)
    assert largest < EXACT
    assert mean < EXACT / 4
    assert {one.images for one in found} == {0, 1, 2}
    assert sum(len(one.differences) for one in found) > 50
    check(found, Parity(), "float32", trainer.processing_class)


def test_weights_that_do_not_arrive_are_noticed(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And images are seen at all: else agreement would say nothing."""
    with moved(vision_weight(trainer)), monkeypatch.context() as patch:
        patch.setattr(trainer.vllm_generation, "sync_weights", lambda: None)
        _, largest, found = differences(trainer)
    assert largest > 1e-2
    assert max(abs(value) for one in found if not one.images for value in one.differences) < EXACT
    with pytest.raises(RolloutError, match=r"differ from the trainer's by [\s\S]*largest  at[\s\S]*weights that did not reach"):
        check(found, Parity(), "float32", trainer.processing_class)


# --- 1: prompts that are expanded twice -------------------------------------------------------------------------------


def test_trl_gives_vllm_other_prompts_upstream(trainer: Any) -> None:
    ids, images = tokenized(trainer)
    generation = trainer.vllm_generation
    seen = VLLMGeneration.generate(generation, ids, [some or None for some in images], 1)[0]
    assert any(len(theirs) > len(ours) for theirs, ours, some in zip(seen, ids, images, strict=True) if some)


def test_other_ids_stop_the_run_with_where_they_part(trainer: Any) -> None:
    ids, images = tokenized(trainer)
    ids[2] = [*ids[2][:5], ids[2][5] + 1, *ids[2][6:]]
    with pytest.raises(RolloutError, match=r"prompt 2 of this batch[\s\S]*they part at token 5:[\s\S]*trainer [\s\S]*vLLM"):
        trainer.vllm_generation.generate(ids, images, 1)


# --- 2: embeddings from before a sync ---------------------------------------------------------------------------------


def test_images_are_seen_by_the_weights_of_now(trainer: Any) -> None:
    differences(trainer)  # fills the caches
    with moved(vision_weight(trainer)):
        assert differences(trainer)[1] < EXACT
    assert differences(trainer)[1] < EXACT


def test_without_the_reset_they_are_not(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that arrive in place, as on a GPU, and a prefix cache that is emptied, as TRL does it."""
    generation = trainer.vllm_generation
    runner = generation.llm.llm_engine.model_executor.driver_worker.model_runner
    theirs = next(value for name, value in runner.get_model().named_parameters() if "patch_embed" in name and value.dim() > 1)

    def arrive() -> None:
        theirs.data.copy_(vision_weight(trainer).data.view_as(theirs))
        generation.llm.reset_prefix_cache()

    differences(trainer)  # fills the caches
    with moved(vision_weight(trainer)), monkeypatch.context() as patch:
        patch.setattr(generation, "sync_weights", arrive)
        assert differences(trainer)[1] > 1e-2
        generation.llm.llm_engine.reset_encoder_cache()
        assert differences(trainer)[1] < EXACT


def test_trl_resets_the_prefix_cache_alone_upstream() -> None:
    source = inspect.getsource(VLLMGeneration.sync_weights)
    assert "reset_prefix_cache" in source
    assert "encoder_cache" not in source
    assert "mm_cache" not in source


# --- 3: the image token among the sampled ones ------------------------------------------------------------------------


def test_the_image_token_is_not_sampled(trainer: Any) -> None:
    token = trainer.model.config.image_token_id
    data = [row for row in trainer.train_dataset if row["images"]]
    ids, images, _ = trainer._tokenize_prompts([with_images_in_place(row) for row in data] * 8)
    generation = trainer.vllm_generation

    def sampled() -> int:
        generation.max_completion_length = 64
        return sum(row.count(token) for row in generation.generate(ids, images, 1)[1])

    assert sampled() == 0
    kept, generation.generation_kwargs = generation.generation_kwargs, {"logit_bias": {token: 2.0}}
    assert sampled() > 0
    generation.generation_kwargs = {**kept, "seed": 3}
    assert sampled() == 0
    generation.generation_kwargs = kept


def test_trl_suppresses_it_for_transformers_alone_upstream() -> None:
    source = inspect.getsource(VLLMGeneration) + inspect.getsource(GRPOTrainer.__init__)
    assert "logit_bias" not in source
    assert "bad_words" not in source
    assert source.count("suppress_tokens") == 1  # of transformers' generation


# --- 4: dtype, and what the processor is told -------------------------------------------------------------------------


def test_vllm_computes_in_the_trainers_dtype(trainer: Any) -> None:
    assert trainer.vllm_generation.llm.llm_engine.model_config.dtype == torch.float32


def test_trl_names_no_dtype_upstream() -> None:
    source = inspect.getsource(VLLMGeneration._init_vllm)
    for option in ("dtype=", "mm_processor_kwargs", "revision"):
        assert option not in source


@pytest.mark.parametrize(
    ("architecture", "option", "tokens"),
    [
        ("qwen2_5_vl", "{max_pixels: 1024, min_pixels: 1024}", (38, 41)),
        ("idefics3_tiles", "{size: {longest_edge: 32}}", (38, 65)),
    ],
)
def test_both_are_told_the_same_of_images(
    architecture: str, option: str, tokens: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, option = rows([[picture(0)]] * 2), f"model.processor={option}"
    start = build(architecture, tmp_path / "start")
    refusal = pytest.raises(RolloutError, match="other ids")
    for told, expected in ((option, nullcontext()), ("seed=0", nullcontext()), (option, refusal)):
        trainer = rolling(start, tmp_path / "out", data, told)
        try:
            with expected as refused:
                _, largest, found = differences(trainer, 2)
            if refused is None:
                assert largest < EXACT
                assert found[0].prompt_tokens == tokens[told != option]
        finally:
            trainer.vllm_generation.close()
        if told != option:
            monkeypatch.setattr(Setup, "engine_args", without(Setup.engine_args, "mm_processor_kwargs"))


def without(args: Callable[[Setup], dict[str, Any]], name: str) -> Callable[[Setup], dict[str, Any]]:
    return lambda setup: {key: value for key, value in args(setup).items() if key != name}


# --- 5: weights on CPU ------------------------------------------------------------------------------------------------


def test_trl_cannot_sync_on_cpu_upstream(trainer: Any) -> None:
    fails = "weight_loader|load weight .* into parameter"
    with pytest.raises((AttributeError, AssertionError), match=fails):
        VLLMGeneration.sync_weights(trainer.vllm_generation)
    trainer.vllm_generation.sync_weights()
    assert differences(trainer)[1] < EXACT


def test_every_weight_arrives(trainer: Any) -> None:
    with moved(*trainer.model.parameters()):
        assert differences(trainer)[1] < EXACT
    assert differences(trainer)[1] < EXACT


def test_vllm_forgets_a_tied_output_layer_upstream(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with moved(trainer.model.get_output_embeddings().weight), monkeypatch.context() as patch:
        patch.setattr("rlperc.train.rollout.pack_heads_again", lambda model: None)
        assert differences(trainer)[1] > 1e-2


# --- 6: images with transparency --------------------------------------------------------------------------------------


def translucent() -> Pillow.Image:
    image = picture(0).convert("RGBA")
    image.putalpha(picture(1).convert("L"))
    return image


def test_transparency_is_seen_alike(trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM lays it over white, transformers drops it; rlperc's data has none."""
    translucent().save(tmp_path / "0.png")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "How many?", "image": "0.png"}\n' * 2)
    loaded = load_rows(Data(file=tmp_path / "rows.jsonl"), seed=0)
    monkeypatch.setattr(trainer, "train_dataset", loaded)
    assert differences(trainer, 2)[1] < EXACT
    monkeypatch.setattr(trainer, "train_dataset", rows([[translucent()]] * 2))
    assert differences(trainer, 2)[1] > 1e-2
