"""What the tests of scoring files share."""

import json
from pathlib import Path
from typing import Any

from rlperc.reward.runner import Handling

LINES = [
    {"completion": "<answer>4</answer>", "answer": "4"},
    {"completion": "<answer>5</answer>", "answer": "4"},
    {"completion": "<answer>5</answer>", "answer": "blue"},
]
HERE = Handling(on_error="skip", max_error_share=1.0, isolate=False)


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def scores_of(out: Path, name: str) -> list[float | None]:
    return [json.loads(line)["scores"][name] for line in out.read_text().splitlines()]


def groups_of(sizes: list[int]) -> list[dict[str, Any]]:
    ids = [place for place, size in enumerate(sizes) for _ in range(size)]
    return [{"completion": f"<perception>{i % 2}</perception>", "prompt_id": group, "n": i} for i, group in enumerate(ids)]


GROUP = (
    '@reward(scope="group", bounded=True)\ndef alike(completions):\n'
    "    texts = [c.text for c in completions]\n"
    "    return [Score(texts.count(t) / len(texts), why=f'{texts.count(t)} of {len(texts)}') for t in texts]\n"
)
