"""Grids of real handwritten digits, and questions that need them read and then added up or compared.

The digits are the 1,797 images of the UCI "Optical Recognition of Handwritten Digits" test set (E. Alpaydin and
C. Kaynak, 1998), as shipped inside scikit-learn: 8x8 pixels, 17 grey levels. The three splits share no image.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rlperc.errors import RecipeError
from rlperc.words.structure import canonical
from rlperc.worlds import SPLITS, About, Item, Split, knobs
from rlperc.worlds.streams import streams

CELL_PIXELS = 16
MAX_GRID = 4
DRAWN = 16
"""Grids of which a balanced world takes one."""
# Fixed for good: which image belongs to which split must not depend on any seed a user sets.
SPLIT_SEED = 20
WORDS = "so then now next and well okay again here first also good right hence thus see".split()  # noqa: SIM905
SPLIT_SIZES: dict[Split, int] = {"train": 1097, "validation": 200, "test": 500}

ABOUT = About(
    summary="Grids of handwritten digits: sums, the largest, how many are above another",
    perception="the grid as a JSON list of rows of digits, such as [[8,7],[1,1]]",
    answer="a number",
    answer_reward="answer_number",
    perception_reward="perception_cells",
    settings={
        "small": {"grid": 2, "balanced": True},
        "long": {"grid": 4, "noise": 0.15, "turns": 3},
        "hard": {"grid": 4, "noise": 0.15, "balanced": True},
    },
)

Digits = list[list[int]]
Solved = tuple[str, str]  # (reasoning, answer)


def items(
    count: int,
    seed: int,
    split: Split,
    *,
    grid: int = 2,
    noise: float = 0.08,
    balanced: bool = False,
    turns: int = 0,
    wordings: int = 1,
    misread: Mapping[int | str, int] | None = None,
    misread_probability: float | None = None,
    slip: Mapping[int | str, int] | None = None,
    slip_probability: float | None = None,
) -> Iterator[Item]:
    """Yield `count` grids with a question each.

    Args:
        count: how many items.
        seed: fixes the items together with `split` and the knobs.
        split: whose digit images, of three disjoint sets.
        grid: rows and columns of the grid, 1 to 4; the image is `16 * grid` pixels square.
        noise: standard deviation of the pixel noise, in units of the full range.
        balanced: of 16 grids take the one whose answer this question had least often so far; and beyond 2x2 ask for the
            largest digit of one line: most grids of 16 digits have a 9, and whoever says so need not look.
        turns: above 0 all questions are one, which takes long to think: the digits added up in reading order, so many times
            over, modulo 10; at most 99, and prime to 10: with other numbers some answers would never come.
        wordings: in how many ways the reasoning may word a step, 1 to 16, drawn for each: what a language model wrote is no more
            foreseeable either, and of that much of the loss comes.
        misread: digits the teacher of `response` misreads, `{6: 8, 7: 1}`; p* and the answer stay true.
        misread_probability: chance that the teacher misreads such a digit, drawn for each cell.
        slip: results of an addition of `turns` that the teacher gets wrong, `{5: 4}`, and goes on with: to thinking what
            `misread` is to seeing.
        slip_probability: chance of such a slip, drawn for each addition.
    """
    confused = _checked(grid, noise, balanced, turns, wordings, misread, misread_probability)
    slips = _slips(turns, slip, slip_probability)
    labels = _split(split)[1]
    had: Counter[tuple[str, str]] = Counter()
    for content, brush, teacher in streams(count, seed, split):
        drawn = content.integers(len(labels), size=(DRAWN if balanced else 1, grid, grid))
        task = _ask(content, grid, turns, balanced and grid > 2)
        chosen = drawn[0] if not balanced else drawn[_rarest(had, task, labels[drawn].tolist())]
        truth: Digits = labels[chosen].tolist()
        wrong = teacher.random((grid, grid)) < (misread_probability or 0)
        stated = [
            [confused.get(digit, digit) if wrong[r][c] else digit for c, digit in enumerate(row)] for r, row in enumerate(truth)
        ]
        think, said = _work_out(task, stated, functools.partial(_slipped, teacher, slips, slip_probability or 0))
        yield Item(
            image=_draw(brush, split, chosen, noise),
            question=_question(task),
            answer=_work_out(task, truth)[1],
            perception=canonical(truth),
            stated=canonical(stated),
            think=think if wordings == 1 else _worded(teacher, think, wordings),
            concluded=said,
            task=canonical(task),
        )


def _rarest(had: Counter[tuple[str, str]], task: Mapping[str, Any], grids: list[Digits]) -> int:
    """The grid whose answer this question had least often; counts it."""
    asked = canonical(dict(task))
    answers = [(asked, _work_out(task, grid)[1]) for grid in grids]
    chosen = min(range(len(grids)), key=lambda i: had[answers[i]])
    had[answers[chosen]] += 1
    return chosen


def _checked(grid: Any, noise: Any, balanced: Any, turns: Any, wordings: Any, misread: Any, probability: Any) -> dict[int, int]:
    """Refuse knobs that cannot be; return which digit is read as which."""
    knobs.whole("grid", grid, 1, MAX_GRID)
    knobs.number("noise", noise, 0, 1)
    knobs.choice("balanced", balanced, (True, False))
    knobs.choice("turns", turns, (0, *(n for n in range(1, 100) if n % 2 and n % 5)))
    knobs.whole("wordings", wordings, 1, len(WORDS))
    return knobs.confusion("misread", misread, probability, range(10))


def _slips(turns: int, slip: Any, probability: Any) -> dict[int, int]:
    """Refuse what cannot be; return which result is said for which."""
    slips = knobs.confusion("slip", slip, probability, range(10))
    if slips and not turns:
        raise RecipeError(f"slip: {slip}", "only the additions of `turns` slip", "turns: 3")
    return slips


def _slipped(random: np.random.Generator, slips: Mapping[int, int], probability: float, result: int) -> int:
    """What is said for a result: now and then another."""
    return slips[result] if result in slips and random.random() < probability else result


def solve(task: dict[str, Any], perception: Any) -> str | None:
    """Answer a task from a stated grid; None where it is not a grid of digits of the right size."""
    if not isinstance(perception, list) or len(perception) != task["grid"]:
        return None
    if not all(isinstance(row, list) and len(row) == task["grid"] for row in perception):
        return None
    if any(type(cell) is not int or not 0 <= cell <= 9 for row in perception for cell in row):
        return None
    return _work_out(task, perception)[1]


# --- questions ---------------------------------------------------------------------------------------------------


def _ask(random: np.random.Generator, grid: int, turns: int, of_lines: bool) -> dict[str, Any]:
    if turns:
        return {"world": "digits", "grid": grid, "kind": "turns", "turns": turns}
    # Of a single line the larger one is known beforehand.
    kinds = ("line_sum", "total", "maximum", "count_above", "larger_line")[: 5 if grid > 1 else 4]
    kind = kinds[random.integers(len(kinds))]
    task: dict[str, Any] = {"world": "digits", "grid": grid, "kind": kind}
    of_line = kind == "line_sum" or (kind == "maximum" and of_lines)
    if of_line or kind == "larger_line":
        task["axis"] = ("row", "column")[random.integers(2)]
    if of_line:
        task["index"] = int(random.integers(grid))
    if kind == "count_above":
        task["threshold"] = int(random.integers(2, 7))
    return task


def _question(task: Mapping[str, Any]) -> str:
    match task["kind"]:
        case "line_sum":
            return f"What is the sum of {task['axis']} {task['index'] + 1}?"
        case "total":
            return "What is the sum of all digits?"
        case "maximum":
            where = f" in {task['axis']} {task['index'] + 1}" if "axis" in task else ""
            return f"What is the largest digit{where}?"
        case "turns":
            return f"Add the digits in reading order, {task['turns']} times over, modulo 10. What is left?"
        case "larger_line":
            return f"Which {task['axis']} has the largest sum? If equal, the first."
        case _:
            return f"How many digits are above {task['threshold']}?"


def _work_out(task: Mapping[str, Any], grid: Digits, said_for: Callable[[int], int] = int) -> Solved:
    """The reasoning, written out step by step, and the answer; in turns, each result is what `said_for` makes of it."""
    cells = [digit for row in grid for digit in row]
    match task["kind"]:
        case "line_sum":
            return _add(_lines(task, grid)[task["index"]])
        case "total":
            return _add(cells)
        case "maximum":
            return _largest(_lines(task, grid)[task["index"]] if "axis" in task else cells)
        case "turns":
            return _go_round(cells, task["turns"], said_for)
        case "larger_line":
            return _compare(_lines(task, grid))
        case _:
            return _count(cells, task["threshold"])


def _lines(task: Mapping[str, Any], grid: Digits) -> Digits:
    return grid if task["axis"] == "row" else [list(column) for column in zip(*grid, strict=True)]


def _add(digits: list[int]) -> Solved:
    total, steps = digits[0], []
    for digit in digits[1:]:
        steps.append(f"{total}+{digit}={total + digit}")
        total += digit
    return "\n".join(steps) or str(total), str(total)


def _largest(digits: list[int]) -> Solved:
    best, steps = digits[0], []
    for digit in digits[1:]:
        steps.append(f"{best},{digit}:{max(best, digit)}")
        best = max(best, digit)
    return "\n".join(steps) or str(best), str(best)


def _go_round(digits: list[int], turns: int, said_for: Callable[[int], int]) -> Solved:
    """A line for each time over."""
    left, lines = 0, []
    for _ in range(turns):
        steps = []
        for digit in digits:
            result = said_for((left + digit) % 10)
            steps.append(f"{left}+{digit}={result}")
            left = result
        lines.append(" ".join(steps))
    return "\n".join(lines), str(left)


def _worded(random: np.random.Generator, think: str, wordings: int) -> str:
    """The reasoning with a word before each step."""
    return "\n".join(
        " ".join(f"{WORDS[random.integers(wordings)]} {step}" for step in line.split(" ")) for line in think.split("\n")
    )


def _compare(lines: Digits) -> Solved:
    sums = [sum(line) for line in lines]
    steps = [f"{'+'.join(map(str, line))}={total}" for line, total in zip(lines, sums, strict=True)]
    return "\n".join(steps), str(sums.index(max(sums)) + 1)


def _count(digits: list[int], threshold: int) -> Solved:
    seen, steps = 0, []
    for digit in digits:
        seen += digit > threshold
        steps.append(f"{digit}:{seen}")
    return "\n".join(steps), str(seen)


# --- images ------------------------------------------------------------------------------------------------------


@functools.cache
def _split(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The images, (n, 8, 8) in 0..1, and labels of one split."""
    # Half a second, and not needed by anything that only solves tasks.
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(data.target))
    ends = np.cumsum([SPLIT_SIZES[one] for one in SPLITS])
    mine = np.split(order, ends)[SPLITS.index(split)]
    return (data.images[mine] / 16.0).astype(np.float32), data.target[mine].astype(np.int64)


def _draw(random: np.random.Generator, split: Split, chosen: NDArray[np.int64], noise: float) -> Image.Image:
    """Draw images of a split, (rows, columns): light ink on dark paper, both coloured, jittered, with noise."""
    rows, columns = chosen.shape
    ink = np.zeros((rows, CELL_PIXELS, columns, CELL_PIXELS, 1), dtype=np.float32)
    sizes = random.integers(12, 16, size=(rows, columns)).tolist()
    corners = random.random((rows, columns, 2))
    for r in range(rows):
        for c in range(columns):
            size = sizes[r][c]
            top, left = (corners[r, c] * (CELL_PIXELS - size + 1)).astype(int)
            ink[r, top : top + size, c, left : left + size, 0] = _scaled(split, int(chosen[r, c]), size)
    paper = random.uniform(0.0, 0.3, (rows, 1, columns, 1, 3)).astype(np.float32)
    pen = random.uniform(0.6, 1.0, (rows, 1, columns, 1, 3)).astype(np.float32)
    canvas = (paper + (pen - paper) * ink).reshape(rows * CELL_PIXELS, columns * CELL_PIXELS, 3)
    canvas += noise * random.standard_normal(canvas.shape, dtype=np.float32)
    return Image.fromarray((canvas.clip(0.0, 1.0) * 255).astype(np.uint8), "RGB")


@functools.lru_cache(maxsize=8192)  # all 1,797 in four sizes
def _scaled(split: Split, index: int, size: int) -> NDArray[np.float32]:
    """Shape: (size, size). Shared: not to be written to."""
    glyph = Image.fromarray(_split(split)[0][index]).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(glyph, dtype=np.float32)
