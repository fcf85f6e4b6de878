"""PPO on TRL's GRPO trainer: what the critic sees, what is paid where, what is saved and resumed."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from launch import QUICKSTART, SHORT, TORCHRUN, rlperc
from safetensors.torch import load_file
from trainers import checkpoints, make, outputs, pay, reason_stage, say, tiny_model
from transformers import AutoModelForImageTextToText
from trl import GRPOTrainer

from rlperc.train.data import load_rows
from rlperc.train.grpo import train_rl
from rlperc.train.models import load_model
from rlperc.train.ppo import RlpercPPOTrainer
from rlperc.train.stages import make_trainer, stage_config

PPO = ("stages.reason.kind=ppo", "stages.reason.ppo.critic_learning_rate=0.05")
TEXTS = (
    "<perception>[[1,2],[3,4]]</perception><think>1+2=3</think><answer>3</answer>",
    "<perception>[[1,2],[3,4]]</perception>",
    "no tags at all",
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start"))


def test_a_value_is_that_of_the_state_before_its_token(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(start, tmp_path, *PPO, "stages.reason.train.learning_rate=0", "stages.reason.train.max_steps=1")
    say(monkeypatch, TEXTS)
    torch.nn.init.normal_(trainer.policy.critic.head.weight)
    head = trainer.policy.critic.head.weight.detach().clone()
    seen = outputs(trainer)
    trainer.train()
    output = seen[0]
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    images = {name: output[name] for name in ("pixel_values", "pixel_attention_mask")}
    with torch.no_grad():
        states = trainer.policy.model(input_ids=ids, attention_mask=mask, **images).last_hidden_state
    width = output["completion_ids"].size(1)
    by_hand = (states @ head.T)[:, -width - 1 : -1, 0]
    inside = output["completion_mask"].bool()
    assert torch.allclose(output["old_values"][inside], by_hand[inside], atol=1e-5)


PLAIN = ("stages.reason.ppo.whiten_advantages=false", "stages.reason.ppo.lam=1.0", "stages.reason.train.max_steps=1")


def advantages_by_place(trainer: RlpercPPOTrainer, monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """With a critic of zeros, lambda and gamma 1: what is still to be paid at each token of the first three texts."""
    say(monkeypatch, TEXTS)
    seen = outputs(trainer)
    trainer.train()
    lengths = seen[0]["completion_mask"].sum(1).tolist()
    return [row[:length].tolist() for row, length in zip(seen[0]["advantages"][:3], lengths, strict=False)]


def fixed(name: str, _: str) -> float:
    """Outcome 1, perception 0.5, format 0.25 for everyone; the weights of the quickstart are 1, 1 and 0.1."""
    return {"answer_number": 1.0, "perception_cells": 0.5, "format_tags": 0.25}.get(name, 0.0)


def by_length(name: str, text: str) -> float:
    """Something that differs."""
    return len(text) % (3 + len(name) % 3) / 5


def test_a_sum_is_paid_at_the_last_token(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(start, tmp_path, *PPO, *PLAIN)
    pay(trainer, fixed)
    for row in advantages_by_place(trainer, monkeypatch):
        assert row == pytest.approx([1.0 + 0.5 + 0.025] * len(row))


def test_in_span_mode_perception_is_paid_where_its_span_ends(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(start, tmp_path, *PPO, *PLAIN, "stages.reason.blend.mode=span")
    pay(trainer, fixed)
    rows = advantages_by_place(trainer, monkeypatch)
    tokenizer = trainer.processing_class.tokenizer
    closing = tokenizer.convert_tokens_to_ids("</perception>")
    for text, row in zip(TEXTS[:2], rows, strict=False):
        place = tokenizer(text, add_special_tokens=False).input_ids.index(closing)
        assert row[: place + 1] == pytest.approx([1.525] * (place + 1))
        assert row[place + 1 :] == pytest.approx([1.025] * (len(row) - place - 1))
    assert rows[2] == pytest.approx([1.525] * len(rows[2]))  # no span: at the end, as everything


def test_it_learns_and_leaves_a_policy_without_a_critic(start: Path, tmp_path: Path) -> None:
    trainer = make(start, tmp_path, *PPO, "stages.reason.train.save_strategy=steps", "stages.reason.train.save_steps=1")
    pay(trainer, by_length)
    before = trainer.policy.critic.head.weight.detach().clone()
    names = {name for name, _ in AutoModelForImageTextToText.from_pretrained(start).named_parameters()}
    trained = train_rl(trainer, checkpoints(tmp_path))
    saved = load_file(tmp_path / "checkpoint-1" / "model.safetensors")
    assert saved
    assert not any("critic" in name for name in saved)
    critic = load_file(tmp_path / "checkpoint-2" / "critic.safetensors")
    assert set(critic) == {"head.weight", "head.bias"}
    assert not torch.equal(critic["head.weight"], before)
    assert {name for name, _ in trained.model.named_parameters()} == names
    logged = [entry for entry in trainer.state.log_history if "ppo/value_loss" in entry]
    assert len(logged) == 2
    assert all(math.isfinite(entry["ppo/value_loss"]) and entry["ppo/value_loss"] > 0 for entry in logged)


@pytest.mark.parametrize("trunk", ["shared", "own"])
def test_a_resumed_run_ends_where_the_whole_one_ends(start: Path, tmp_path: Path, trunk: str) -> None:
    options = (
        *PPO,
        f"stages.reason.ppo.trunk={trunk}",
        "stages.reason.train.save_strategy=steps",
        "stages.reason.train.save_steps=1",
        "stages.reason.train.lr_scheduler_type=constant",
    )
    whole = make(start, tmp_path / "whole", *options)
    pay(whole, by_length)
    whole.train()
    resumed = make(start, tmp_path / "resumed", *options)
    pay(resumed, by_length)
    torch.nn.init.normal_(resumed.policy.critic.head.weight)  # it must come from the checkpoint
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    left, right = dict(whole.model.named_parameters()), dict(resumed.model.named_parameters())
    assert left.keys() == right.keys()
    assert any(name.startswith("critic.trunk.") for name in left) == (trunk == "own")
    for name in left:
        assert torch.allclose(left[name], right[name], atol=1e-6), name


def test_the_kl_is_paid_once(start: Path, tmp_path: Path) -> None:
    """Where it is paid in the reward, TRL's loss has none of it."""
    options = (*PPO, "stages.reason.train.beta=0.5", "stages.reason.model.lora.r=4")
    for kl_in, expected in (("reward", {0.0}), ("loss", {0.5})):
        trainer = make(start, tmp_path / kl_in, *options, f"stages.reason.ppo.kl_in={kl_in}")
        betas = set()
        inner = GRPOTrainer._compute_loss

        def loss(self: GRPOTrainer, model: object, inputs: dict, inner: Callable = inner, betas: set = betas) -> torch.Tensor:
            betas.add(self.beta)
            return inner(self, model, inputs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GRPOTrainer, "_compute_loss", loss)
            trainer.train()
        assert betas == expected
        assert trainer.beta == 0.5
        assert any("kl" in entry for entry in trainer.state.log_history)


def test_the_kl_in_the_reward_is_paid_at_its_tokens(start: Path, tmp_path: Path) -> None:
    options = (*PPO, *PLAIN, "stages.reason.train.beta=0.5", "stages.reason.model.lora.r=4", "stages.reason.ppo.kl_in=reward")
    trainer = make(start, tmp_path, *options)
    pay(trainer, fixed)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # away from the reference, which is the model without its adapters
            torch.nn.init.normal_(parameter, std=0.3)
    seen = outputs(trainer)
    policy = []
    inner = trainer._values

    def values(output: dict) -> tuple:
        policy.append(inner(output))
        return policy[-1]

    trainer._values = values
    trainer.train()
    output, (_, logps) = seen[0], policy[0]
    mask = output["completion_mask"]
    difference = (logps - output["ref_per_token_logps"]) * mask
    assert difference.abs().max() > 0.01
    # With a critic of zeros, lambda and gamma 1, a token's advantage is all that is still paid from there on.
    still = difference.flip(1).cumsum(1).flip(1)
    expected = (1.525 - 0.5 * still) * mask
    assert torch.allclose(output["advantages"], expected, atol=1e-4)


def test_one_response_for_a_prompt(start: Path, tmp_path: Path) -> None:
    trainer = make(start, tmp_path, *PPO, "stages.reason.train.num_generations=1", "stages.reason.ppo.trunk=own")
    train_rl(trainer, checkpoints(tmp_path))
    assert trainer.state.global_step == 2
    assert not any(name.startswith("blend/zero_spread") for entry in trainer.state.log_history for name in entry)
    table = pyarrow.parquet.read_table(tmp_path / "completions" / "completions_00001.parquet").to_pylist()
    assert len({json.dumps(row["prompt"]) for row in table}) > 4  # 8 responses; in groups of 4 there were two prompts


def test_a_trunk_of_its_own_is_trained_whole(start: Path, tmp_path: Path) -> None:
    """As the recipe's stage builds it, also where parts of the policy are frozen."""
    recipe, stage = reason_stage(*PPO, "stages.reason.ppo.trunk=own", "stages.reason.model.freeze=[vision]")
    model, processor = load_model(start, stage.model)
    rows = load_rows(stage.data, seed=0)
    args = stage_config(recipe, stage, tmp_path)
    trainer = make_trainer(recipe, stage, args, model, processor, rows, [])
    frozen = {name for name, parameter in trainer.model.named_parameters() if not parameter.requires_grad}
    assert any(name.startswith("model.vision_model.") for name in frozen)
    assert not any(name.startswith("critic.") for name in frozen)


def test_adapters_leave_without_the_critic(start: Path, tmp_path: Path) -> None:
    options = ("stages.reason.model.lora.r=4", "stages.reason.train.save_strategy=steps", "stages.reason.train.save_steps=1")
    trainer = make(start, tmp_path, *PPO, *options)
    trained = train_rl(trainer, checkpoints(tmp_path))
    adapter = load_file(tmp_path / "checkpoint-1" / "adapter_model.safetensors")
    assert adapter
    assert not any("critic" in name for name in adapter)
    assert set(load_file(tmp_path / "checkpoint-1" / "critic.safetensors")) == {"head.weight", "head.bias"}
    assert not any("critic" in name for name, _ in trained.model.merge_and_unload().named_parameters())


def test_two_processes(tmp_path: Path) -> None:
    options = [*SHORT, *PPO, "stages.reason.blend.mode=span", "evaluate=null", "stages.reason.ppo.trunk=own"]
    done = rlperc("train", str(QUICKSTART), f"output={tmp_path / 'run'}", *options, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = pyarrow.parquet.read_table(next((tmp_path / "run/stages/reason/completions").glob("*"))).to_pylist()
    assert len(rows) == 32
    # Whitened over both processes: every token's advantage has mean 0 over all of them, the responses' means nearly so.
    assert abs(sum(row["advantage"] for row in rows) / 32) < 0.3
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "run" / "model")
    assert not any("critic" in name for name, _ in model.named_parameters())
