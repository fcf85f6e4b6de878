"""What a recipe's `rollout` becomes, and the arithmetic of the parity check, where there is no vLLM. See tests/on_vllm."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from launch import QUICKSTART, rlperc
from trainers import reason_stage, tiny_model

from rlperc.cli import main
from rlperc.errors import RecipeError, RolloutError
from rlperc.recipe.load import dump_recipe, load_recipe
from rlperc.recipe.rollout import Parity, Rollout
from rlperc.train.models import load_model
from rlperc.train.parity import Compared, ParityWatch, check, spread, table
from rlperc.train.stages import _setup, stage_config
from rlperc.train.vllm_setup import Setup, ends_of, where_they_part, without_image_token

VLLM = ("rollout.engine=vllm",)


class Letters:
    """A processor that reads ids as letters."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(97 + one) for one in ids)


def compared(*differences: float, row: int = 0) -> Compared:
    return Compared(0, row, 12, 1, [1] * len(differences), list(differences))


# --- a recipe's words -------------------------------------------------------------------------------------------------


def test_transformers_draws_where_nothing_is_said() -> None:
    recipe = load_recipe(QUICKSTART)
    assert {stage.rollout.engine for stage in recipe.stages} == {"transformers"}
    assert recipe.extras == ["train"]
    assert load_recipe(QUICKSTART, *VLLM).extras == ["train", "vllm"]


def test_a_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    for rollout in (
        "{engine: vllm}",
        "{engine: vllm, mode: server, vllm: {max_model_len: 9}, sync: file}",
        "{engine: transformers}",
    ):
        recipe = load_recipe(QUICKSTART, f"rollout={rollout}")
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
        assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_a_stage_goes_on_from_the_recipes_rollout() -> None:
    shared = "rollout={engine: vllm, vllm: {max_model_len: 512, dtype: float32}}"
    own = "stages.reason.rollout={mode: server, vllm: {dtype: bfloat16}}"
    rollout = load_recipe(QUICKSTART, shared, own).stages[-1].rollout
    assert (rollout.engine, rollout.mode) == ("vllm", "server")
    assert rollout.vllm == {"max_model_len": 512, "dtype": "bfloat16"}


def test_a_stage_or_a_shell_may_leave_the_recipes_server() -> None:
    shared = "rollout={engine: vllm, mode: server, url: 'http://a:1', sync: file, vllm: {max_model_len: 512}}"
    assert load_recipe(QUICKSTART, shared, "stages.reason.rollout.engine=transformers").stages[-1].rollout == Rollout()
    rollout = load_recipe(QUICKSTART, shared, "stages.reason.rollout.mode=colocate").stages[-1].rollout
    assert (rollout.mode, rollout.vllm, rollout.sync) == ("colocate", {"max_model_len": 512}, None)


@pytest.mark.parametrize("url", ["https://a:1", "http://a", "http://a:0", "http://a:99999", "http://a:1/", "a:1"])
def test_a_servers_url(url: str) -> None:
    with pytest.raises(RecipeError, match="http://HOST:PORT"):
        load_recipe(QUICKSTART, f"rollout={{engine: vllm, mode: server, url: '{url}'}}")


def test_training_on_vllm_without_it_gives_the_install_line(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    for command in ("train", "serve", "parity"):
        options = [*VLLM, "rollout.mode=server"] if command == "serve" else VLLM
        assert main([command, str(QUICKSTART), f"output={tmp_path / 'run'}", *options]) == 2
        assert 'pip install "rlperc[vllm]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_check_notes_what_it_cannot_know(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", str(QUICKSTART), *VLLM, "stages.reason.train.vllm_importance_sampling_correction=false"]) == 0
    said = capsys.readouterr().out
    assert "not checked, because vllm is not installed here" in said
    assert "nothing watches vLLM's log-probabilities" in said


def test_check_knows_a_context_that_responses_fill(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", str(QUICKSTART), "rollout.engine=vllm", "rollout.vllm.max_model_len=64"]) == 2  # as long as a response
    assert "max_completion_length is 64" in capsys.readouterr().err
    assert main(["check", str(QUICKSTART), "rollout.engine=vllm", "rollout.vllm.max_model_len=65"]) == 0


def test_check_notes_a_vllm_that_nothing_draws_from(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = yaml.safe_load(QUICKSTART.read_text())
    recipe["stages"] = recipe["stages"][:2]
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["check", str(tmp_path / "sft.yaml"), "rollout.engine=vllm", "evaluate.answer=answer_number"]) == 0
    assert "vLLM is not used" in capsys.readouterr().out


def test_parity_wants_a_stage_on_vllm() -> None:
    done = rlperc("parity", str(QUICKSTART))
    assert done.returncode == 2
    assert "no RL stage of this recipe draws on vLLM" in done.stderr


# --- what vLLM is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ((), "float32"),
        (("model.dtype=bfloat16",), "bfloat16"),
        (("stages.reason.train.bf16=true",), "bfloat16"),
        (("stages.reason.rollout.vllm.dtype=float16",), "float16"),
    ],
)
def test_vllm_computes_in_what_the_trainer_computes_in(options: tuple[str, ...], dtype: str, tmp_path: Path) -> None:
    _, stage = reason_stage("stages.reason.rollout.engine=vllm", *options)
    model, _ = load_model(tiny_model(tmp_path / "start"), stage.model)
    stub = SimpleNamespace(bf16=stage.train.get("bf16", False), fp16=False, seed=7, output_dir="there")
    setup = _setup(stage, stub, model)
    assert setup is not None
    assert setup.engine_args()["dtype"] == setup.coarser_dtype == dtype
    assert (setup.seed, setup.folder) == (7, "there")


def test_the_coarser_of_both_dtypes_bounds_the_check() -> None:
    exact = Rollout(engine="vllm", vllm={"dtype": "float32"})
    assert Setup(exact, "bfloat16").coarser_dtype == "bfloat16"
    assert Setup(exact, "float32").coarser_dtype == "float32"
    assert Setup(Rollout(engine="vllm", vllm={"dtype": "bfloat16"}), "float32").coarser_dtype == "bfloat16"


def test_trl_is_told_of_vllm_by_its_own_names(tmp_path: Path) -> None:
    words = (
        "{engine: vllm, vllm: {tensor_parallel_size: 1, gpu_memory_utilization: 0.5, max_model_len: 99, enable_sleep_mode: true}}"
    )
    recipe, stage = reason_stage(f"stages.reason.rollout={words}")
    args = stage_config(recipe, stage, tmp_path)
    assert (args.use_vllm, args.vllm_mode) == (True, "colocate")
    told = (args.vllm_gpu_memory_utilization, args.vllm_max_model_length, args.vllm_enable_sleep_mode)
    assert told == (0.5, 99, True)


def test_the_processors_options_go_to_both(tmp_path: Path) -> None:
    start = tiny_model(tmp_path / "start")
    _, stage = reason_stage("model.processor={size: {longest_edge: 16}}")
    _, processor = load_model(start, stage.model)
    assert processor.image_processor.size["longest_edge"] == 16
    assert Setup(Rollout(engine="vllm"), "float32", processor=stage.model.processor).engine_args()["mm_processor_kwargs"] == {
        "size": {"longest_edge": 16}
    }
    _, stage = reason_stage("model.processor={max_pixels: 99}")
    with pytest.raises(RecipeError, match="has no such option"):
        load_model(start, stage.model)


def test_the_image_token_gets_a_bias_beside_those_of_the_recipe() -> None:
    model = SimpleNamespace(config=SimpleNamespace(image_token_id=5))
    assert without_image_token(model, None) == {"logit_bias": {5: -100.0}}
    assert without_image_token(model, {"seed": 1, "logit_bias": {3: 2.0}}) == {"seed": 1, "logit_bias": {5: -100.0, 3: 2.0}}
    assert without_image_token(SimpleNamespace(config=SimpleNamespace()), {"seed": 1}) == {"seed": 1}


@pytest.mark.parametrize(("ends", "known"), [(3, [3]), ([3, 4], [3, 4]), (None, [])])
def test_where_a_response_ends(ends: Any, known: list[int]) -> None:
    assert ends_of(SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ends), config=None)) == known


def test_where_two_prompts_part() -> None:
    said = where_they_part([1, 2, 2, 2, 3], [1, 2, 2, 2, 2, 2, 3], Letters())
    assert "5 tokens in the trainer, 7 in vLLM; they part at token 4" in said
    assert "[1, 2, 2, 2, 3] 'bcccd'" in said
    assert "they part at token 2" in where_they_part([1, 2], [1, 2, 3], Letters())


# --- the check --------------------------------------------------------------------------------------------------------


def test_mean_and_largest_are_over_all_tokens() -> None:
    assert spread([compared(0.1, -0.3), compared(0.2)]) == (pytest.approx(0.2), 0.3)
    assert spread([compared()]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("differences", "dtype", "settings", "stops"),
    [
        ((1e-6, -1e-6), "float32", Parity(), False),
        ((2e-3, 2e-3), "float32", Parity(), True),
        ((0.0,) * 99 + (0.03,), "float32", Parity(), True),
        ((2e-3, 0.03), "bfloat16", Parity(), False),
        ((0.2, -0.2), "bfloat16", Parity(), True),
        ((2e-3, 2e-3), "float32", Parity(mean=0.01), False),
        ((2e-3, 2e-3), "float32", Parity(mean=0.01, max=1e-3), True),
        ((), "float32", Parity(), True),
    ],
)
def test_tolerances(differences: tuple[float, ...], dtype: str, settings: Parity, stops: bool) -> None:
    found = [compared(*differences)]
    if stops:
        with pytest.raises(RolloutError):
            check(found, settings, dtype, Letters())
    else:
        check(found, settings, dtype, Letters())


def test_the_table_begins_with_the_worst() -> None:
    lines = table([compared(0.1, row=0), compared(0.1, -0.5, row=1), compared(row=2)], Letters()).splitlines()
    assert lines[0].split() == ["prompt", "tokens", "images", "response", "mean", "largest", "at"]
    assert lines[1].split() == ["0:1", "12", "1", "2", "0.3", "0.5", "1", "'b'"]
    assert [line.split()[0] for line in lines[1:]] == ["0:1", "0:0", "0:2"]


def watched(gaps: list[float], caplog: pytest.LogCaptureFixture) -> list[str]:
    setup = SimpleNamespace(rollout=Rollout(engine="vllm"))
    watch = ParityWatch(SimpleNamespace(vllm_generation=SimpleNamespace(setup=setup)))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for step, gap in enumerate(gaps):
            state = SimpleNamespace(global_step=step, is_world_process_zero=True)
            watch.on_log(None, state, None, {"sampling/sampling_logp_difference/mean": gap})
    return [record.getMessage() for record in caplog.records]


def test_a_jump_is_warned_of_and_growth_is_not(caplog: pytest.LogCaptureFixture) -> None:
    (said,) = watched([0.004] * 8 + [0.08] + [0.004] * 3, caplog)
    assert "step 8: vLLM's log-probabilities are 0.080 from the trainer's on average, after 0.004 before" in said
    assert "weights that did not reach vLLM" in said
    assert not watched([0.004 * 1.1**step for step in range(40)], caplog)
    assert not watched([1e-6] * 8 + [1e-4], caplog)  # 100 times as much, and nothing all the same


@given(st.lists(st.floats(0, 1), max_size=30))
def test_the_watch_takes_any_gaps(gaps: list[float]) -> None:
    setup = SimpleNamespace(rollout=Rollout(engine="vllm"))
    watch = ParityWatch(SimpleNamespace(vllm_generation=SimpleNamespace(setup=setup)))
    state = SimpleNamespace(global_step=1, is_world_process_zero=False)
    for gap in gaps:
        watch.on_log(None, state, None, {"sampling/sampling_logp_difference/mean": gap})
    assert len(watch.seen) == min(20, len(gaps))


def test_log_probabilities_take_the_temperature(tmp_path: Path) -> None:
    """As vLLM's processed log-probabilities do: log softmax of the logits over the temperature."""
    from rlperc.train.scorer import ModelScorer
    from rlperc.words.response import Tags

    _, stage = reason_stage()
    model, processor = load_model(tiny_model(tmp_path / "start"), stage.model)
    prompt, written = [{"role": "user", "content": "How many?"}], processor.tokenizer("3 4", add_special_tokens=False).input_ids
    scorer = ModelScorer(model, processor, [prompt], [written], Tags(), 1, {})
    (found,) = scorer.logprobs([[]], temperature=2.0)
    text = processor.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    ids = processor.tokenizer(text, add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + written])).logits[0, len(ids) - 1 : -1] / 2
    expected = logits.log_softmax(-1).gather(1, torch.tensor(written)[:, None])[:, 0]
    assert torch.allclose(found[: len(written)], expected, atol=1e-5)
    assert not math.isclose(found[0].item(), scorer.logprobs([[]])[0][0].item(), abs_tol=1e-3)
