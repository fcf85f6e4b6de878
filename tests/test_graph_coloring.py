"""The graph colouring world: its graphs, its pictures, what its teacher says, and its solver."""

import functools
import itertools
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.errors import RecipeError
from rlperc.reward.attempt import attempt
from rlperc.reward.plugins import find_reward
from rlperc.words.response import read_response
from rlperc.worlds import Item, graph_coloring, graphs, make_items, solve
from rlperc.worlds.graphs import Edge

SETTINGS = tuple(graph_coloring.ABOUT.settings)
# As small as their labels allow, and without noise: for tests of the graphs and not of the pictures.
QUICK = {"small": {"size": 40}, "paper": {"size": 61}, "hard": {"size": 167}}


def make(count: int = 200, seed: int = 0, split: Any = "train", **knobs: Any) -> list[Item]:
    return list(make_items("graph_coloring", count, seed, split, knobs))


@functools.cache
def quick(setting: str, count: int, split: str = "train", **knobs: Any) -> list[Item]:
    return make(count, split=split, setting=setting, noise=0.0, **QUICK[setting], **knobs)


reward = functools.cache(find_reward)


def score(name: str, item: Item, text: str) -> float | None:
    row = {"perception": item.perception, "answer": item.answer, "task": item.task, **item.columns}
    asked = {column: row[column] for column in reward(name).columns}
    return attempt(reward(name), read_response(text), asked, {}).value


def edges_of(item: Item) -> list[Edge]:
    return [(one, other) for one, other in json.loads(item.perception)]


def chromatic_by_brute_force(vertices: int, edges: list[Edge]) -> int:
    for colors in itertools.count(1):
        for found in itertools.product(range(colors), repeat=vertices):
            if all(found[one] != found[other] for one, other in edges):
                return colors
    raise AssertionError


@st.composite
def any_graph(draw: st.DrawFn, most: int = 6) -> tuple[int, list[Edge]]:
    vertices = draw(st.integers(3, most))
    return vertices, [pair for pair in itertools.combinations(range(vertices), 2) if draw(st.booleans())]


# --- graphs ------------------------------------------------------------------------------------------------------


@given(any_graph())
def test_colours_as_brute_force_counts_them(drawn: tuple[int, list[Edge]]) -> None:
    vertices, edges = drawn
    answer = graph_coloring.solve({"vertices": vertices}, [list(edge) for edge in edges])
    assert answer is not None
    found = json.loads(answer)
    assert set(found) == set(map(str, range(vertices)))
    assert all(found[str(one)] != found[str(other)] for one, other in edges)
    assert len(set(found.values())) == chromatic_by_brute_force(vertices, edges)


@given(any_graph(most=7))
def test_an_odd_cycle_is_a_shortest_one(drawn: tuple[int, list[Edge]]) -> None:
    vertices, edges = drawn
    graph = graphs.graph_of(vertices, edges)
    lengths = [
        length
        for length in (3, 5, 7)
        for walk in itertools.permutations(range(vertices), length)
        if all(graph[one] >> other & 1 for one, other in itertools.pairwise((*walk, walk[0])))
    ]
    cycle = graphs.odd_cycle(graph, (1 << vertices) - 1)
    if cycle is None:
        assert not lengths
    else:
        assert len(cycle) == len(set(cycle)) == min(lengths)
        assert all(graph[one] >> other & 1 for one, other in itertools.pairwise([*cycle, cycle[0]]))


def test_how_many_edges_a_graph_may_have() -> None:
    pairs = list(itertools.combinations(range(5), 2))
    counts: dict[int, set[int]] = {}
    for chosen in itertools.product((0, 1), repeat=len(pairs)):
        edges = [pair for pair, there in zip(pairs, chosen, strict=True) if there]
        graph = graphs.graph_of(5, edges)
        if graphs.connected(graph):
            counts.setdefault(graphs.chromatic(graph), set()).add(len(edges))
    assert set(counts) == {2, 3, 4, 5}
    for colors, found in counts.items():
        fewest, most = graphs.edge_range(5, colors)
        assert found == set(range(fewest, most + 1))


@pytest.mark.parametrize(("vertices", "colors"), [(12, 2), (12, 5), (11, 4), (8, 5), (5, 4), (3, 2)])
def test_graphs_that_are_rare_are_drawn_too(vertices: int, colors: int) -> None:
    random = np.random.default_rng(0)
    for count in graphs.edge_range(vertices, colors):
        for _ in range(5):
            edges = graphs.draw_graph(random, vertices, count, colors)
            graph = graphs.graph_of(vertices, edges)
            assert len(set(edges)) == count
            assert edges == sorted(edges)
            assert all(one < other for one, other in edges)
            assert graphs.connected(graph)
            assert graphs.chromatic(graph) == colors


def test_cliques_in_the_way_do_not_always_decide() -> None:
    # Graphs around a clique are a last resort: there have to be some that take three colours without a triangle.
    random = np.random.default_rng(0)
    drawn = [graphs.graph_of(7, graphs.draw_graph(random, 7, 8, 3)) for _ in range(200)]
    without = sum(graphs.clique(graph, 3) is None for graph in drawn)
    assert 5 < without < 100


@pytest.mark.parametrize("setting", SETTINGS)
def test_chromatic_numbers_are_equally_likely(setting: str) -> None:
    by_size: dict[int, Counter[int]] = {}
    items = quick(setting, 900)
    for item in items:
        by_size.setdefault(item.columns["vertices"], Counter())[item.columns["colors"]] += 1
    assert max(map(Counter.total, by_size.values())) < 1.25 * 900 / len(by_size)
    for numbers in by_size.values():
        assert len(numbers) >= 3
        assert max(numbers.values()) < 1.25 * numbers.total() / len(numbers)
    for item in items[:100]:
        graph = graphs.graph_of(item.columns["vertices"], edges_of(item))
        assert graphs.connected(graph)
        assert graphs.chromatic(graph) == item.columns["colors"]


@pytest.mark.parametrize(("setting", "limit"), [("small", 0.12), ("paper", 0.05), ("hard", 0.03)])
def test_no_colouring_is_often_right_without_the_image(setting: str, limit: float) -> None:
    train, test = quick(setting, 900), quick(setting, 300, "test")
    right = 0.0
    for question in {item.question for item in test}:
        known, asked = ([item for item in items if item.question == question] for items in (train, test))
        best = _rights([item.answer for item in known], known).mean(axis=1).argmax()
        right += _rights([known[best].answer], asked).sum()
    assert right / 300 < limit


def _rights(answers: list[str], items: list[Item]) -> np.ndarray:
    """Whether each answer is right for each item, for graphs of one size. Shape: (answers, items)."""
    vertices = items[0].columns["vertices"]
    pairs = list(itertools.combinations(range(vertices), 2))
    colorings = [json.loads(answer) for answer in answers]
    found = np.array([[ord(coloring[str(vertex)]) for vertex in range(vertices)] for coloring in colorings])
    one, other = np.array(pairs).T
    edges = np.array([[pair in there for pair in pairs] for there in (set(edges_of(item)) for item in items)])
    clashes = (found[:, one] == found[:, other]).astype(np.float32) @ edges.T.astype(np.float32)
    used = np.array([len(set(row)) for row in found.tolist()])
    return (clashes == 0) & (used[:, None] == [item.columns["colors"] for item in items])


# --- knobs -------------------------------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_items_and_fewer_the_first_of_them() -> None:
    def shown(count: int, seed: int) -> list[tuple[bytes, str, str]]:
        return [(item.image.tobytes(), item.question, item.response()) for item in make(count, seed, size=64)]

    assert shown(6, 0)[:3] == shown(3, 0)
    assert not {image for image, *_ in shown(3, 0)} & {image for image, *_ in shown(3, 1)}


def test_a_knob_does_what_it_says() -> None:
    for item in make(40, vertices=8, density=0.5, colors=3, size=61):
        assert item.columns == {"vertices": 8, "colors": 3}
        assert len(edges_of(item)) == 14
        assert item.image.size == (61, 61)
    shares = [len(edges_of(item)) / 21 for item in make(300, density=[0.3, 0.6], size=64)]
    assert min(shares) < 0.34 < 0.56 < max(shares) <= 0.62
    assert {item.columns["vertices"] for item in make(60, vertices=[3, 5], size=64)} == {3, 4, 5}


def test_sparse_graphs_are_trees() -> None:
    assert {len(edges_of(item)) for item in make(20, vertices=6, density=0.1, size=64)} == {5}


@pytest.mark.parametrize(
    ("knobs", "instead"),
    [
        ({"vertices": 13}, "3 to 12"),
        ({"vertices": [5, 6, 7]}, "3 to 12"),
        ({"vertices": "7"}, "3 to 12"),
        ({"density": [0.2, None]}, "0.1 to 0.95"),
        ({"colors": 6}, "2 to 5"),
        ({"size": 600}, "32 to 512"),
        ({"size": 64, "vertices": 9}, "size: 74 or more"),
        ({"jitter": 0.6}, "0 to 0.5"),
        ({"shuffled": 1}, "False, True"),
        ({"noise": -1}, "0 to 1"),
        ({"style": "new"}, "seen, held_out"),
        ({"missed_probability": 2}, "0 to 1"),
        # Six vertices in five colours have a clique of 5 and one edge more, and at most all edges but one: 11 to 14 of 15.
        ({"vertices": 6, "colors": 5, "density": 0.5}, "a density within 0.73 to 0.93"),
        ({"vertices": 4, "colors": 4}, "colors: 3 at most"),
        ({"vertices": 12, "density": 0.95}, "a density within 0.17 to 0.86"),
    ],
)
def test_knobs_that_cannot_be(knobs: dict[str, Any], instead: str) -> None:
    with pytest.raises(RecipeError) as refused:
        make(1, **knobs)
    assert instead in refused.value.instead


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("style", ["seen", "held_out"])
def test_the_edges_can_be_read_off_the_pixels(setting: str, style: str) -> None:
    for item in make(12, setting=setting, jitter=0.0, shuffled=False, noise=0.0, style=style):
        vertices, size = item.columns["vertices"], item.image.width
        places = graph_coloring._place(np.random.default_rng(0), vertices, edges_of(item), size, 0.0, False)
        assert places[0] == pytest.approx(size / 2 + 1j * places[0].imag)  # at the top
        pixels = np.asarray(item.image).astype(float)
        far_from_paper = np.abs(pixels - pixels[0, 0]).sum(axis=2)
        inked = far_from_paper > 0.3 * far_from_paper.max()
        radius = graph_coloring._radius(size, vertices)
        found = [pair for pair in itertools.combinations(range(vertices), 2) if _inked(inked, places[list(pair)], radius)]
        assert found == edges_of(item)


def _inked(inked: np.ndarray, ends: np.ndarray, radius: float) -> bool:
    """Whether there is ink all along a line from disc to disc, give or take a pixel."""
    length = abs(ends[1] - ends[0])
    along = ends[0] + np.linspace(radius, length - radius, 100) * (ends[1] - ends[0]) / length
    around = [inked[np.rint(along.imag + y).astype(int), np.rint(along.real + x).astype(int)] for x in (-1, 0) for y in (-1, 0)]
    return bool(np.mean(np.any(around, axis=0)) > 0.97)


@pytest.mark.parametrize("vertices", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
def test_no_edge_runs_through_a_third_vertex(vertices: int) -> None:
    random = np.random.default_rng(0)
    smallest = next(size for size in itertools.count(32) if graph_coloring._legible(size, vertices))
    least, most = graphs.edge_range(vertices, 2 if vertices == 3 else 3)
    for size in (smallest, 448):
        for count in (least, most):
            edges = graphs.draw_graph(random, vertices, count, 2 if vertices == 3 else 3)
            places = graph_coloring._place(random, vertices, edges, size, 0.5, True)
            radius = graph_coloring._radius(size, vertices)
            assert np.abs([places.real - size / 2, places.imag - size / 2]).max() <= size / 2 - radius
            for (one, other), third in itertools.product(edges, range(vertices)):
                if third not in (one, other):
                    line = places[one] + np.linspace(0, 1, 200) * (places[other] - places[one])
                    assert np.abs(line - places[third]).min() > radius + 1


def test_labels_stand_in_any_order_or_clockwise_from_the_top() -> None:
    random = np.random.default_rng(0)
    edges = [(0, 1), (1, 2), (2, 3), (3, 4)]
    turns = [
        tuple(np.argsort(np.angle(graph_coloring._place(random, 5, edges, 200, 0.1, shuffled) - 100 * (1 + 1j))).tolist())
        for shuffled in [False] * 20 + [True] * 60
    ]
    assert len(set(turns[:20])) == 1
    assert turns[0] in [(4, 0, 1, 2, 3), (3, 4, 0, 1, 2)]  # from the left, where angles begin, by the top
    assert len(set(turns[20:])) > 30


def test_the_test_split_has_styles_of_its_own() -> None:
    def papers(items: list[Item]) -> set[Any]:
        return {item.image.getpixel((0, 0)) for item in items}

    seen, own = papers(make(60, size=64, noise=0.0)), papers(make(60, split="test", size=64, noise=0.0))
    assert len(seen) == 4
    assert len(own) == 3
    assert not seen & own
    assert papers(make(60, size=64, noise=0.0, style="held_out")) == own
    assert papers(make(60, split="test", size=64, noise=0.0, style="seen")) == seen


def test_noise_is_as_large_as_it_says() -> None:
    quiet, noisy = (np.asarray(make(1, noise=noise, style="held_out")[0].image) / 255 for noise in (0.0, 0.1))
    there = (quiet > 0.3) & (quiet < 0.7)  # where nothing is cut off
    assert math.isclose((noisy - quiet)[there].std(), 0.1, rel_tol=0.15)


# --- reasoning and answers ---------------------------------------------------------------------------------------

WORKED = {
    "a triangle with a tail": (
        4,
        [(0, 1), (0, 2), (1, 2), (2, 3)],
        "0,1,2 are all joined: at least 3\n"
        "in order:\n0: -> a\n1: joined to 0 a -> b\n2: joined to 0 a, 1 b -> c\n3: joined to 2 c -> a",
        "abca",
    ),
    "a ring of five": (
        5,
        [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4)],
        "0,1,2,3,4 is an odd cycle: at least 3\n"
        "in order:\n0: -> a\n1: joined to 0 a -> b\n2: joined to 1 b -> a\n3: joined to 2 a -> b\n4: joined to 0 a, 3 b -> c",
        "ababc",
    ),
    "a wheel of five spokes": (
        6,
        [(0, 1), (0, 4), (0, 5), (1, 2), (1, 5), (2, 3), (2, 5), (3, 4), (3, 5), (4, 5)],
        "0,1,2,3,4 is an odd cycle, all joined to 5: at least 4\n"
        "in order:\n0: -> a\n1: joined to 0 a -> b\n2: joined to 1 b -> a\n3: joined to 2 a -> b\n"
        "4: joined to 0 a, 3 b -> c\n5: joined to 0 a, 1 b, 2 a, 3 b, 4 c -> d",
        "ababcd",
    ),
    "Moser's spindle, whose three colours no clique and no wheel rules out": (
        7,
        [(0, 1), (0, 2), (0, 4), (0, 5), (1, 2), (1, 3), (2, 3), (3, 6), (4, 5), (4, 6), (5, 6)],
        "3 do not do: at least 4\n"
        "in order:\n0: -> a\n1: joined to 0 a -> b\n2: joined to 0 a, 1 b -> c\n3: joined to 1 b, 2 c -> a\n"
        "4: joined to 0 a -> b\n5: joined to 0 a, 4 b -> c\n6: joined to 3 a, 4 b, 5 c -> d",
        "abcabcd",
    ),
    "a path, whose ends come first": (
        4,
        [(0, 2), (1, 3), (2, 3)],
        "0,2 are joined: at least 2\n"
        "in order:\n0: -> a\n1: -> a\n2: joined to 0 a -> b\n3: joined to 1 a, 2 b -> none left\n"
        "most colours around first:\n2: -> a\n3: joined to 2 a -> b\n0: joined to 2 a -> b\n1: joined to 3 b -> a",
        "baab",
    ),
    "no edge": (3, [], "none are joined: 1 does\nin order:\n0: -> a\n1: -> a\n2: -> a", "aaa"),
}


@pytest.mark.parametrize("name", WORKED)
def test_reasoning_worked_by_hand(name: str) -> None:
    vertices, edges, think, letters = WORKED[name]
    answer = json.dumps({str(i): letter for i, letter in enumerate(letters)}, separators=(",", ":"))
    assert graph_coloring._work_out(vertices, edges) == (think, answer)


def test_where_neither_order_will_do_an_exact_solution_is_taken_colour_by_colour() -> None:
    seen = 0
    for item in quick("hard", 250, colors=4):
        if "colour by colour:" in item.think:
            seen += 1
            last = item.think.rpartition("colour by colour:\n")[2]
            given = [line[-1] for line in last.splitlines()]
            assert given == sorted(given)
            assert len(given) == item.columns["vertices"]
            assert set(given) == set("abcd")
    assert seen


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_teacher_is_right(setting: str, split: str) -> None:
    for item in quick(setting, 40, split):
        text = item.response()
        assert solve(item.task, item.perception) == item.answer == item.concluded
        assert {score(name, item, text) for name in ("coloring_valid", "perception_edges", "answer_follows")} == {1.0}
        assert graph_coloring.columns(json.loads(item.task), item.answer) == item.columns
        assert item.think.splitlines()[0].endswith(f"at least {item.columns['colors']}")


def test_a_question_says_how_many_vertices_there_are_and_nothing_else() -> None:
    asked = {(item.columns["vertices"], item.question) for item in quick("paper", 900)}
    assert asked == {(vertices, graph_coloring._question(vertices)) for vertices in (6, 7, 8)}
    assert graph_coloring._question(7).startswith("This graph has 7 vertices, labelled 0 to 6. ")


def test_every_step_of_the_reasoning_is_true() -> None:
    for item in quick("hard", 150):
        edges = set(edges_of(item))
        steps = item.think[item.think.rindex(":\n") + 2 :].splitlines()
        given: dict[int, str] = {}
        for step in steps:
            vertex, said = int(step.partition(":")[0]), step.partition("joined to ")[2].partition(" -> ")[0]
            around = {int(one): color for one, color in (pair.split() for pair in said.split(", ") if pair)}
            assert around == {o: c for o, c in given.items() if (min(o, vertex), max(o, vertex)) in edges}
            given[vertex] = next(letter for letter in "abcdefgh" if letter not in around.values())
            assert step.endswith(f"-> {given[vertex]}")
        assert {str(vertex): color for vertex, color in given.items()} == json.loads(item.answer)


def test_a_teacher_that_overlooks_edges_follows_what_it_states() -> None:
    careful, careless = make(150, size=64), make(150, size=64, missed_probability=0.3)
    kept = wrong = 0
    for one, other in zip(careful, careless, strict=True):
        assert (one.image.tobytes(), one.perception, one.answer) == (other.image.tobytes(), other.perception, other.answer)
        stated = [(a, b) for a, b in json.loads(other.stated)]
        assert set(stated) <= set(edges_of(other))
        kept += len(stated)
        assert solve(other.task, other.stated) == other.concluded
        assert score("answer_follows", other, other.response()) == 1.0
        wrong += score("coloring_valid", other, other.response()) == 0.0
    assert kept / sum(len(edges_of(item)) for item in careful) == pytest.approx(0.7, abs=0.03)
    assert wrong > 75


SAME = [
    [[0, 1], [1, 2]],
    [[2, 1], [1, 0], [0, 1]],
    [["0", "1"], ["1", 2]],
    {"edges": [[0, 1], [1, 2]], "v": 3},
]


@pytest.mark.parametrize("stated", SAME)
def test_forms_of_an_edge_list(stated: Any) -> None:
    assert graph_coloring.solve({"vertices": 3}, stated) == '{"0":"a","1":"b","2":"a"}'


@pytest.mark.parametrize(
    "stated",
    [None, 3, "[[0,1]]", {}, {"edges": 1}, [0, 1], [[0]], [[0, 1, 2]], [[0, 0]], [[0, 3]], [[-1, 0]], [[0, True]], [[0, 1.0]],
     [[0, "01"]], [[0, None]], [[0, [1]]], [[0, 10**5000]], [[0, 1]] * 10],
)  # fmt: skip
def test_what_is_no_edge_list_has_no_answer(stated: Any) -> None:
    assert graph_coloring.solve({"vertices": 3}, stated) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 12) | st.floats() | st.sampled_from(["0", "1", " 2", "a", "edges"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["edges", "v"]), inner),
    max_leaves=20,
)


@given(JSON, st.integers(3, 12))
@settings(max_examples=200)
def test_whatever_is_stated_the_solver_does_not_raise(stated: Any, vertices: int) -> None:
    answer = graph_coloring.solve({"vertices": vertices}, stated)
    assert answer is None or len(json.loads(answer)) == vertices
