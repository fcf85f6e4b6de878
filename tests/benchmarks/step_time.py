"""The time of a GRPO step: rlperc against a bare TRL trainer with the same model, data, rewards and settings.

    make quickstart && python tests/benchmarks/step_time.py

The bare trainer scores with plain functions written for the purpose and logs what TRL logs by default; rlperc runs its
registry, its probes, its metrics file and its completions table. Blocks of steps alternate between the two in one
process, both from the same weights and seed, so that they generate the same completions. Last, the share of a step that goes
into finding the spans of its tokens, under `blend: {mode: span}`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rlperc import load_recipe
from rlperc.process import quiet
from rlperc.recipe.folder import RunFolder
from rlperc.train import trl_overrides
from rlperc.train.callbacks import MetricsToFile
from rlperc.train.checkpoints import Checkpoints
from rlperc.train.data import load_rows
from rlperc.train.models import load_model
from rlperc.train.stages import stage_config, train_stage
from rlperc.train.stop import Stop

TAGGED = re.compile(r"<perception>(.*)</perception><think>.*</think><answer>(.*)</answer>", re.DOTALL)


class Clock(TrainerCallback):
    """Seconds from step to step, the first one left out: it warms up."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def steps(self) -> list[float]:
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


def right_answer(completions: list, answer: list[str], **_: Any) -> list[float]:
    found = [TAGGED.fullmatch(c[0]["content"]) for c in completions]
    return [float(bool(m) and m[2].strip() == gold) for m, gold in zip(found, answer, strict=True)]


def right_cells(completions: list, perception: list[str], **_: Any) -> list[float]:
    return [_cells(TAGGED.fullmatch(c[0]["content"]), json.loads(gold)) for c, gold in zip(completions, perception, strict=True)]


def _cells(found: re.Match | None, gold: list) -> float:
    try:
        said = json.loads(found[1]) if found else None
        return sum(s == g for a, b in zip(said, gold, strict=True) for s, g in zip(a, b, strict=True)) / len(gold) ** 2
    except (ValueError, TypeError):
        return 0.0


def tagged(completions: list, **_: Any) -> list[float]:
    return [float(bool(TAGGED.fullmatch(c[0]["content"]))) for c in completions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/quickstart/stages/warm/model"))
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=11)
    options = parser.parse_args()
    quiet(tiny=True)
    recipe = load_recipe("recipes/quickstart.yaml", f"stages.reason.train.max_steps={options.steps}")
    rows = load_rows(recipe.stages[-1].data, seed=0)
    blocks = {"bare TRL": bare, "rlperc": ours}
    medians: dict[str, list[float]] = {name: [] for name in blocks}
    for pair in range(options.pairs):
        # There and back again, so that a drifting machine favours neither.
        for name, block in sorted(blocks.items(), reverse=bool(pair % 2)):
            with tempfile.TemporaryDirectory() as folder:
                clock = Clock()
                block(recipe, rows, options.model, Path(folder), clock)
                medians[name].append(statistics.median(clock.steps()))
    ratios = [mine / theirs for mine, theirs in zip(medians["rlperc"], medians["bare TRL"], strict=True)]
    for name, found in medians.items():
        print(f"{name:9} {statistics.median(found):.3f} s a step (median of {options.pairs} blocks of {options.steps - 1} steps)")
    print(f"rlperc / bare TRL: {statistics.median(ratios):.3f} (median of the pairs; {min(ratios):.3f} to {max(ratios):.3f})")
    shares = [span_share(options) for _ in range(options.pairs)]
    print(f"finding spans: {statistics.median(shares):.2%} of a step (median of {len(shares)} runs; at most {max(shares):.2%})")


def span_share(options: argparse.Namespace) -> float:
    """Median share of a step's time, over the steps of one run, that is spent on the regions of its completions."""
    whole = trl_overrides.region_tensor
    spent: list[float] = []

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        found = whole(*arguments)
        spent.append(time.perf_counter() - began)
        return found

    overrides = [f"stages.reason.train.max_steps={options.steps}", "stages.reason.blend.mode=span"]
    recipe, clock = load_recipe("recipes/quickstart.yaml", *overrides), Clock()
    trl_overrides.region_tensor = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            ours(recipe, load_rows(recipe.stages[-1].data, seed=0), options.model, Path(folder), clock)
    finally:
        trl_overrides.region_tensor = whole
    return statistics.median(part / step for part, step in zip(spent[1:], clock.steps(), strict=True))


def bare(recipe: Any, rows: Any, source: Path, folder: Path, clock: Clock) -> None:
    model, processor = load_model(source, recipe.stages[-1].model)
    settings = {"use_cpu": True, "bf16": False, "report_to": "none", "logging_steps": 1, "seed": recipe.seed}
    options = {**settings, **recipe.stages[-1].train, "reward_weights": [1.0, 1.0, 0.1], "disable_tqdm": False}
    GRPOTrainer(
        model=model,
        args=GRPOConfig(output_dir=str(folder), **options),
        train_dataset=rows,
        processing_class=processor,
        reward_funcs=[right_answer, right_cells, tagged],
        callbacks=[clock],
    ).train()


def ours(recipe: Any, rows: Any, source: Path, folder: Path, clock: Clock) -> None:
    stage = recipe.stages[-1]
    model, processor = load_model(source, stage.model)
    callbacks = [MetricsToFile(RunFolder(folder), stage.name), clock]
    train_stage(
        recipe,
        stage,
        stage_config(recipe, stage, folder),
        model,
        processor,
        rows,
        callbacks,
        Checkpoints(folder, Stop(), lambda step: None),
    )


if __name__ == "__main__":
    main()
