"""How fast worlds make their rows, picture, question and solved, against reading the same pictures from PNGs in memory.

python tests/benchmarks/worlds.py
"""

from __future__ import annotations

import io
import statistics
import time
from typing import Any

from PIL import Image

from rlperc.worlds import make_items

# Of 128 pixels or next to it, but the last two, which are as large as the paper's.
WORLDS: list[tuple[str, dict[str, Any]]] = [
    ("digits", {"grid": 4}),  # 64 pixels, its largest
    ("scenes", {}),
    ("graph_coloring", {"vertices": 5, "size": 128}),
    ("sudoku", {"size": 4, "cell": 32}),
    ("sudoku", {"size": 9, "cell": 14}),
    ("graph_coloring", {}),
    ("sudoku", {}),
]
COUNT, ROUNDS = 400, 5
READ = 40  # to write a PNG with noise takes ten times as long as either


def main() -> None:
    for name, knobs in WORLDS:
        list(make_items(name, 32, 0, "train", knobs))  # fonts and digit images are loaded once
        made, read, size = [], [], (0, 0)
        for seed in range(ROUNDS):
            began = time.perf_counter()
            pictures = [item.image for item in make_items(name, COUNT, seed, "train", knobs)]
            made.append(COUNT / (time.perf_counter() - began))
            files = [_png(picture) for picture in pictures[:READ]]
            began = time.perf_counter()
            for file in files:
                Image.open(file).load()
            read.append(READ / (time.perf_counter() - began))
            size = pictures[0].size
        rate, peer = statistics.median(made), statistics.median(read)
        shown = " ".join(f"{knob}={value}" for knob, value in knobs.items())
        spread = f"{min(made):,.0f} to {max(made):,.0f}"
        print(
            f"{name} {shown}: {size[0]} x {size[1]}, {rate:,.0f} rows a second ({spread}), {peer / rate:.1f}x the time of a PNG"
        )


def _png(picture: Image.Image) -> io.BytesIO:
    held = io.BytesIO()
    picture.save(held, "png")
    held.seek(0)
    return held


if __name__ == "__main__":
    main()
