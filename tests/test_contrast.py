"""The stage kind `contrast`, for real: image tokens learn which words their places are called by."""

import json
import math
from pathlib import Path

from launch import rlperc

RECIPE = Path(__file__).parents[1] / "recipes" / "reproduce" / "tiny" / "scenes_rl.yaml"
ONLY = ("stages.warm=null", "stages.reason=null", "evaluate=null", "rewards=[]", "stages.see.data.rows=2560")


def test_tokens_learn_the_words_of_their_places_where_p_star_is_a_list(tmp_path: Path) -> None:
    done = rlperc("train", str(RECIPE), f"output={tmp_path / 'run'}", *ONLY, "stages.see.train.max_steps=40")
    assert done.returncode == 0, done.stderr[-3000:]
    entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if entry["kind"] == "train" and "loss" in entry]
    # Four colors by three shapes, and nothing: a half of the places show that, and the loss begins near ln 13.
    assert losses[0] > 0.8 * math.log(13)
    assert losses[-1] < 0.5
