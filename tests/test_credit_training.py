"""Blends inside real training: the advantages that the loss gets, the table that shows them, groups drawn again."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from launch import QUICKSTART, SHORT, TORCHRUN, rlperc
from trainers import make, outputs, pay, say, tiny_model

GOOD = "<perception>[[1,2],[3,4]]</perception><think>1+2=3</think><answer>3</answer>"
OTHER = "<perception>[[9,2],[3,4]]</perception><think>9+2=11</think><answer>11</answer>"
NONE = "no tags"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start"))


def table(folder: Path, step: int = 1) -> list[dict]:
    return pyarrow.parquet.read_table(folder / "completions" / f"completions_{step:05d}.parquet").to_pylist()


ONE_STEP = "stages.reason.train.max_steps=1"


def test_span_credit_reaches_its_tokens_and_the_table_shows_it(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(start, tmp_path, ONE_STEP, "stages.reason.blend.mode=span", "stages.reason.blend.min_std=0")
    say(monkeypatch, [GOOD, OTHER, GOOD, NONE])
    # By hand: the outcome pays 1, 0, 1, 0 (z .866), perception 1, .5, 1, .5 (the same z), the format nothing that differs.
    outcome = {GOOD: 1.0, OTHER: 0.0, NONE: 0.0}
    pay(trainer, lambda name, text: {"answer_number": outcome[text], "perception_cells": 0.5 + outcome[text] / 2}.get(name, 0.0))
    seen = outputs(trainer)
    trainer.train()
    z = 0.5 / (0.5773502692 + 1e-4)
    zp = 0.25 / (0.2886751346 + 1e-4)
    rows = table(tmp_path)
    by_text = {row["completion"][-1]["content"]: row for row in rows}
    for text, sign in ((GOOD, 1), (OTHER, -1)):
        row = by_text[text]
        assert row["advantage/perception"] == pytest.approx(sign * zp, abs=1e-5)
        assert [row["advantage/think"], row["advantage/answer"]] == pytest.approx([sign * z] * 2, abs=1e-5)
    # No perception to blame: the response that lacks one takes it all.
    assert by_text[NONE]["advantage/perception"] is None
    assert by_text[NONE]["advantage/rest"] == pytest.approx(-z - zp, abs=1e-5)
    tokenizer = trainer.processing_class.tokenizer
    closing = tokenizer.convert_tokens_to_ids("</perception>")
    for ids, advantages in zip(seen[0]["completion_ids"], seen[0]["advantages"], strict=True):
        if closing in ids:
            place = ids.tolist().index(closing)
            assert len(set(advantages[: place + 1].tolist())) == 1
            assert abs(advantages[place]) == pytest.approx(zp, abs=1e-5)
            assert abs(advantages[place + 1]) == pytest.approx(z, abs=1e-5)


def test_how_rewards_move_together_is_logged_live(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(start, tmp_path, ONE_STEP)
    say(monkeypatch, [GOOD, OTHER, GOOD, NONE])
    # By hand: the outcome is .5, -.5, .5, -.5 off its group's mean, what pays for cells -.25, .75, -.25, -.25.
    paid = {"answer_number": {GOOD: 1.0, OTHER: 0.0, NONE: 0.0}, "perception_cells": {GOOD: 0.0, OTHER: 1.0, NONE: 0.0}}
    pay(trainer, lambda name, text: paid.get(name, {}).get(text, 0.0))
    trainer.train()
    log = trainer.state.log_history[0]
    pair = {kind: log[f"coupling/{kind}/answer_number/perception_cells"] for kind in ("within", "overall", "opposed")}
    assert pair == pytest.approx({"within": -0.5 / 0.75**0.5, "overall": -0.5 / 0.75**0.5, "opposed": 0.75}, abs=1e-4)
    a, p = (log[f"blend/weight/{name}"] for name in paid)
    of_a, of_p = a * a - a * p / 2, 0.75 * p * p - a * p / 2
    assert log["coupling/share/answer_number"] == pytest.approx(of_a / (of_a + of_p), abs=1e-4)
    assert log["coupling/share/perception_cells"] == pytest.approx(of_p / (of_a + of_p), abs=1e-4)
    assert log["coupling/rescued/perception_cells"] == 0.0
    assert "coupling/within/answer_number/format_tags" not in log  # which never varies


def test_the_tables_of_all_steps_have_one_type(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(start, tmp_path, ONE_STEP, "stages.reason.blend.mode=span")
    say(monkeypatch, [NONE])
    trainer.train()
    schema = pyarrow.parquet.read_schema(tmp_path / "completions" / "completions_00001.parquet")
    assert {str(schema.field(f"advantage/{region}").type) for region in ("rest", "perception", "think", "answer")} == {"double"}


def test_marked_tokens_are_penalised(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(start, tmp_path, ONE_STEP, "stages.reason.blend.mode=penalize_span")
    say(monkeypatch, [GOOD, OTHER, NONE, GOOD])
    seen = outputs(trainer)
    trainer.train()
    tokenizer = trainer.processing_class.tokenizer
    rows = {row["completion"][-1]["content"]: row for row in table(tmp_path)}
    checked = 0
    for ids, advantages in zip(seen[0]["completion_ids"], seen[0]["advantages"].tolist(), strict=True):
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if text == NONE:
            assert len(set(advantages[:3])) == 1  # nothing to mark
            continue
        plain = advantages[0]
        marked = [
            tokenizer.decode([token])
            for token, advantage in zip(ids, advantages, strict=True)
            if advantage == pytest.approx(plain - abs(plain), abs=1e-6) and abs(plain) > 1e-6
        ]
        checked += len(marked)
        assert "".join(marked).isdigit()  # cells, and nothing around them
        assert rows[text]["advantage/think"] == pytest.approx(rows[text]["advantage/answer"])
    assert checked > 0


def test_dead_groups_give_way_to_other_prompts(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("stages.reason.blend.resample=40", "stages.reason.train.per_device_train_batch_size=32", ONE_STEP)
    trainer = make(start, tmp_path, *options, "stages.reason.data.rows=64")
    say(monkeypatch, [GOOD, OTHER, NONE])
    asked: list[int] = []

    def odd_answers_only(prompts: list, completions: list, answer: list, log_extra: Callable, **_: object) -> list[float]:
        asked.append(len(prompts))
        log_extra("seen", [f"{prompt[-1]['content'][-1]['text']}|{gold}" for prompt, gold in zip(prompts, answer, strict=True)])
        pairs = zip(completions, answer, strict=True)
        return [len(one[-1]["content"]) / 100 if int(gold) % 2 else 0.0 for one, gold in pairs]

    trainer.reward_funcs = [odd_answers_only, *[lambda completions, **_: [0.0] * len(completions)] * 4]
    trainer._ours = []
    seen = outputs(trainer)
    trainer.train()
    assert asked[0] == 32
    assert len(asked) > 1
    assert all(count % 4 == 0 for count in asked)
    log = trainer.state.log_history[0]
    assert log["blend/drawn_again"] == pytest.approx(sum(asked[1:]) / 32)
    assert log["blend/zero_spread"] == 0.0
    rows = table(tmp_path)
    assert len(rows) == 32
    for row in rows:
        # What a reward said of a completion still stands beside it, and beside its own prompt.
        question, gold = row["seen"].split("|")
        assert row["prompt"][-1]["content"][-1]["text"] == question
        assert int(gold) % 2
        assert row["answer_number"] == pytest.approx(len(row["completion"][-1]["content"]) / 100)
    tokenizer = trainer.processing_class.tokenizer
    questions = [row["seen"].split("|")[0] for row in rows]
    written = [row["completion"][-1]["content"] for row in rows]
    for place, (prompt, said) in enumerate(zip(seen[0]["prompt_ids"], seen[0]["completion_ids"], strict=True)):
        assert questions[place] in tokenizer.decode(prompt)
        assert tokenizer.decode(said, skip_special_tokens=True) == written[place]
    groups = torch.tensor([row["advantage"] for row in rows]).view(-1, 4)
    assert torch.allclose(groups.mean(1), torch.zeros(8), atol=1e-5)
    assert (groups.abs().amax(1) > 0.1).all()


def test_a_resumed_run_draws_the_same_prompts_again(start: Path, tmp_path: Path) -> None:
    options = (
        "stages.reason.blend.resample=2",
        "stages.reason.train.gradient_accumulation_steps=2",
        "stages.reason.train.steps_per_generation=1",
        "stages.reason.train.save_strategy=steps",
        "stages.reason.train.save_steps=1",
        "stages.reason.train.lr_scheduler_type=constant",
        "rewards.format_tags.weight=0",
    )
    asked: dict[str, list[list[int]]] = {"whole": [], "resumed": []}
    for name, checkpoint in (("whole", None), ("resumed", str(tmp_path / "whole" / "checkpoint-1"))):
        trainer = make(start, tmp_path / name, *options)
        inner = trainer._draw

        def draw(rows: list, inner: Callable = inner, seen: list = asked[name]) -> object:
            seen.append([row["answer"] for row in rows])
            return inner(rows)

        trainer._draw = draw
        trainer.train(resume_from_checkpoint=checkpoint)
    assert len(asked["whole"]) == 2 * len(asked["resumed"]) == 12  # a random model gets nothing right: 2 rounds each time
    assert asked["whole"][6:] == asked["resumed"]


def test_drawing_again_has_an_end(start: Path, tmp_path: Path) -> None:
    """A random model gets nothing right, so that every group of every round is dead."""
    trainer = make(start, tmp_path, ONE_STEP, "stages.reason.blend.resample=3", "rewards.format_tags.weight=0")
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["blend/drawn_again"] == 3.0
    assert log["blend/zero_spread"] == 1.0
    assert len(table(tmp_path)) == 8


def test_weights_follow_their_schedules(start: Path, tmp_path: Path) -> None:
    options = (
        "stages.reason.train.max_steps=4",
        "rewards.perception_cells.weight={0: 1.0, 0.5: 0.0}",
        "stages.reason.blend.alpha={0: 0.2, 1: 0.6}",
    )
    trainer = make(start, tmp_path, *options)
    trainer.train()
    alphas = [entry["blend/alpha"] for entry in trainer.state.log_history if "blend/alpha" in entry]
    assert alphas == pytest.approx([0.2, 0.3, 0.4, 0.5])
    logs = [entry for entry in trainer.state.log_history if "blend/weight/perception_cells" in entry]
    # By hand: progress 0, 1/4, 1/2, 3/4; alpha .2, .3, .4, .5; the perception's own weight 1, .5, 0, 0.
    assert [entry["blend/weight/perception_cells"] for entry in logs] == pytest.approx([0.2, 0.15, 0.0, 0.0])
    assert [entry["blend/weight/answer_number"] for entry in logs] == pytest.approx([0.8, 0.7, 0.6, 0.5])
    assert [entry["blend/weight/format_tags"] for entry in logs] == pytest.approx([0.1] * 4)
    assert [entry["blend/weight/perception_exact"] for entry in logs] == [0.0] * 4  # a probe


def test_two_processes_draw_again_together(tmp_path: Path) -> None:
    options = [*SHORT, "stages.reason.blend.resample=2", "stages.reason.blend.mode=gate_failed", "evaluate=null"]
    done = rlperc(
        "train",
        str(QUICKSTART),
        f"output={tmp_path / 'run'}",
        *options,
        launcher=TORCHRUN,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = table(tmp_path / "run" / "stages" / "reason")
    for start in range(0, len(rows), 8):
        group = rows[start : start + 8]
        assert len({json.dumps(row["prompt"]) for row in group}) == 1
        assert {"advantage/perception", "advantage/rest"} <= set(group[0])
