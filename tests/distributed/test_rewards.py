"""Rewards that ask a model, where the training model is spread over processes."""

from pathlib import Path

import pyarrow.parquet
import pytest
from launch import LEARNING, QUICKSTART, TORCHRUN, rlperc
from trainers import tiny_model

MODEL_IN_A_REWARD = """
\"\"\"What another model makes of a response. Source: ours.\"\"\"
from rlperc import Completion, reward


@reward(bounded=True, scope="batch", credits="outcome", range=(-1e6, 1e6))
def other(completions: list[Completion], *, start: str) -> list[float]:
    \"\"\"The sum of its embeddings of the first characters' codes.\"\"\"
    import torch
    from transformers import AutoModelForImageTextToText

    embed = AutoModelForImageTextToText.from_pretrained(start).get_input_embeddings()
    codes = [[ord(one) % 100 for one in completion.text[:8] or "a"] for completion in completions]
    return [float(embed(torch.tensor(one)).sum()) for one in codes]
"""


def test_models_in_rewards_under_zero3(tmp_path: Path) -> None:
    """One that a reward loads by itself, and the training model, which a reward asks: both say what they say under DDP."""
    (tmp_path / "other.py").write_text(MODEL_IN_A_REWARD)
    start = tiny_model(tmp_path / "start")
    told = f"{{use: '{tmp_path}/other.py', with: {{start: '{start}'}}}}"
    rewards = f"rewards=[{told}, {{use: image_dependence, weight: 0}}, {{use: answer_number, weight: 0}}]"
    tables = {}
    for way in ("ddp", "zero3"):
        options = (*LEARNING, rewards, "evaluate=null", f"distributed={way}", f"output={tmp_path / way}")
        done = rlperc("train", str(QUICKSTART), *options, launcher=TORCHRUN)
        assert done.returncode == 0, done.stderr[-3000:]
        tables[way] = pyarrow.parquet.read_table(
            next((tmp_path / way / "stages/reason/completions").glob("*_00001*"))
        ).to_pylist()
    assert [row["completion"] for row in tables["zero3"]] == [row["completion"] for row in tables["ddp"]]
    for name in ("other", "image_dependence"):
        found, expected = ([row[name] for row in tables[way]] for way in ("zero3", "ddp"))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert len({row["other"] for row in tables["ddp"]}) > 2
