"""A model's response as spans: `<perception>…</perception><think>…</think><answer>…</answer>`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rlperc.errors import RecipeError, did_you_mean

Where = Literal["perception", "answer"]
Region = Literal["perception", "think", "answer"]
SpanState = Literal["found", "missing", "unclosed", "repeated"]


@dataclass(frozen=True)
class Tags:
    """The words a response is tagged with. The field also writes `description`, `recognition`, `info`."""

    perception: str = "perception"
    think: str = "think"
    answer: str = "answer"


@dataclass(frozen=True)
class Span:
    """Where a tag's content stands: `text[start:end]`, tags excluded. Offsets are 0 unless found."""

    state: SpanState
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Completion:
    """What a reward sees of one completion.

    `text` is all the model wrote; `perception`, `think` and `answer` are the contents of its spans, stripped,
    or None where the tag is missing, unclosed or repeated. `tokens` is the length in tokens where it is known;
    `tags` are the words the spans were looked for under.
    """

    text: str
    perception: str | None = None
    think: str | None = None
    answer: str | None = None
    tokens: int | None = None
    tags: Tags = Tags()


def find_span(text: str, tag: str) -> Span:
    """Find the one `<tag>…</tag>` in `text`.

    A tag that opens or closes more than once is `repeated` and holds nothing: a response that states several
    answers has stated none, else listing all of them would pay.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    opened, closed = text.count(opening), text.count(closing)
    if opened > 1 or closed > 1:
        return Span("repeated")
    if opened == 0:
        return Span("missing")
    start = text.index(opening) + len(opening)
    end = text.find(closing, start)
    if end < 0:
        return Span("unclosed")
    return Span("found", start, end)


def find_regions(text: str, tags: Tags) -> list[tuple[Region, int, int]]:
    """Find what stands between the three tags, tags included: name, start and end in characters, in order of opening.

    A tag that never closes after it opened reaches to the end of `text`, as where a completion was cut off. One that is
    missing, or opens or closes more than once, has no region. Never raises.
    """
    regions: list[tuple[Region, int, int]] = []
    named: list[tuple[Region, str]] = [("perception", tags.perception), ("think", tags.think), ("answer", tags.answer)]
    for name, tag in named:
        span = find_span(text, tag)
        if span.state in ("found", "unclosed"):
            end = span.end + len(f"</{tag}>") if span.state == "found" else len(text)
            regions.append((name, text.index(f"<{tag}>"), end))
    return sorted(regions, key=lambda region: region[1])


# Every reward of a batch reads the same completions.
@functools.lru_cache(maxsize=4096)
def read_response(text: str, tags: Tags | None = None, tokens: int | None = None) -> Completion:
    """Read the three spans of a response, and remember them. Never raises, whatever the text."""
    return read_response_once(text, tags, tokens)


def read_response_once(text: str, tags: Tags | None = None, tokens: int | None = None) -> Completion:
    """The same without remembering: for a file's worth of responses, or huge ones."""
    tags = tags or Tags()

    def content(tag: str) -> str | None:
        span = find_span(text, tag)
        return text[span.start : span.end].strip() if span.state == "found" else None

    return Completion(
        text=text,
        perception=content(tags.perception),
        think=content(tags.think),
        answer=content(tags.answer),
        tokens=tokens,
        tags=tags,
    )


def stated_text(completion: Completion, span: str) -> str | None:
    """What stands in the span that a recipe names, or None where the response lacks it. Raises RecipeError for another span."""
    if span not in get_args(Where):
        raise RecipeError(f"the span '{span}'", "the reward reads no such span", did_you_mean(str(span), get_args(Where)))
    return completion.perception if span == "perception" else completion.answer


def text_of(written: Any) -> str:
    """The text of a completion as TRL hands it: as it is, or that of its last message."""
    return written if isinstance(written, str) else written[-1]["content"]


def write_response(perception: str, think: str, answer: str, tags: Tags | None = None) -> str:
    """Write a response in the canonical form, the inverse of `read_response`."""
    tags = tags or Tags()
    parts = ((tags.perception, perception), (tags.think, think), (tags.answer, answer))
    return "".join(f"<{tag}>{content}</{tag}>" for tag, content in parts)
