"""The response has its three tags, once each, in order, and nothing beside them.

Source: the format reward of DeepSeek-R1 (arXiv 2501.12948), section 2.2.2, with a span for perception.
"""

from rlperc import Completion, Score, reward
from rlperc.words.response import write_response


@reward(range=(0.0, 1.0), credits="format")
def format_tags(completion: Completion) -> Score:
    """1 where the response is exactly `<perception>…</perception><think>…</think><answer>…</answer>`, else 0."""
    perception, think, answer = completion.perception, completion.think, completion.answer
    if perception is None or think is None or answer is None:
        return Score(0.0, why="a tag is missing, unclosed or repeated")
    plain = write_response(perception, think, answer, completion.tags)
    same = "".join(plain.split()) == "".join(completion.text.split())
    return Score(1.0) if same else Score(0.0, why="text beside the tags, or tags out of order")
