"""Blend modes, and PPO, against the outcome reward alone: RL at equal steps from one warm start for each seed.

    python tests/benchmarks/blends.py                       # grids of 2x2, as in the quickstart
    python tests/benchmarks/blends.py --setting hard        # more to see, longer reasoning, a noisier outcome
    python tests/benchmarks/blends.py --arms sum span ppo --seeds 0 1 2

The warm start is that of `recipes/quickstart.yaml seed=S`; RL is `tests/benchmarks/blends.yaml`. Runs that are already
there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUTCOME_ALONE = "rewards.perception_cells.weight=0"
ARMS = {
    "outcome alone": [OUTCOME_ALONE],
    "sum": [],
    # The modes that normalise each reward weigh perception more: is that all they do?
    "sum, perception 4 times": ["rewards.perception_cells.weight=4"],
    "normalize_then_sum": ["stages.reason.blend.mode=normalize_then_sum"],
    "span": ["stages.reason.blend.mode=span"],
    "gate_failed": ["stages.reason.blend.mode=gate_failed", "train.scale_rewards=none"],
    "gate_prompt": ["stages.reason.blend.mode=gate_prompt"],
    "penalize_span": ["stages.reason.blend.mode=penalize_span"],
    # As many responses, of 192 prompts instead of 24; both settings of the critic were chosen on seed 100.
    "ppo": [
        "stages.reason.kind=ppo",
        "stages.reason.train.num_generations=1",
        "stages.reason.data.rows=5760",
        "stages.reason.ppo.critic_learning_rate=1e-3",
        "stages.reason.ppo.lam=1.0",
    ],
    "ppo in groups of 8": [
        "stages.reason.kind=ppo",
        "stages.reason.ppo.critic_learning_rate=1e-3",
        "stages.reason.ppo.lam=1.0",
    ],
    "outcome alone, 3 times the steps": [OUTCOME_ALONE, "stages.reason.train.max_steps=90", "stages.reason.data.rows=2160"],
}
MEASURES = ("a", "a_p", "a_r")
# Fixed before any blend was run on it: 9 digits instead of 4, sums of up to 9 of them, an outcome that is wrong for 1 in 5.
HARD = ["data.with.grid=3", "stages.reason.train.max_completion_length=128", "evaluate.max_new_tokens=128"]
SETTINGS: dict[str, dict[str, list[str]]] = {
    "quickstart": {"warm": [], "rl": []},
    "hard": {
        "warm": [*HARD, "model.tiny.image_size=48", "stages.warm.train.max_steps=1200", "stages.warm.data.rows=38400"],
        "rl": [
            *HARD,
            f"rewards.answer_number.use={HERE / 'noisy_answer.py'}",
            "stages.reason.train.max_steps=40",
            "stages.reason.data.rows=960",
            "evaluate.curve.every=5",
            "evaluate.curve.data.rows=256",
        ],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=SETTINGS, default="quickstart")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/blends"))
    options = parser.parse_args()
    out, setting = options.out.resolve() / options.setting, SETTINGS[options.setting]
    arms = ["outcome alone", *(arm for arm in options.arms if arm != "outcome alone")]
    found = {}
    for seed in options.seeds:
        start = warm_start(out / f"warm-{seed}", seed, setting["warm"])
        for arm in arms:
            folder = out / f"{arm.replace(',', '').replace(' ', '-')}-{seed}"
            overrides = [f"seed={seed}", f"model.name={start}", *setting["rl"], *ARMS[arm]]
            found[arm, seed] = run(HERE / "blends.yaml", folder, overrides)
    show(found, arms, options.seeds)


def warm_start(folder: Path, seed: int, overrides: list[str]) -> Path:
    few = ["stages.reason.train.max_steps=1", "evaluate=null"]
    run("recipes/quickstart.yaml", folder, [f"seed={seed}", *overrides, *few])
    return folder / "stages" / "warm" / "model"


def run(recipe: str | Path, folder: Path, overrides: list[str]) -> dict:
    summary = folder / "summary.json"
    if not summary.exists() or json.loads(summary.read_text())["status"] != "done":
        command = ["train", str(recipe), "--move-aside", f"output={folder}", *overrides]
        subprocess.run([sys.executable, "-m", "rlperc", *command], check=True, stdout=subprocess.DEVNULL)
    return json.loads(summary.read_text())


def show(found: dict, arms: list[str], seeds: list[int]) -> None:
    print(
        f"| percent, mean (sd) over {len(seeds)} seeds | {' | '.join(MEASURES)} | `a` over outcome alone | `a` over sum | steps |"
    )
    print("|---|---|---|---|---|---|---|")
    before = [spread([100 * found["outcome alone", seed]["eval"]["before"][m] for seed in seeds]) for m in MEASURES]
    print(f"| the model that enters RL | {' | '.join(before)} | | | |")
    for arm in arms:
        after = [spread([100 * found[arm, seed]["eval"]["after"][m] for seed in seeds]) for m in MEASURES]
        over = [gains(found, arm, other, seeds) if other in arms else "" for other in ("outcome alone", "sum")]
        steps = [str(steps_to(found[arm, seed], found["outcome alone", seed])) for seed in seeds]
        print(f"| {arm} | {' | '.join([*after, *over])} | {', '.join(steps)} |")
    print("\nsteps: after how many a run's curve first reaches what outcome alone ends with, on the same validation rows")


def gains(found: dict, arm: str, other: str, seeds: list[int]) -> str:
    """Of one arm over another, seed by seed."""
    if arm == other:
        return ""
    ends = [[100 * found[one, seed]["eval"]["after"]["a"] for seed in seeds] for one in (arm, other)]
    each = [mine - its for mine, its in zip(*ends, strict=True)]
    return f"{spread(each, '+')} [{', '.join(f'{gain:+.1f}' for gain in each)}]"


def steps_to(one: dict, other: dict) -> int | str:
    """Steps after which a run's curve reaches what the other's ends with, on the same validation rows."""
    aim = other["curve"][-1]["a"]
    return next((point["step"] for point in one["curve"] if point["a"] >= aim), "never")


def spread(values: list[float], sign: str = "") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):{sign}.1f} ({deviation:.1f})"


if __name__ == "__main__":
    main()
