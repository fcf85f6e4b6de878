"""Run by torchrun in two processes, or in one: each asserts what it got from what all of them wrote. See test_ranks.py."""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

import torch
from trainers import make, part
from trl import GRPOTrainer

GOOD = "<perception>[[1,2],[3,4]]</perception><think>1+2=3</think><answer>3</answer>"
BAD = "<perception>[[9,2],[3,4]]</perception><think>9+2=11</think><answer>11</answer>"
LONG = "<perception>[[1,2],[3,4]]</perception><think>1+2=3\n3+3=6\n6+4=10</think><answer>10</answer>"
NAMES = ("answer_number", "perception_cells")
PAID = {GOOD: (1.0, 1.0), BAD: (0.0, 0.25), LONG: (0.0, 0.75)}  # outcome, perception
TEXTS = [GOOD, BAD, LONG, BAD, GOOD, GOOD, BAD, LONG, LONG, BAD, GOOD, BAD]  # of 12 responses: 3 groups of 4
MINE = len(TEXTS) // int(os.environ.get("WORLD_SIZE", "1"))  # of each of two, so that the group in the middle is torn
ONE_STEP = ("stages.reason.train.max_steps=1", f"stages.reason.train.per_device_train_batch_size={MINE}")


def main(case: str, start: Path, folder: Path) -> None:
    options = {"span": ["blend.mode=span", "blend.min_std=0"], "ppo": ["kind=ppo"]}[case]
    trainer = make(start, folder, *ONE_STEP, *(f"stages.reason.{option}" for option in options))
    rank = trainer.accelerator.process_index
    texts = TEXTS[rank * MINE :][:MINE]
    tokenizer = trainer.processing_class.tokenizer
    ids = [[*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id] for text in texts]
    GRPOTrainer._generate_single_turn = lambda *_: (ids, None)
    trainer.reward_funcs = [scoring(name) for name in trainer.reward_func_names]
    trainer._ours = []
    found: list[torch.Tensor] = []
    inner = trainer._advantages

    def advantages(output: dict, regions: torch.Tensor) -> torch.Tensor:
        found.append(inner(output, regions))
        (span if case == "span" else whitened)(trainer, found[-1], output["completion_mask"], rank)
        return found[-1]

    trainer._advantages = advantages
    trainer.train()
    assert found
    if rank == 0:
        logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
        (folder / "step.json").write_text(json.dumps([logged["loss"], logged["grad_norm"]]))
    if trainer.accelerator.num_processes > 1:
        part()


def scoring(name: str) -> object:
    place = NAMES.index(name) if name in NAMES else None
    return lambda completions, **_: [0.0 if place is None else PAID[one[-1]["content"]][place] for one in completions]


def span(trainer: GRPOTrainer, advantages: torch.Tensor, mask: torch.Tensor, rank: int) -> None:
    """Each response's first token, of its perception, and its last, of its end, against its group by plain statistics."""
    for row, last in enumerate((mask.sum(1) - 1).tolist()):
        index = rank * MINE + row
        group = [PAID[text] for text in TEXTS[index // 4 * 4 :][:4]]
        for credited, token in ((1, 0), (0, last)):
            values = [paid[credited] for paid in group]
            z = (PAID[TEXTS[index]][credited] - statistics.mean(values)) / (statistics.stdev(values) + 1e-4)
            assert abs(advantages[row, token].item() - z) < 1e-5, (rank, row, credited)


def whitened(trainer: GRPOTrainer, advantages: torch.Tensor, mask: torch.Tensor, rank: int) -> None:
    """Mean 0 and mean square 1 over both processes, and over neither alone; right responses above wrong ones."""
    parts = torch.stack([mask.sum().double(), (advantages * mask).sum().double(), (advantages.square() * mask).sum().double()])
    count, total, squares = trainer.accelerator.reduce(parts, reduction="sum").tolist()
    assert abs(total / count) < 1e-5
    assert abs(squares / count - 1) < 1e-4
    assert abs(parts[1].item() / parts[0].item()) > 1e-3 or trainer.accelerator.num_processes == 1
    for row in range(MINE):
        for other in range(MINE):
            mine, its = (sum(PAID[TEXTS[rank * MINE + one]]) for one in (row, other))
            if mine > its:
                assert advantages[row, 0] > advantages[other, 0]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
