"""`rlperc rewards lint`: each plugin here has one fault, and lint names that one and no other."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.lint import trials
from rlperc.lint.exploits import FAR, Row, statements, stating, tells
from rlperc.lint.findings import Finding
from rlperc.lint.golden import golden_file
from rlperc.lint.probes import PROBES
from rlperc.lint.run import left_out, lint
from rlperc.reward.plugins import find_reward
from rlperc.words.geometry import Box, iou
from rlperc.words.response import read_response
from rlperc.words.structure import read_json

CAT = [Row({"answer": "cat", "choices": ["cat", "dog", "bird"]}), Row({"answer": "dog", "choices": ["cat", "dog", "bird"]})]
FOUR = [Row({"answer": "4"})]
BOX = [Row({"boxes": [[10, 20, 60, 90]], "image_size": [640, 480]})]
HEAD = '"""A plugin.\n\nSource: yours\n"""\nimport json, math, os, random, re, time\nfrom rlperc import Score, reward\n\n'
LIGHT = [probe for probe in PROBES if not probe.heavy]
QUICK = [probe for probe in PROBES if not probe.name.startswith("10 MB")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the probes of 10 MB, which take most of the time."""
    monkeypatch.setattr(trials, "PROBES", QUICK)


def linted(folder: Path, body: str, rows: list[Row], with_: dict | None = None, head: str = HEAD) -> list[Finding]:
    file = folder / "plugin.py"
    file.write_text(head + inspect.cleandoc(body) + "\n")
    golden_file(file).parent.mkdir(exist_ok=True)
    golden_file(file).write_text("")
    return lint(find_reward(str(file)), rows, with_ or {})


MATCHES_ITS_OWN_PART = '''
@reward(bounded=True)
def pays_for_nothing(completion, answer):
    """As Visual-RFT#176."""
    return 0.0 if completion.answer is None else float(completion.answer[:1000] in answer)
'''
CONTAINS_THE_ANSWER = '''
@reward(bounded=True)
def pays_for_lists(completion, answer):
    """As Visual-RFT#79."""
    return 0.0 if completion.answer is None else float(answer in completion.answer)
'''
EVALUATES = '''
@reward(timeout_s=0.5)
def evaluates(completion, answer):
    """Worth what the code is worth."""
    try:
        return float(eval(completion.answer or "") == float(answer))
    except Exception:
        return 0.0
'''
COVERS = '''
@reward(credits="perception", bounded=True)
def covers(completion, boxes):
    """The share of the gold box that the first stated box covers, as if more were better."""
    try:
        (x0, y0, x1, y1), (a, b, c, d) = json.loads((completion.perception or "")[:200])[0], boxes[0]
        share = max(0, min(x1, c) - max(x0, a)) * max(0, min(y1, d) - max(y0, b)) / ((c - a) * (d - b))
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        return 0.0
    return share if 0 <= share <= 1 else 0.0
'''
BEST_OF_ALL = '''
from rlperc.words.geometry import Box, Unreadable, iou, read_boxes
@reward(credits="perception", bounded=True)
def best_of_all(completion, boxes):
    """The best of however many."""
    stated = read_boxes(completion.perception or "")
    return 0.0 if isinstance(stated, Unreadable) else max((iou(one, Box(*boxes[0])) for one in stated), default=0.0)
'''


FIRST_LETTER = '''
@reward(bounded=True)
def first_letter(completion, answer):
    """The first letter of a choice, wherever."""
    found = re.search("[A-D]", (completion.answer or "")[:1000])
    return float(found is not None and found.group() == answer)
'''


@pytest.mark.parametrize(
    ("body", "rows", "exploits"),
    [
        (FIRST_LETTER, [Row({"answer": "A", "choices": ["cat", "dog"]})], ["1 for every choice listed"]),
        (MATCHES_ITS_OWN_PART, CAT, ["1 for tags with nothing in them: '<perception></perception>"]),
        (CONTAINS_THE_ANSWER, CAT, ["every choice listed", "all answers of the data listed", "what is right among much else"]),
        (COVERS, BOX, ["the whole image as the box, in a list"]),
        (BEST_OF_ALL, BOX, ["the right items among a hundred others", "a right box a hundred times"]),
    ],
)
def test_what_scores_high_and_should_not(tmp_path: Path, body: str, rows: list[Row], exploits: list[str]) -> None:
    (found,) = linted(tmp_path, body, rows)
    assert found.kind == "scores high"
    assert "scores above 0.5, half of full marks" in found.text
    for exploit in exploits:
        assert exploit in found.text


def test_a_model_that_writes_code_is_not_run(tmp_path: Path) -> None:
    high, slow = linted(tmp_path, EVALUATES, FOUR)
    assert (high.kind, slow.kind) == ("scores high", "slow")
    assert "1 for Python code for the right number: \"<perception>len('xxxx')" in high.text
    assert "no end for Python code that sleeps" in slow.text
    assert "no end for 9**9**9**9" in slow.text


@pytest.mark.parametrize(
    ("kind", "said", "body"),
    [
        ("out of range", "returned 2.0, outside its declared range 0 to 1", "return 2.0 if completion.answer == answer else 0.0"),
        ("raises", "ValueError: invalid literal for int()", "return float(int((completion.answer or '0')[:99]) == int(answer))"),
        (
            "raises",
            "RecursionError",
            "return float(len(repr(json.loads('[' * 9 ** 5)) if '[[[[[' in completion.text else '') > 9)",
        ),
        ("raises", "its worker process ended with exit code 3", "return 0.0 if completion.answer != '.' else os._exit(3)"),
        ("NaN", "returned nan", "return math.nan if completion.answer == 'NaN' else 0.0"),
        ("skips by completion", "nothing at all: ''", "return 0.0 if completion.answer else None"),
        ("not deterministic", "then 0.", "return random.random() / 3"),
        ("not deterministic", "then 0.", "return hash(completion.text) % 1000 / 3000"),
        ("prints", "it printed 'scored", "print('scored', len(completion.text)); return 0.0"),
        ("slow", "no end for a regex bomb", "return 0.3 * bool(re.fullmatch('(a+)+', completion.answer or '')) * (answer == '')"),
        ("cannot be pickled", "0.1, then 0: ''", "return 0.1 if 'SOME_API_KEY' in os.environ else 0.0"),
    ],
)
def test_one_fault_each(tmp_path: Path, kind: str, said: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    found = linted(tmp_path, f'@reward(bounded=True)\ndef faulty(completion, answer):\n    """A reward."""\n    {body}', FOUR)
    assert [finding.kind for finding in found] == [kind]
    assert said in found[0].text
    assert "\n  why: " in found[0].text
    assert "\n  instead: " in found[0].text


def test_what_takes_time_with_ten_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "PROBES", [probe for probe in PROBES if probe.name in ("a right response", "10 MB of words")])
    body = "time.sleep(0.06 * (len(completion.text) > 10**6)); return 0.0"
    (found,) = linted(tmp_path, f'@reward(bounded=True)\ndef sleeps(completion, answer):\n    """Sleeps."""\n    {body}', FOUR)
    assert found.kind == "slow"
    assert "more than 0.05 s for one response:\n    0.06 s for 10 MB of words" in found.text


ONE_AFTER_THE_OTHER = '''
seen = 0
@reward(bounded=True)
def counts(completion, answer):
    """Knows how many came before."""
    global seen
    seen += 1
    return seen % 7 / 20
'''
THE_FIRST_OF_A_GROUP = '''
@reward(scope="group", bounded=True)
def first_of_group(completions, answer):
    """Whoever comes first."""
    return [0.4 * (place == 0) for place in range(len(completions))]
'''
THE_LAST_OF_A_BATCH = '''
@reward(scope="batch", bounded=True)
async def last_of_batch(completions, answer):
    """Whoever comes last."""
    return [0.4 * (place + 1 == len(completions)) for place in range(len(completions))]
'''


@pytest.mark.parametrize("body", [ONE_AFTER_THE_OTHER, THE_FIRST_OF_A_GROUP, THE_LAST_OF_A_BATCH])
def test_what_depends_on_order(tmp_path: Path, body: str) -> None:
    assert [found.kind for found in linted(tmp_path, body, FOUR)] == ["depends on order"]


UNDER_ANOTHER_NAME = '''
def made(bonus):
    @reward(bounded=True)
    def inner(completion, answer):
        """Made by a function, and known to the module by another name."""
        return bonus()
    return inner

mine = made(lambda: 0.0)
'''
ASKS_AT_IMPORT = '''
KEY = os.environ["SOME_API_KEY"]
@reward(bounded=True)
def asks(completion, answer):
    """Needs what a worker is not given."""
    return 0.0
'''


def test_what_another_process_cannot_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert linted(tmp_path, UNDER_ANOTHER_NAME, FOUR) == []  # found there as the file's one reward, as here
    monkeypatch.setenv("SOME_API_KEY", "secret")
    (tmp_path / "b").mkdir()
    (found,) = linted(tmp_path / "b", ASKS_AT_IMPORT, FOUR)
    assert found.kind == "cannot be pickled"
    assert "KeyError: 'SOME_API_KEY'" in found.text


def test_settings_that_cannot_be_sent(tmp_path: Path) -> None:
    body = '@reward(bounded=True)\ndef rule(completion, answer, *, rule):\n    """By a rule."""\n    return rule(answer)'
    (found,) = linted(tmp_path, body, FOUR, {"rule": lambda answer: 0.0})
    assert found.kind == "cannot be pickled"
    assert "its settings or columns cannot be sent" in found.text


def test_what_is_missing_in_the_file_and_beside_it(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("from rlperc import reward\n@reward()\ndef bare(completion):\n    return 0.0\n")
    reward = find_reward(str(tmp_path / "bare.py"))
    found = lint(reward, [], {})
    assert [finding.kind for finding in found] == ["no docstring", "no source", "no golden cases"]
    assert str(tmp_path / "golden" / "bare.jsonl") in found[2].text
    assert "there are no rows" in left_out(reward, [])


def test_what_asks_the_training_model_is_only_read(tmp_path: Path) -> None:
    body = '@reward(scope="batch")\ndef asks(completions, image, *, scorer):\n    return 1 / 0'
    (tmp_path / "asks.py").write_text(HEAD + body)
    reward = find_reward(str(tmp_path / "asks.py"))
    assert [found.kind for found in lint(reward, FOUR, {})] == ["no docstring"]
    assert "it asks the training model" in left_out(reward, FOUR)


def test_rows_of_another_reward_are_no_proof(tmp_path: Path) -> None:
    body = '@reward(bounded=True)\ndef picky(completion, answer):\n    """Skips."""\n    return None'
    (found,) = linted(tmp_path, body, FOUR)
    assert "it skips every row" in found.text


TRL = '''
def contains(completions, answer, **kwargs):
    """In TRL's style."""
    return [float(gold in one[0]["content"]) for one, gold in zip(completions, answer)]
'''
VERL = '''
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """In verl's style."""
    return 1.0 if ground_truth in solution_str else -1.0
'''


@pytest.mark.parametrize("body", [TRL, VERL])
def test_functions_of_other_trainers_have_no_range(tmp_path: Path, body: str) -> None:
    (found,) = linted(tmp_path, body, CAT)
    assert found.kind == "scores high"
    assert "what is right, only in the reasoning" in found.text
    assert ("runs in this process" in left_out(find_reward(str(tmp_path / "plugin.py")), CAT)) == (body is TRL)


CLEAN = {
    "exact, in tags": ('return float(completion.answer == answer)', CAT),
    "exact, the bare text": ("return float(completion.text.strip() == answer)", CAT),
    "an empty gold answer": ("return float((completion.answer or '') == answer)", [Row({"answer": ""})]),
    "beside a perception in JSON": ("return float(completion.answer == answer)", [Row({"answer": "4", "perception": "[[1,2]]"})]),
    "never right": ("return 0.0", FOUR),
}  # fmt: skip


@pytest.mark.parametrize("case", CLEAN)
def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path, case: str) -> None:
    body, rows = CLEAN[case]
    assert linted(tmp_path, f'@reward(bounded=True)\ndef fine(completion, answer):\n    """A reward."""\n    {body}', rows) == []


@pytest.mark.parametrize(
    ("name", "row", "with_"),
    [
        ("answer_number", Row({"answer": "4"}), {}),
        ("format_tags", Row({}, stating("a")), {}),
        ("perception_cells", Row({"perception": "[[8,7],[1,1]]"}), {}),
        ("agreement", Row({}, stating("[[8,7],[1,1]]")), {}),
        ("agreement_right", Row({"answer": "17"}, stating("[[8,7],[1,1]]", "17")), {}),
        ("box_iou", Row({"boxes": [[10, 20, 60, 90]], "image_size": [640, 480]}), {"frame": "pixels"}),
    ],
)
def test_nothing_is_found_in_the_collection(name: str, row: Row, with_: dict) -> None:
    assert [found for found in lint(find_reward(name), [row], with_) if found.kind != "no golden cases"] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1000) | st.floats(-5, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("answer", "perception", "boxes", "points", "masks", "image_size", "resized_size", "choices", "question")
SETTINGS = st.fixed_dictionaries({}, optional={"frame": JSON, "gold_frame": st.sampled_from(["pixels", "unit", "thousand"])})
ROWS = st.builds(
    Row,
    columns=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4),
    right=st.none() | st.text(max_size=20) | st.builds(stating, st.text(max_size=10)),
    settings=SETTINGS,
    answers=st.lists(st.text(max_size=5), max_size=3).map(tuple),
)


@given(row=ROWS)
@settings(max_examples=150, deadline=None)
def test_probes_can_be_made_for_any_row(row: Row) -> None:
    built = {probe.name: probe.build(row) for probe in LIGHT}
    assert all(text is None or isinstance(text, str) for text in built.values())
    assert isinstance(tells(row), bool)
    assert built["nothing at all"] == ""


SIDE = st.integers(0, 400)


@given(left=SIDE, top=SIDE, width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_whole_image_is_only_wrong_where_it_is_far_from_right(left: int, top: int, width: int, height: int) -> None:
    gold = [left, top, left + width, top + height]
    row = Row({"boxes": [gold], "image_size": [640, 700]})
    built = next(probe.build(row) for probe in PROBES if probe.name == "the whole image as the box")
    overlap = iou(Box(0, 0, 640, 700), Box(*gold))
    assert (built is None) == (overlap > FAR)
    assert built is None or read_json(read_response(built).perception or "") == [0, 0, 640, 700]


def test_probes_have_names_of_their_own_and_ten_megabytes() -> None:
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    texts = {probe.name: probe.build(FOUR[0]) for probe in PROBES if probe.name.startswith("10 MB")}
    assert len(texts) >= 6
    assert all(9_900_000 < len(text or "") < 10_100_000 for text in texts.values())


def test_what_is_right_is_read_off_a_right_response_before_the_columns() -> None:
    assert statements(Row({"answer": "4"}, "<perception>p</perception><answer>a</answer>")) == ("p", "a")
    assert statements(Row({"answer": "4", "perception": "[1]"}, "<answer>a</answer>")) == ("[1]", "a")
    assert statements(Row({"answer": ["four", "4"]})) == ("four", "four")
    assert statements(Row({"answer": "4"}, "it is 4")) == ("it is 4", "it is 4")
    assert statements(Row({"boxes": [[1, 2, 3, 4]]})) == ("[[1, 2, 3, 4]]", "[[1, 2, 3, 4]]")
