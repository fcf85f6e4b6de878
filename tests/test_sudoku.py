import itertools
import json
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.errors import RecipeError
from rlperc.reward.attempt import attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response
from rlperc.words.structure import canonical
from rlperc.worlds import Item, make_items, styles, sudoku, sudoku_rules

SMALL = {"size": 4, "cell": 16}


def make(count: int = 50, seed: int = 0, split: str = "train", **knobs: Any) -> list[Item]:
    return list(sudoku.items(count, seed, split, **knobs))


def score(name: str, response: str, perception: str, task: str = "") -> float | None:
    reward, row = find_reward(name), {"perception": perception, "task": task}
    return attempt(reward, read_response(response), {column: row[column] for column in reward.columns}, {}).value


def flat(grid: str) -> list[int]:
    return [cell for row in json.loads(grid) for cell in row]


# --- what a puzzle is -----------------------------------------------------------------------------------------------


def breaks_no_rule(cells: tuple[int, ...]) -> bool:
    rows = [cells[start : start + 4] for start in range(0, 16, 4)]
    boxes = [rows[r][c : c + 2] + rows[r + 1][c : c + 2] for r in (0, 2) for c in (0, 2)]
    return all(len(set(unit)) == 4 for unit in (*rows, *zip(*rows, strict=True), *boxes))


# Each solved grid of side 4; there are 288.
LINES = list(itertools.permutations(range(1, 5)))
UPPER = [a + b for a, b in itertools.product(LINES, LINES) if all(len({*a[i : i + 2], *b[i : i + 2]}) == 4 for i in (0, 2))]
SOLVED = [upper + lower for upper, lower in itertools.product(UPPER, UPPER) if breaks_no_rule(upper + lower)]


def solutions(clues: list[int]) -> list[tuple[int, ...]]:
    return [grid for grid in SOLVED if all(clue in (0, digit) for clue, digit in zip(clues, grid, strict=True))]


def count_solutions(grid: list[list[int]], most: int = 2) -> int:
    """By trying, in another way than the world's own: cell by cell, sets and no bits. Of a grid of side 9."""
    left = {}
    for r, c in itertools.product(range(9), range(9)):
        if not grid[r][c]:
            box = {grid[r // 3 * 3 + i][c // 3 * 3 + j] for i in range(3) for j in range(3)}
            left[r, c] = set(range(1, 10)) - set(grid[r]) - {row[c] for row in grid} - box
    if not left:
        return 1
    (r, c), digits = min(left.items(), key=lambda item: len(item[1]))
    found = 0
    for digit in digits:
        found += count_solutions([[digit if (i, j) == (r, c) else grid[i][j] for j in range(9)] for i in range(9)], most - found)
        if found >= most:
            break
    return found


@pytest.mark.parametrize("blanks", [1, 5, 10])
def test_a_small_puzzle_has_one_solution(blanks: int) -> None:
    assert len(SOLVED) == 288
    for item in make(100, blanks=blanks, **SMALL):
        clues = flat(item.perception)
        assert clues.count(0) == blanks
        assert [list(grid) for grid in solutions(clues)] == [flat(item.answer)]


@pytest.mark.parametrize("blanks", [1, 16, 36, 50])
def test_a_large_puzzle_has_one_solution(blanks: int) -> None:
    for item in make(8, blanks=blanks, cell=10):
        clues = json.loads(item.perception)
        assert sum(row.count(0) for row in clues) == blanks
        assert count_solutions(clues) == 1


def test_digits_and_blanks_are_anywhere_alike() -> None:
    items = make(3000, blanks=5, **SMALL)
    clues, full = (
        np.array([json.loads(text) for text in texts]) for texts in zip(*[(i.perception, i.answer) for i in items], strict=True)
    )
    for digit in range(1, 5):  # each digit in each cell, and where the cell is blank
        assert abs((full == digit).mean(axis=0) - 0.25).max() < 0.04
        assert abs((full[clues == 0] == digit).mean() - 0.25) < 0.02
    assert abs((clues == 0).mean(axis=0) - 5 / 16).max() < 0.04
    assert Counter(item.answer for item in items).most_common(1)[0][1] < 0.015 * len(items)


def test_grids_are_not_of_one_pattern() -> None:
    """Three digits stand together in a row of a box: of 27 such places, some 23 differ, and 3 or 9 in one grid renamed."""
    random = np.random.default_rng(0)
    grids = [np.reshape(sudoku_rules.full_grid(random, 9), (9, 9)) for _ in range(300)]
    for lines in (grids, [grid.T for grid in grids]):
        sets = [len({frozenset(three) for three in grid.reshape(27, 3).tolist()}) for grid in lines]
        assert np.mean(sets) > 22
    assert len({tuple(sudoku_rules.full_grid(random, 4)) for _ in range(8000)}) == 288  # all there are


def test_one_question_for_each_size() -> None:
    assert len({item.question for item in make(20, cell=10)}) == 1
    assert {item.question for item in make(20, **SMALL)} == {
        "Fill in the Sudoku: each row, each column and each 2x2 box has each digit from 1 to 4 once."
    }


# --- the teacher ----------------------------------------------------------------------------------------------------

# By hand. At first r1c1 has two digits left, and one once r1c2 is filled in.
CLUES = [[0, 0, 3, 4], [0, 4, 1, 2], [0, 1, 4, 3], [4, 3, 2, 1]]
WORKED = """\
r1c1: row 3 4, column 4, box 4 -> 1 2
r1c2: row 3 4, column 4 1 3, box 4 -> 2
r2c1: row 4 1 2, column 4, box 2 4 -> 3
r3c1: row 1 4 3, column 3 4, box 1 4 3 -> 2
r1c1: row 2 3 4, column 3 2 4, box 2 3 4 -> 1"""


def test_reasoning_worked_by_hand() -> None:
    clues = flat(canonical(CLUES))
    filled = sudoku_rules.fill(clues)
    assert filled is not None
    assert sudoku._explain(clues, filled.looks) == WORKED
    assert filled.cells == [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]


def test_an_empty_unit_is_said_to_be_empty() -> None:
    clues = [0, 0, 0, 0, 0, 0, 1, 2, 0, 1, 4, 3, 4, 3, 2, 1]
    filled = sudoku_rules.fill(clues)
    assert filled is not None
    assert sudoku._explain(clues, filled.looks).startswith("r1c1: row -, column 4, box - -> 1 2 3\n")


@pytest.mark.parametrize("clues", [[1, 1] + [0] * 14, [1, 2, 3, 0, 0, 0, 0, 4] + [0] * 8, [0] * 16])
def test_what_breaks_the_rules_or_needs_a_guess_is_not_filled_in(clues: list[int]) -> None:
    assert sudoku_rules.fill(clues) is None


@pytest.mark.parametrize("knobs", [{"setting": name} for name in sudoku.ABOUT.settings] + [{"size": 4, "blanks": 10, "cell": 10}])
def test_each_line_follows_from_the_clues_and_the_lines_before(knobs: dict) -> None:
    for item in make_items("sudoku", 10, 3, "train", knobs):
        grid = np.array(json.loads(item.perception))
        box = {4: 2, 9: 3}[len(grid)]
        for line in item.think.split("\n"):
            name, rest = line.split(": ")
            r, c = (int(number) - 1 for number in name[1:].split("c"))
            seen, left = rest.split(" -> ")
            top, corner = r // box * box, c // box * box
            units = {"row": grid[r], "column": grid[:, c], "box": grid[top : top + box, corner : corner + box].ravel()}
            said = {part.split()[0]: part.split()[1:] for part in seen.split(", ")}
            assert said == {unit: [str(digit) for digit in digits if digit] or ["-"] for unit, digits in units.items()}
            missing = set(range(1, len(grid) + 1)) - set(np.concatenate(list(units.values())).tolist())
            assert left == " ".join(map(str, sorted(missing)))
            if len(missing) == 1:
                grid[r, c] = missing.pop()
        assert canonical(grid.tolist()) == item.answer


@pytest.mark.parametrize("setting", sudoku.ABOUT.settings)
def test_the_teacher_is_right_by_the_rewards(setting: str) -> None:
    for item in make_items("sudoku", 10, 0, "test", {"setting": setting}):
        for name in (sudoku.ABOUT.answer_reward, sudoku.ABOUT.perception_reward, "answer_follows", "format_tags"):
            assert score(name, item.response(), item.perception, item.task) == 1.0
        assert sudoku.solve(json.loads(item.task), json.loads(item.perception)) == item.answer
        assert set(json.loads(item.task)) == {"world", "size"}


def test_a_misreading_teacher_reasons_from_what_it_states() -> None:
    plain, items = make(300, **SMALL), make(300, misread={4: 0, "3": 1, 0: 2}, misread_probability=0.5, **SMALL)
    assert [i.image.tobytes() for i in plain] == [i.image.tobytes() for i in items]
    assert [(i.perception, i.answer) for i in plain] == [(i.perception, i.answer) for i in items]
    pairs: Counter = Counter()
    for item in items:
        pairs.update(zip(flat(item.perception), flat(item.stated), strict=True))
        assert sudoku.solve(json.loads(item.task), json.loads(item.stated)) == item.concluded
        assert score("answer_follows", item.response(), item.stated, item.task) == 1.0
    wrong = {pair: times for pair, times in pairs.items() if pair[0] != pair[1]}
    assert set(wrong) == {(4, 0), (3, 1), (0, 2)}
    # A digit that is overlooked leaves a grid that can still be filled in, unless too many are.
    assert wrong[4, 0] / (wrong[4, 0] + pairs[4, 4]) == pytest.approx(0.45, abs=0.06)


def test_a_teacher_that_sees_a_digit_in_the_only_blank_has_nothing_to_fill_in() -> None:
    items = make(40, blanks=1, misread={0: 3}, misread_probability=1.0, **SMALL)
    assert {item.think for item in items if item.stated != item.perception} == {"no blanks"}
    assert all(item.concluded == item.answer for item in items)  # any other digit would break the rules


# --- solving what a model states ------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4]), min_size=16, max_size=16))
def test_the_solver_finds_what_there_is_to_find(clues: list[int]) -> None:
    grid = [clues[start : start + 4] for start in range(0, 16, 4)]
    got, right = sudoku.solve({"size": 4}, grid), solutions(clues)
    assert (got is None) == (not right)
    assert got is None or tuple(flat(got)) in right
    filled = sudoku_rules.fill(clues)
    assert filled is None or [tuple(filled.cells)] == right


def test_the_solver_tries_where_it_must() -> None:
    # A puzzle by Arto Inkala that needs far more than singles.
    rows = ["..53.....", "8......2.", ".7..1.5..", "4....53..", ".1..7...6", "..32...8.", ".6.5....9", "..4....3.", ".....97.."]
    got = sudoku.solve({"size": 9}, rows)
    assert got is not None
    assert score("sudoku_valid", f"<answer>{got}</answer>", canonical(rows)) == 1.0
    assert sudoku_rules.fill([0 if cell == "." else int(cell) for cell in "".join(rows)]) is None


def test_the_solver_gives_up() -> None:
    # It has no solution, which took 24 minutes to find in Peter Norvig's "Solving Every Sudoku Puzzle".
    rows = [".....5.8.", "...6.1.43", ".........", ".1.5.....", "...1.6...", "3.......5", "53.....61", "........4", "........."]
    start = time.process_time()
    assert sudoku.solve({"size": 9}, rows) is None
    assert time.process_time() - start < 2


BLANKS = st.sampled_from([0, None, "-", ".", "", "0"])
ODD = st.sampled_from([True, 1.0, 5, -1, "5", "x", [1], {}, 10**90, "٣", " "])
CELLS = st.one_of(BLANKS, st.integers(1, 4), st.sampled_from("1234"))
GRIDS = st.lists(st.lists(st.one_of(CELLS, CELLS, CELLS, ODD), min_size=4, max_size=4), min_size=4, max_size=4)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=9), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
)


@given(st.one_of(GRIDS, JSON), st.sampled_from([4, 9]))
def test_any_perception_is_read_as_the_reward_reads_it(said: Any, size: int) -> None:
    got = sudoku.solve({"size": size}, said)
    if got is not None:
        assert score("sudoku_valid", f"<answer>{got}</answer>", json.dumps(said)) == 1.0


@given(st.data())
def test_a_blank_and_a_digit_may_be_written_in_any_way(data: st.DataObject) -> None:
    grid = [[data.draw(BLANKS if cell == 0 else st.sampled_from([cell, str(cell)])) for cell in row] for row in CLUES]
    assert sudoku.solve({"size": 4}, grid) == "[[1,2,3,4],[3,4,1,2],[2,1,4,3],[4,3,2,1]]"


@pytest.mark.parametrize("said", [None, 3, [], [[0] * 9] * 9, [[0] * 4] * 3, [[0, 0, 0, 5]] * 4, [[1, 1, 0, 0]] + [[0] * 4] * 3])
def test_a_perception_that_is_no_such_grid_has_no_answer(said: object) -> None:
    assert sudoku.solve({"size": 4}, said) is None


# --- items and their images -----------------------------------------------------------------------------------------


def written(items: list[Item]) -> list[tuple]:
    return [(i.image.tobytes(), i.question, i.perception, i.answer, i.response()) for i in items]


def test_the_same_arguments_give_the_same_items() -> None:
    assert written(make(6, **SMALL)) == written(make(9, **SMALL))[:6]
    for others in (make(6, seed=1, **SMALL), make(6, split="validation", **SMALL)):
        assert not set(written(make(6, **SMALL))) & set(written(others))


def test_how_grids_are_drawn_changes_no_grid() -> None:
    grids = [item.perception for item in make(5, cell=10)]
    for knobs in ({"cell": 12}, {"cell": 10, "noise": 0.0}, {"cell": 10, "style": "held_out"}):
        assert [item.perception for item in make(5, **knobs)] == grids


@pytest.mark.parametrize(
    ("knobs", "pixels"), [({}, 369), ({"size": 4}, 164), ({"setting": "small"}, 64), ({"setting": "paper"}, 369)]
)
def test_images_are_as_large_as_their_cells(knobs: dict, pixels: int) -> None:
    assert next(make_items("sudoku", 1, 0, "train", knobs)).image.size == (pixels, pixels)


def papers(**knobs: Any) -> set[tuple[int, ...]]:
    middles = [np.median(np.asarray(item.image), axis=(0, 1)) for item in make(30, noise=0.0, **SMALL, **knobs)]
    return {tuple((middle + 0.5).astype(int).tolist()) for middle in middles}


def test_the_test_split_has_papers_of_its_own() -> None:
    assert papers() == papers(split="validation") == papers(split="test", style="seen")
    assert papers(split="test") == papers(style="held_out")
    assert len(papers()) == len(styles.SEEN_PAPERS)
    assert not papers() & papers(split="test")


def read(item: Item, size: int, cell: int, split: str) -> list[list[int]]:
    """The grid in the pixels: in each cell the digit whose picture, in whatever font and place, is closest to what is there."""
    fonts, papers = (
        (styles.HELD_OUT_FONTS, styles.HELD_OUT_PAPERS) if split == "test" else (styles.SEEN_FONTS, styles.SEEN_PAPERS)
    )
    pixels = np.asarray(item.image, dtype=np.float32) / 255
    paper, pen, _ = (
        np.array(color) for color in min(papers, key=lambda paper: abs(np.median(pixels, axis=(0, 1)) - paper[0]).sum())
    )
    ink = ((pixels - paper) @ (pen - paper)) / ((pen - paper) @ (pen - paper))
    edge = max(1, cell // 16)
    cells = ink.reshape(size, cell, size, cell).swapaxes(1, 2)[..., edge:-edge, edge:-edge].reshape(size * size, -1)
    known, digits = [], []
    for font, square in itertools.product(fonts, range(int(0.95 * cell), int(1.1 * cell) + 1)):
        windows = sudoku._windows(font, square, cell)[: size + 1, ..., edge:-edge, edge:-edge]
        known.append(windows.reshape(-1, cells.shape[1]))
        digits.append(np.repeat(np.arange(size + 1), windows.shape[1] * windows.shape[2]))
    templates = np.concatenate(known)
    distance = (templates**2).sum(axis=1) - 2 * cells @ templates.T
    return np.concatenate(digits)[distance.argmin(axis=1)].reshape(size, size).tolist()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("size", "cell", "noise"), [(4, 16, 0.04), (9, 10, 0.04), (9, 12, 0.04), (9, 16, 0.15)])
def test_the_grid_can_be_read_from_the_pixels(split: str, size: int, cell: int, noise: float) -> None:
    for item in make(6, split=split, size=size, cell=cell, noise=noise):
        assert canonical(read(item, size, cell, split)) == item.perception


@pytest.mark.parametrize("font", [*styles.SEEN_FONTS, *styles.HELD_OUT_FONTS])
@pytest.mark.parametrize("cell", [10, 11, 16, 20, 41, 64])
def test_no_digit_is_cut_off_or_on_a_rule(font: str, cell: int) -> None:
    edge = max(1, cell // 16)
    for square in (int(0.95 * cell), int(1.1 * cell)):
        windows = sudoku._windows(font, square, cell)
        ink = np.array([0.0, *(styles.glyph(str(digit), font, square).sum() for digit in range(1, 10))])
        inside = windows[..., edge:-edge, edge:-edge].sum(axis=(3, 4))
        assert inside == pytest.approx(np.broadcast_to(ink[:, None, None], inside.shape), rel=1e-3)


def test_edges_of_boxes_are_thick_and_within_the_cells() -> None:
    canvas = sudoku._ruled(9, 41, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    drawn = np.flatnonzero(canvas[20, :, 0] == 0).tolist()  # through the middle of the first row
    assert drawn == [0, 1, 41, 82, 121, 122, 123, 124, 164, 205, 244, 245, 246, 247, 287, 328, 367, 368]
    assert (canvas == canvas.transpose(1, 0, 2)).all()


# --- knobs ----------------------------------------------------------------------------------------------------------

BAD = [
    {"size": 6},
    {"size": True},
    {"blanks": 0},
    {"blanks": 51},
    {"blanks": 2.0},
    {"size": 4, "blanks": 11},
    {"cell": 9},
    {"cell": 65},
    {"noise": -0.1},
    {"style": "mine"},
    {"misread": {10: 1}},
    {"size": 4, "misread": {5: 1}},
    {"misread_probability": 1.5},
]


@pytest.mark.parametrize("knobs", BAD)
def test_bad_knobs(knobs: dict) -> None:
    with pytest.raises(RecipeError):
        make(1, **knobs)


def test_too_many_blanks_name_the_grid() -> None:
    with pytest.raises(RecipeError, match="blanks of a 4x4 grid: 16"):
        make(1, size=4, blanks=16)
