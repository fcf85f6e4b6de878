"""The response has its three tags, once each, in order, and nothing beside them.

Source: the format reward of DeepSeek-R1 (arXiv 2501.12948), section 2.2.2, with a span for perception.
"""

from rlperc import Completion, Score, reward

MAX_BLANKS = 1000  # characters of whitespace in one place; more is padding


@reward(range=(0.0, 1.0), credits="format", bounded=True)
def format_tags(completion: Completion) -> Score:
    """1 where the response is exactly `<perception>…</perception><think>…</think><answer>…</answer>`, else 0.

    Each span holds something. Up to 1,000 characters of whitespace may stand before, between, in and after the tags.
    """
    tags, text = completion.tags, completion.text
    spans = ((tags.perception, completion.perception), (tags.think, completion.think), (tags.answer, completion.answer))
    position = 0
    for tag, content in spans:
        if content is None:
            return Score(0.0, why="a tag is missing, unclosed or repeated")
        if not content:
            return Score(0.0, why=f"nothing in <{tag}>")
        # Each tag is there once, so what stands between the two is the content: it is stepped over, whatever its length.
        opened = text.find(f"<{tag}>", position, position + MAX_BLANKS + len(f"<{tag}>"))
        if opened < 0 or text[position:opened].strip():
            return Score(0.0, why="text beside the tags, or tags out of order")
        inside = opened + len(f"<{tag}>") + len(content)
        closed = text.find(f"</{tag}>", inside, inside + 2 * MAX_BLANKS + len(f"</{tag}>"))
        if closed < 0:
            return Score(0.0, why=f"more than {MAX_BLANKS} blanks in <{tag}>")
        position = closed + len(f"</{tag}>")
    beside = text[position : position + MAX_BLANKS + 1]
    if len(beside) > MAX_BLANKS or beside.strip():
        return Score(0.0, why="text beside the tags, or tags out of order")
    return Score(1.0)
