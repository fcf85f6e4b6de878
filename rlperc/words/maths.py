r"""Whether a text states the gold answer to a problem in mathematics, by the rules of TRL's `accuracy_reward`.

That function asks math-verify, which reads LaTeX with a general grammar and compares with sympy: right, but slow, and for
some answers endless (huggingface/Math-Verify#65). So three things come first: the same text is the same answer; numbers,
expressions, sets and intervals that exact arithmetic can settle are settled (`sameness`); and what would take sympy
too long to evaluate is not handed to it. Only the rest goes to math-verify, without its own time limits (they need the main
thread); the time limit is the caller's. Math-verify need not be installed for what is settled before.

Three verdicts differ from `accuracy_reward` on purpose. A gold answer without `$` or a box around it is read as LaTeX, where
TRL takes `2x+1` for 2 and skips `\sqrt{8}`. An answer that is written exactly as the gold answer is right, also where
math-verify cannot read it. And an answer too costly to evaluate is wrong unless it is written like the gold answer. Where
math-verify is merely odd its verdict stands: to it `5.` is no number, `2(3)` is 5, and `\frac12` is read in gold answers only.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from rlperc.words.forms import Answer, read_answer
from rlperc.words.latex import NotReadError
from rlperc.words.magnitude import too_costly
from rlperc.words.sameness import same_answer

CACHED_ANSWERS = 4096
CACHED_VERDICTS = 8192
MAX_ANSWER_CHARACTERS = 1_000
MAX_SEARCHED_CHARACTERS = 10_000


class Stated(NamedTuple):
    """An answer by itself, or (not `alone`) the text that math-verify has to look for it in."""

    text: str
    alone: bool


class Verdict(NamedTuple):
    """Whether an answer is right, and if it is not, why."""

    right: bool
    why: str = ""


_DELIMITER = re.compile(r"(?<!\\)\$|\\boxed|\\fbox|\\\[|\\\(")
_WHOLE = (
    re.compile(r"\$\$([^$]+)\$\$"),
    re.compile(r"\$((?:[^$\\]|\\.)+)\$", re.DOTALL),
    re.compile(r"\\\(((?:[^\\]|\\(?![()\[\]])(?!boxed))+)\\\)"),
    re.compile(r"\\\[((?:[^\\]|\\(?![()\[\]])(?!boxed))+)\\\]"),
)
_PROSE = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{2,}[,.:;]?\s+[a-zA-Z]{2,}")
_PERCENT_AFTER = re.compile(r"(?:\$|\\\]|\\\)|\])\s*(?:\\?%|[Pp]ercent|[Pp]ct)")
# Brackets with spaces around them delimit a formula too.
_BRACKET_OPENS, _BRACKET_CLOSES = re.compile(r"\s\[[^\n\[\]]*$"), re.compile(r"\]\s")
_ENVIRONMENT = re.compile(r"\$|\\\[|\\\(|\s\[|\\frac")
_ANNOUNCED = re.compile(r"answer\s+is:?\s*\$([^$\n]*[^$\n\\])\$\.?\s*\Z", re.IGNORECASE)
_JOINED = re.compile(r"(?:,|and|or)\s*(?:\$|\\\[|\\\(|\[)")
_SEPARATOR = re.compile(r"\b(?:and|or)\b|,|;")
# What closes a formula, and what cannot stand inside that formula.
_CLOSERS = (("$$", ("$$",)), ("$", ("$", "\n")), (r"\]", (r"\]",)), (r"\)", (r"\)", "\n")), ("]", ("[", "]", "\n")))


def judge_span(gold: str, span: str) -> Verdict | None:
    """Judge text that is all answer, the contents of `<answer>`. None where the gold answer cannot be used."""
    if _read_gold(gold) is None:
        return None
    span = span.strip()
    if not span:
        return Verdict(False, "no answer")
    if len(span) > MAX_SEARCHED_CHARACTERS:
        return Verdict(False, "the answer is too long")
    alone = _alone(span)
    if alone is not None:
        return _judge(gold, Stated(alone, alone=True), anchored=False)
    stated = find_stated(span) if r"\boxed" in span else Stated(span, alone=False)
    return _judge(gold, stated or Stated(span, alone=False), anchored=False)


def judge_text(gold: str, text: str) -> Verdict | None:
    r"""Judge a whole response: its last `\boxed{…}`, or what it calls its answer, in LaTeX. None as in `judge_span`."""
    if _read_gold(gold) is None:
        return None
    stated = find_stated(text)
    if stated is None:
        return Verdict(False, "no answer in a box")
    return _judge(gold, stated, anchored=True)


def find_stated(text: str) -> Stated | None:
    r"""Find the answer that a response states, as math-verify does when TRL asks it; None where it states none.

    Several boxes close to each other, or in one formula, are for math-verify to join.
    """
    unclear = Stated(text[-MAX_SEARCHED_CHARACTERS:], alone=False)
    first, start = text.find(r"\boxed{"), text.rfind(r"\boxed")
    if first < 0 or text.rfind("}") <= first + len(r"\boxed{"):
        announcements = text.lower().count("answer")
        announced = _ANNOUNCED.search(text[-MAX_ANSWER_CHARACTERS:]) if announcements == 1 else None
        if announced and r"\fbox" not in announced[1]:
            return Stated(announced[1], alone=True)
        return unclear if announcements and _ENVIRONMENT.search(text) else None
    end = _closing(text, start)
    if r"\fbox" in text or ("I hope" in text and "final answer is" in text.lower()):
        return unclear
    if end is None:
        rest = text[start : text.rfind("}") + 1]
        # What lacks a brace cannot be read, unless the brace stands in a text or math-verify reads on behind an equals sign.
        unreadable = rest.startswith(r"\boxed{") and r"\text" not in rest and r"\m" not in rest and rest.count("=") < 2
        return None if unreadable else unclear
    content, tail = text[start + len(r"\boxed{") : end], text[end + 1 :]
    bare = content.replace(r"\$", "")
    if not content.strip() or any(sign in bare for sign in ("$", r"\]", r"\)")) or _PERCENT_AFTER.search(tail):
        return unclear
    if _BRACKET_CLOSES.search(content.partition("[")[0]) and _BRACKET_OPENS.search(text, text.rfind("\n", 0, start) + 1, start):
        return unclear
    before = text.rfind(r"\boxed", 0, start)
    if before >= 0:
        ended = _closing(text, before)
        if ended is None or ended > start or _belong_together(text[before:ended], text[ended + 1 : start], content, tail):
            return unclear
    return Stated(content.strip(), alone=True)


def _closing(text: str, start: int) -> int | None:
    r"""Where the brace of the `\boxed{` at `start` closes; None where it does not, or only far away."""
    if not text.startswith(r"\boxed{", start):
        return None
    depth = 0
    for match in re.finditer(r"[{}]", text[start : start + 2 * MAX_ANSWER_CHARACTERS]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return start + match.start()
    return None


def _belong_together(first: str, between: str, content: str, tail: str) -> bool:
    """Whether math-verify may read two boxes as one answer: near each other, in one formula, or in a list of formulas."""
    differ = first.removeprefix(r"\boxed{").strip() != content.strip()
    if len(between) < 10 or (len(between) < 70 and differ and _SEPARATOR.search(between)) or _JOINED.search(between):
        return True
    between = between.replace(r"\$", "")
    return any(closer in tail and not any(sign in between for sign in breaks) for closer, breaks in _CLOSERS)


def _alone(text: str) -> str | None:
    """The text without the one pair of delimiters around it; None where there are others."""
    if not _DELIMITER.search(text):
        return text if text.count("{") == text.count("}") else None
    for pattern in _WHOLE:
        match = pattern.fullmatch(text)
        if match and not _DELIMITER.search(match[1]):
            return match[1]
    if text.startswith(r"\boxed{") and _closing(text, 0) == len(text) - 1:
        content = text[len(r"\boxed{") : -1]
        return None if _DELIMITER.search(content) else content
    return None


class _Gold(NamedTuple):
    """A gold answer: what math-verify is to parse, the answer by itself where that is known, and its form where exact."""

    source: str
    text: str | None
    form: Answer | None


@functools.lru_cache(maxsize=CACHED_ANSWERS)
def _read_gold(gold: str) -> _Gold | None:
    """Read a gold answer; None where it is empty or too long to be one."""
    gold = gold.strip()
    text = _alone(gold)
    if text is None and "answer" not in gold.lower():
        stated = find_stated(gold)
        text = stated.text if stated is not None and stated.alone else None
    if not (gold if text is None else text).strip("${} \n") or (text is None and len(gold) > MAX_SEARCHED_CHARACTERS):
        return None
    if text is None or (text == gold and _PROSE.search(gold)):
        return _Gold(gold, text, None)
    text = " ".join(text.split())
    return _Gold(f"${text}$", text, None if "answer" in text.lower() else _form(text, repair=True))


@functools.lru_cache(maxsize=CACHED_ANSWERS)
def _form(text: str, *, repair: bool) -> Answer | None:
    try:
        return read_answer(text, repair=repair)
    except NotReadError:
        return None


def _judge(gold: str, stated: Stated, anchored: bool) -> Verdict | None:
    if stated.alone and len(stated.text) > MAX_ANSWER_CHARACTERS:
        return Verdict(False, "the answer is too long")
    judge = _judge_once if stated.alone else _judge_once.__wrapped__  # long texts do not repeat
    return judge(gold, stated, anchored)


# The completions of one prompt often state the same few answers.
@functools.lru_cache(maxsize=CACHED_VERDICTS)
def _judge_once(gold: str, stated: Stated, anchored: bool) -> Verdict | None:
    read = _read_gold(gold)
    if read is None:
        return None
    right: bool | None = None
    if stated.alone and read.text is not None:
        if stated.text.split() == read.text.split():
            return Verdict(True)
        form = _form(stated.text, repair=False) if read.form is not None else None
        right = same_answer(read.form, form) if read.form is not None and form is not None else None
    if right is None:
        # Beside mathematics two asterisks make text bold; in it they are a power, if to the gold answer's reader only.
        why = too_costly(stated.text if stated.alone else stated.text.replace("**", " ")) or too_costly(read.source)
        if why:
            return Verdict(False, why)
        right = _ask_math_verify(read.source, stated, anchored)
    return Verdict(True) if right else Verdict(False, f"{_shown(stated)} instead of {_shortened(gold)}")


def _shown(stated: Stated) -> str:
    return _shortened(stated.text) if stated.alone else "another answer"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "…"


def _ask_math_verify(gold: str, stated: Stated, anchored: bool) -> bool:
    from math_verify import parse, verify

    golds = _parsed_gold(gold)
    source = f"\\boxed{{{stated.text}}}" if stated.alone else stated.text
    answers = parse(source, _extraction(anchored), extraction_mode="first_match", parsing_timeout=None)
    return bool(verify(golds, answers, timeout_seconds=None))


@functools.lru_cache(maxsize=CACHED_ANSWERS)
def _parsed_gold(source: str) -> list[Any]:
    from math_verify import parse

    _silence()
    parsed: list[Any] = parse(source, parsing_timeout=None)
    return parsed or parse(f"${source}$", parsing_timeout=None)


@functools.cache
def _extraction(anchored: bool) -> list[Any]:
    """What TRL 1.16 passes; the contents of `<answer>` need no words that announce an answer."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig

    normalization = NormalizationConfig(units=True)
    return [
        LatexExtractionConfig(normalization_config=normalization, boxed_match_priority=0, try_extract_without_anchor=not anchored)
    ]


@functools.cache
def _silence() -> None:
    """Math-verify warns that its time limits are off; that is meant."""
    import logging

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
