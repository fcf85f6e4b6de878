"""Run by torchrun, two processes: both sample from the policy, before training, in it and after. See test_training.py."""

from __future__ import annotations

import sys
from pathlib import Path

from rollouts import differences, every_kind, rolling
from trainers import part, pay

EXACT = 2e-5


def main(start: Path, folder: Path, *overrides: str) -> None:
    trainer = rolling(start, folder, every_kind(), *overrides)
    assert trainer.accelerator.num_processes == 2
    _, largest, found = differences(trainer, 6)
    assert {one.process for one in found} == {0, 1}
    assert largest < EXACT
    pay(trainer, lambda _, text: float(len(set(text))))
    trainer.train()
    assert differences(trainer, 6)[1] < EXACT
    trainer.vllm_generation.close()
    part()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
