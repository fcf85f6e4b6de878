import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.words.response import Tags, find_regions, find_span, read_response, write_response

PLAIN = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"])).map(str.strip)
# Pieces that make tags likely, for text as hostile as a model's.
PIECES = st.lists(st.sampled_from(["<perception>", "</perception>", "<answer>", "</answer>", "<think>", "x", "é", "\n"]))


@given(PLAIN, PLAIN, PLAIN)
def test_writing_and_reading_are_inverse(perception: str, think: str, answer: str) -> None:
    read = read_response(write_response(perception, think, answer))
    assert (read.perception, read.think, read.answer) == (perception, think, answer)


@given(PIECES.map("".join))
def test_a_span_is_found_exactly_where_a_tag_opens_and_closes_once_in_order(text: str) -> None:
    span = find_span(text, "answer")
    once = text.count("<answer>") == 1 and text.count("</answer>") == 1
    in_order = once and text.index("<answer>") < text.index("</answer>")
    assert (span.state == "found") == in_order
    if span.state == "found":
        assert text[: span.start].endswith("<answer>")
        assert text[span.end :].startswith("</answer>")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("<answer>4</answer>", "found"),
        ("4", "missing"),
        ("<answer>4", "unclosed"),
        ("</answer>4<answer>", "unclosed"),
        ("<answer>4</answer><answer>5</answer>", "repeated"),
        ("<answer><answer>4</answer></answer>", "repeated"),
        ("<ANSWER>4</ANSWER>", "missing"),
    ],
)
def test_states(text: str, state: str) -> None:
    assert find_span(text, "answer").state == state


def test_tags_can_have_other_names() -> None:
    read = read_response("<info>two dogs</info><answer>2</answer>", Tags(perception="info"))
    assert (read.perception, read.think, read.answer) == ("two dogs", None, "2")


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("<think>a</think><answer>4</answer>", [("think", 0, 16), ("answer", 16, 34)]),
        ("so <answer>4</answer><think>a</think>.", [("answer", 3, 21), ("think", 21, 37)]),
        ("<think>a<answer>4</answer></think>", [("think", 0, 34), ("answer", 8, 26)]),
        ("<think>a</think><answer>4</ans", [("think", 0, 16), ("answer", 16, 30)]),
        ("</answer>4<answer>5", [("answer", 10, 19)]),
        ("<answer>4</answer><answer>5<think>", [("think", 27, 34)]),
        ("<answer>4</answer></answer>", []),
        ("4</answer>", []),
        ("", []),
    ],
)
def test_regions(text: str, regions: list[tuple[str, int, int]]) -> None:
    assert find_regions(text, Tags()) == regions


@given(PIECES.map("".join))
def test_regions_hold_the_spans_that_are_found_and_else_reach_to_the_end(text: str) -> None:
    regions = {name: (start, end) for name, start, end in find_regions(text, Tags())}
    for tag in ("perception", "think", "answer"):
        span = find_span(text, tag)
        expected = {
            "found": (span.start - len(f"<{tag}>"), span.end + len(f"</{tag}>")),
            "unclosed": (text.find(f"<{tag}>"), len(text)),
        }
        assert regions.get(tag) == expected.get(span.state)


def test_regions_are_named_for_what_their_tags_stand_for() -> None:
    assert find_regions("<info>two dogs</info>", Tags(perception="info")) == [("perception", 0, 21)]
