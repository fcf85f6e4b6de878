"""The loss of supervised fine-tuning, shared between perception and the rest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from launch import QUICKSTART
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from trainers import checkpoints, tiny_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl import SFTTrainer

from rlperc.errors import DataError, RecipeError
from rlperc.recipe.load import load_recipe
from rlperc.recipe.reweight import Dynamic, Fixed, Reweight
from rlperc.train.balance import Balance, Seen
from rlperc.train.data import load_rows, with_completions
from rlperc.train.models import load_model
from rlperc.train.reweighted import PERCEIVED, ReweightedSFTTrainer, perceived
from rlperc.train.sft import train_sft
from rlperc.train.stages import check_rows, stage_config
from rlperc.words.response import Tags

WARM = (
    "stages.warm.train.per_device_train_batch_size=8",
    "stages.warm.train.max_steps=2",
    "stages.warm.data.rows=32",
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start"))


def trainer(start: Path, folder: Path, reweight: Fixed | Dynamic | None, *overrides: str, lora: Any = None) -> Any:
    """The quickstart's supervised stage, which does not train yet."""
    recipe = load_recipe(QUICKSTART, *WARM, *overrides)
    stage = recipe.stages[1]
    model, processor = load_model(start, stage.model)
    rows = with_completions(load_rows(stage.data, seed=0), "here")
    shared = {"model": model, "args": stage_config(recipe, stage, folder), "train_dataset": rows, "processing_class": processor}
    shared["peft_config"] = lora
    return SFTTrainer(**shared) if reweight is None else ReweightedSFTTrainer(reweight=reweight, tags=Tags(), **shared)


def seen(tokens: tuple[float, float], losses: tuple[float, float], lengths: tuple[float, float] = (0, 0)) -> Seen:
    return Seen(torch.tensor(tokens), torch.tensor(losses), torch.tensor(lengths), torch.zeros(2, 0, 0))


def test_weights_worked_by_hand() -> None:
    """Eight tokens of the rest and two of perception: .5 each is .5 / .8 and .5 / .2 of what plain fine-tuning gives them."""
    balance = Balance(Fixed(mode="fixed", perception=0.5))
    assert balance.weights(torch.tensor([8.0, 2.0])).tolist() == pytest.approx([0.625, 2.5])
    assert balance.weights(torch.tensor([8.0, 0.0])).tolist() == [1, 1]
    assert balance.weights(torch.tensor([0.0, 2.0])).tolist() == [1, 1]


@given(st.floats(0.01, 0.99), st.integers(1, 10**6), st.integers(1, 10**6))
def test_weights_are_of_mean_one_and_share_as_asked(wanted: float, rest: int, perception: int) -> None:
    tokens = torch.tensor([float(rest), float(perception)])
    parts = Balance(Fixed(mode="fixed", perception=wanted)).weights(tokens) * tokens / tokens.sum()
    assert parts.sum().item() == pytest.approx(1, rel=1e-5)
    assert parts[1].item() == pytest.approx(wanted, rel=1e-4)


def test_lambda_worked_by_hand() -> None:
    """Mean losses of 1 and 3: the loss-following rule wants .75; from .75, mean losses of 1 and 1 take a fifth of the way."""
    balance = Balance(Dynamic(mode="dynamic", rule="loss", every=1, smoothing=0.8))
    assert balance.weights(torch.tensor([8.0, 2.0])).tolist() == [1, 1]  # nothing was measured yet
    said = balance.update(0, seen((8, 2), (8.0, 6.0)))
    assert said["lambda"] == pytest.approx(0.2)
    assert (said["loss_rest"], said["loss_perception"]) == (1, 3)
    assert balance.perception == pytest.approx(0.75)
    assert balance.update(1, seen((8, 2), (8.0, 2.0)))["lambda"] == pytest.approx(0.75)
    assert balance.perception == pytest.approx(0.8 * 0.75 + 0.2 * 0.5)
    assert balance.update(2, seen((8, 0), (8.0, 0.0))) == {}  # no perception to be weighed


def test_ngdiff_gives_the_longer_gradient_the_smaller_weight() -> None:
    """Means of the maps: length 3 of the rest, 1 of perception, so that λ·1 = (1 - λ)·3."""
    found = seen((2, 4), (2.0, 4.0))
    found.maps = torch.tensor([[[6.0]], [[4.0]]])
    free = Balance(Dynamic(mode="dynamic", rule="ngdiff", every=1, floor=False))
    free.update(0, found)
    assert free.perception == pytest.approx(0.75)
    found.maps = torch.tensor([[[2.0]], [[36.0]]])  # 1 and 9
    free, floored = (Balance(Dynamic(mode="dynamic", rule="ngdiff", every=1, floor=floor)) for floor in (False, True))
    free.update(0, found)
    floored.update(0, found)
    assert free.perception == pytest.approx(0.1)
    assert floored.perception == pytest.approx(4 / 6)  # the share of perception tokens


def test_token_gradients_and_the_limits() -> None:
    balance = Balance(Dynamic(mode="dynamic", rule="token_gradient", every=2, high=0.7))
    balance.update(0, seen((10, 2), (1.0, 1.0), (10.0, 8.0)))  # means of 1 and 4
    assert balance.perception == 0.7
    balance.update(1, seen((10, 2), (1.0, 1.0), (1e9, 8.0)))  # not measured in this step
    assert balance.perception == 0.7
    again = Balance(balance.settings)
    again.restore(balance.kept())
    assert again.perception == 0.7


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({"mode": "fixed", "perception": 1.0}, "less than 1"),
        ({"mode": "fixed", "rule": "loss"}, "Extra inputs"),
        ({"mode": "dynamic", "rule": "best"}, "'loss', 'ngdiff' or 'token_gradient'"),
        ({"mode": "dynamic", "low": 0.5, "high": 0.4}, "low: 0.5 is above high: 0.4"),
    ],
)
def test_what_cannot_be_is_refused(written: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(Reweight).validate_python(written)


@pytest.mark.parametrize(
    ("written", "asked", "instead"),
    [
        ("{mode: dynamc}", "'stages.warm.reweight.mode: dynamc'", "did you mean 'dynamic'?"),
        ("{perception: 0.5}", "'stages.warm.reweight'", "stages.warm.reweight.mode: …"),
        (
            "{mode: dynamic, perception: 0.5}",
            "the key 'perception' in 'stages.warm.reweight'",
            "one of: every, floor, high, low, mode, rule, smoothing",
        ),
    ],
)
def test_what_is_misspelled_is_said_in_the_recipes_words(written: str, asked: str, instead: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, f"stages.warm.reweight={written}")
    assert (caught.value.asked, caught.value.instead) == (asked, instead)


def test_only_supervised_stages_are_reweighted() -> None:
    with pytest.raises(RecipeError, match="this one is grpo"):
        load_recipe(QUICKSTART, "stages.reason.reweight={mode: fixed}")
    with pytest.raises(RecipeError, match="loss_type: …"):
        load_recipe(QUICKSTART, "stages.warm.reweight={mode: fixed}", "stages.warm.train.loss_type=dft")


def test_perception_tokens_of_packed_rows() -> None:
    """Letters for tokens; two responses in one row, of which the second is cut off in its perception."""
    tags = Tags("p", "t", "a")
    text, packed = "<p>12</p><t>3</t>", "??<p>12</p><t>3</t>?<p>4"
    labels = torch.tensor([[-100 if letter == "?" else ord(letter) for letter in packed]])
    marked = perceived(labels, lambda ids: "".join(map(chr, ids)), tags, {})
    shown = "".join("x" if one else "." for one in marked[0].tolist())
    assert shown == "..xxxxxxxxx........" + "." + "xxxx"
    assert len(text) == 17


def loss_and_gradient(made: Any) -> tuple[Tensor, Tensor]:
    """Of the first step, as the trainer itself would take it."""
    torch.manual_seed(0)
    loader = iter(made.get_train_dataloader())
    steps = made.args.gradient_accumulation_steps
    batches, count = made.get_batch_samples(loader, steps, made.args.device)
    made.model.train()
    made.model.zero_grad()
    made.current_gradient_accumulation_steps = steps
    total = sum(made.training_step(made.model, batch, count) for batch in batches)
    gradients = [value.grad.flatten() for value in made.model.parameters() if value.grad is not None]
    return total, torch.cat(gradients)


def test_at_the_share_of_its_tokens_it_is_trls_loss(start: Path, tmp_path: Path) -> None:
    plain = trainer(start, tmp_path, None)
    ours = trainer(start, tmp_path, Fixed(mode="fixed"))
    batches, _ = ours.get_batch_samples(iter(ours.get_train_dataloader()), 1, ours.args.device)
    share = (ours._tokens[1] / ours._tokens.sum()).item()
    assert 0.1 < share < 0.5
    assert PERCEIVED in batches[0]
    ours.balance.perception = share
    expected, found = loss_and_gradient(plain), loss_and_gradient(ours)
    assert found[0].item() == pytest.approx(expected[0].item(), abs=1e-6)
    assert torch.allclose(found[1], expected[1], atol=1e-6)


def test_it_is_the_blend_of_two_means_over_all_batches_of_a_step(start: Path, tmp_path: Path) -> None:
    """Worked out again from the logits; and batches of 4, twice, are one of 8."""
    whole = trainer(start, tmp_path, Fixed(mode="fixed", perception=0.7))
    split = trainer(
        start,
        tmp_path,
        Fixed(mode="fixed", perception=0.7),
        "stages.warm.train.per_device_train_batch_size=4",
        "stages.warm.train.gradient_accumulation_steps=2",
    )
    loss, gradient = loss_and_gradient(whole)
    again, same = loss_and_gradient(split)
    assert again.item() == pytest.approx(loss.item(), abs=1e-6)
    assert torch.allclose(same, gradient, atol=1e-6)
    torch.manual_seed(0)
    (batch,), _ = whole.get_batch_samples(iter(whole.get_train_dataloader()), 1, whole.args.device)
    marked, labels = batch.pop(PERCEIVED)[:, 1:], batch.pop("labels")[:, 1:]
    with torch.no_grad():
        logits = whole.model(**batch).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
    learned = labels != -100
    by_hand = 0.7 * losses[learned & marked].mean() + 0.3 * losses[learned & ~marked].mean()
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_the_maps_are_the_gradient_of_a_map_before_the_head(start: Path, tmp_path: Path) -> None:
    made = trainer(start, tmp_path, Dynamic(mode="dynamic", rule="ngdiff", every=1, floor=False))
    loss_and_gradient(made)
    maps, lengths = made._seen.maps.clone(), made._seen.lengths.clone()
    torch.manual_seed(0)
    (batch,), _ = made.get_batch_samples(iter(made.get_train_dataloader()), 1, made.args.device)
    marked, labels = batch.pop(PERCEIVED)[:, 1:], batch.pop("labels")[:, 1:]
    hidden = made.model.base_model(**batch).last_hidden_state[:, :-1].detach()
    learned = labels != -100
    for kind, chosen in ((0, learned & ~marked), (1, learned & marked)):
        inner = torch.eye(hidden.size(-1), requires_grad=True)
        own = hidden[chosen].clone().requires_grad_()
        logits = made.model.get_output_embeddings()(own @ inner.T)
        loss = torch.nn.functional.cross_entropy(logits, labels[chosen], reduction="sum")
        by_map, by_token = torch.autograd.grad(loss, (inner, own))
        assert torch.allclose(maps[kind], by_map, rtol=1e-3, atol=1e-4)
        assert lengths[kind].item() == pytest.approx(by_token.norm(dim=-1).sum().item(), rel=1e-4)


def test_measuring_does_not_change_the_step(start: Path, tmp_path: Path) -> None:
    """The gradient that is looked at is not the one that is taken; nor is it left behind."""
    looks = trainer(start, tmp_path, Dynamic(mode="dynamic", rule="token_gradient", every=1))
    plain = trainer(start, tmp_path, None)
    assert torch.allclose(loss_and_gradient(looks)[1], loss_and_gradient(plain)[1], atol=1e-6)


def test_adapters_train_and_lambda_is_logged(start: Path, tmp_path: Path) -> None:
    overrides = (*WARM, "model.lora={r: 4}", "stages.see.model.lora=null", "stages.warm.train.logging_steps=1")
    recipe = load_recipe(QUICKSTART, *overrides)
    stage = recipe.stages[1]
    model, processor = load_model(start, stage.model)
    before = copy.deepcopy(model.state_dict())
    from rlperc.train.stages import _lora

    logged: list[dict] = []

    class Log(TrainerCallback):
        def on_log(self, *_: Any, logs: dict, **__: Any) -> None:
            logged.append(logs)

    rows, config = load_rows(stage.data, seed=0), stage_config(recipe, stage, tmp_path)
    settings = Dynamic(mode="dynamic", rule="ngdiff", every=1)
    left = train_sft(
        model, processor, rows, config, [Log()], "here", checkpoints(tmp_path), _lora(stage.model, model), settings, Tags()
    )
    merged = left.model.merge_and_unload().state_dict()
    assert any(not torch.equal(before[name], value) for name, value in merged.items())
    steps = [one for one in logged if "reweight/lambda" in one]
    assert len(steps) == 2
    assert steps[0]["reweight/lambda"] == pytest.approx(steps[0]["reweight/share"])
    assert steps[1]["reweight/lambda"] >= steps[1]["reweight/share"] - 0.05
    assert {"reweight/size_rest", "reweight/size_perception", "reweight/loss_rest", "reweight/loss_perception"} <= set(steps[0])


def text_rows(start: Path) -> Dataset:
    rows = load_rows(load_recipe(QUICKSTART, *WARM).stages[1].data, seed=0)
    return with_completions(rows.remove_columns("image"), "here")


def packed(start: Path, folder: Path, reweight: Fixed | Dynamic, **wanted: Any) -> ReweightedSFTTrainer:
    """A small language model on the quickstart's responses without their images."""
    from trl import SFTConfig

    _, processor = load_model(start, load_recipe(QUICKSTART).stages[1].model)
    tokenizer = processor.tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder / "text")
    args = SFTConfig(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 32,
            "packing": True,
            "max_length": 4096,
            "report_to": "none",
            "bf16": False,
            "use_cpu": not torch.cuda.is_available(),
            **wanted,
        }
    )
    return ReweightedSFTTrainer(
        reweight=reweight,
        tags=Tags(),
        model=AutoModelForCausalLM.from_pretrained(folder / "text", attn_implementation="eager"),
        args=args,
        train_dataset=text_rows(start),
        processing_class=tokenizer,
    )


def test_packed_text_counts_the_same_tokens(start: Path, tmp_path: Path) -> None:
    """Rows without images, in a language model: packed or not, all of them have the same tokens of each kind."""
    found = []
    for packing in (False, True):
        made = packed(start, tmp_path, Fixed(mode="fixed", perception=0.6), packing=packing)
        made.get_batch_samples(iter(made.get_train_dataloader()), 1, made.args.device)
        found.append(made._tokens.tolist())
    assert found[0] == found[1]
    assert found[0][1] > 100


@pytest.mark.parametrize("rule", ["loss", "ngdiff", "token_gradient"])
def test_lambda_follows_packed_text(start: Path, tmp_path: Path, rule: str) -> None:
    short = {"max_length": 256, "per_device_train_batch_size": 2, "max_steps": 4, "logging_steps": 1, "learning_rate": 0.01}
    made = packed(start, tmp_path, Dynamic(mode="dynamic", rule=rule, every=1), **short)
    assert len(made.train_dataset) < 32 / 2  # several responses in a row
    made.train()
    steps = [entry for entry in made.state.log_history if "reweight/lambda" in entry]
    assert len(steps) == 4
    assert len({entry["reweight/lambda"] for entry in steps}) > 1
    assert all(0.05 < entry["reweight/share"] < 0.95 for entry in steps)
    assert steps[-1]["reweight/loss_rest"] < steps[0]["reweight/loss_rest"]


def test_responses_without_the_tags_are_said(start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = trainer(start, tmp_path, Fixed(mode="fixed"))
    made.data_collator.tags = Tags("seen", "thought", "said")
    with caplog.at_level("WARNING", logger="rlperc"):
        loss_and_gradient(made)
        made.after_step(0)
    assert "no token of the first step stands between the perception's tags" in caplog.text
    assert made._metrics["train"]["reweight/share"] == [0.0]


def test_rows_without_a_perception_are_refused_before_anything_trains() -> None:
    recipe = load_recipe(QUICKSTART, "stages.warm.reweight={mode: fixed}")
    stage = next(one for one in recipe.stages if one.name == "warm")
    spoken = "<perception>[[1]]</perception><answer>1</answer>"
    check_rows(stage, Dataset.from_dict({"response": ["3", spoken]}), recipe.tags)
    with pytest.raises(DataError, match="none of the 2 responses has a readable <perception>"):
        check_rows(stage, Dataset.from_dict({"response": ["3", "<answer>4</answer>"]}), recipe.tags)
    with pytest.raises(DataError, match="<seen>"):
        check_rows(stage, Dataset.from_dict({"response": [spoken]}), Tags("seen"))
