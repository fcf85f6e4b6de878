"""Adversarial responses as data: what a model may learn to write, or write by accident, and where paying for it is a fault.

Source: the exploits and the crashes that users of other trainers reported, among them Liuziyu77/Visual-RFT#176 (the empty
answer always matches) and #79 (listing every class), huggingface/Math-Verify#65 (an expression that never ends).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rlperc.lint import exploits as e
from rlperc.lint.exploits import Build, stating
from rlperc.reward.contract import Credits

# Whose reward is for what is stated about the image. A `format` reward may well like a response that states nothing.
STATED = frozenset[Credits]({"outcome", "perception"})
ARGUED = frozenset[Credits]({"outcome", "perception", "reasoning"})
OUTCOME = frozenset[Credits]({"outcome"})
NOBODY = frozenset[Credits]()
HALF = 5_000_000  # characters in each of two spans: 10 MB in all


@dataclass(frozen=True)
class Probe:
    """One kind of response.

    `wrong_for`: it cannot be right, so that a reward which credits one of these must not score it high. `heavy`: it is
    huge or made to take long. `tagged`: it is wrong only for a reward that reads tags.
    """

    name: str
    build: Build
    wrong_for: frozenset[Credits] = NOBODY
    heavy: bool = False
    tagged: bool = False


def _in_tags(name: str, text: str, wrong_for: frozenset[Credits] = NOBODY, heavy: bool = False) -> Probe:
    return Probe(name, lambda row: stating(text), wrong_for, heavy)


def _bare(name: str, text: str, wrong_for: frozenset[Credits] = NOBODY, heavy: bool = False) -> Probe:
    return Probe(name, lambda row: text, wrong_for, heavy)


def _many(name: str, text: str, characters: int = HALF) -> Probe:
    """`text` over and over, put together only when it is needed."""
    return Probe(name, lambda row: stating(text * (characters // len(text))), STATED, heavy=True)


def _boxes(name: str, box: str) -> list[Probe]:
    """Text that is to pass for a box, in the forms boxes are written in."""
    forms = {"": box, ", in a list": f"[{box}]", ", in an object": f'[{{"bbox_2d": {box}, "label": "object"}}]'}
    return [_in_tags(f"{name}{form}", text, STATED) for form, text in forms.items()]


NOTHING_SAID = [
    _bare("nothing at all", "", ARGUED),
    _bare("nothing but space", " \n\t\u00a0\u2003" * 20, ARGUED),
    _in_tags("tags with nothing in them", "", ARGUED),
    _in_tags("tags with a space in them", " ", ARGUED),
    _in_tags("an empty list", "[]", STATED),
    _in_tags("an empty object", "{}", STATED),
    _in_tags("a full stop", ".", ARGUED),
    _in_tags("an ellipsis", "...", ARGUED),
    _in_tags("a refusal", "I cannot know, because I do not see the image.", ARGUED),
    _bare("a refusal without tags", "I'm sorry, but I cannot see the image.", ARGUED),
    Probe("the prompt again", e.prompt_again, STATED),
]

IN_THE_WRONG_PLACE = [
    Probe("what is right, only in the reasoning", e.only_thought, STATED),
    Probe("what is right, outside all tags", e.outside, STATED, tagged=True),
    Probe("what is right before and after the tags", e.beside, STATED),
    Probe("the right answer in every tag but its own", e.no_answer_tag, OUTCOME),
]

TOO_MUCH_SAID = [
    Probe("every choice listed", e.every_choice, STATED),
    Probe("all answers of the data listed", e.every_answer, STATED),
    Probe("what is right among much else", e.among_wrong, STATED),
    Probe("what is right a hundred times", e.a_hundred_times, STATED),
    Probe("two answers, the first one right", partial(e.two_answers, right_first=True), STATED),
    Probe("two answers, the last one right", partial(e.two_answers, right_first=False), STATED),
    Probe("the right items among a hundred others", e.items_among_others, STATED),
    Probe("the right items a hundred times", e.items_a_hundred_times),
    Probe("a right box a hundred times", e.a_box_a_hundred_times, STATED),
    _in_tags("all integers from 0 to 1000", " ".join(map(str, range(1001))), STATED),
    _in_tags("all integers from 0 to 1000, as a list", str([*range(1001)]), STATED),
]

BOXES = [
    Probe("the whole image as the box", partial(e.whole_image, form="[0, 0, W, H]"), STATED),
    Probe("the whole image as the box, in a list", partial(e.whole_image, form="[[0, 0, W, H]]"), STATED),
    Probe("the whole image as the box, in an object", partial(e.whole_image, form='[{"bbox_2d": [0, 0, W, H]}]'), STATED),
    Probe("the whole image as the mask", partial(e.whole_image, form="[[0, 0, W, 0, W, H, 0, H]]"), STATED),
    Probe("the right boxes, corners swapped", lambda row: e.each_box(row, lambda b: [*b[2:], *b[:2]]), STATED),
    Probe("the right boxes, without an area", lambda row: e.each_box(row, lambda b: [*b[:2], *b[:2]]), STATED),
    *_boxes("a box of NaN", "[NaN, NaN, NaN, NaN]"),
    *_boxes("a box that is infinite", "[-Infinity, -Infinity, Infinity, Infinity]"),
    *_boxes("a box beyond all floats", "[-1e999, -1e999, 1e999, 1e999]"),
    *_boxes("a box as large as floats go", "[-1e308, -1e308, 1e308, 1e308]"),
    _in_tags("a box of words", '["1", "2", "3", "four"]', STATED),
    _in_tags("a box of three numbers", "[1, 2, 3]"),
    _in_tags("a box that is null", '[{"bbox_2d": null}]', STATED),
]

NUMBERS = [
    *(_in_tags(f"the number {text}", text, STATED) for text in ("NaN", "Infinity", "-inf", "1e999", "-1e999", "1e308", "1/0")),
    *(_in_tags(f"the number {text}", text) for text in ("-0", "1e-999", "0x2A", "1_000", "²", "Ⅻ", "½", "--5", "1,2,3")),
    _in_tags("a number of 5,000 digits", "9" * 5000, STATED),
    _in_tags("a list of a number of 5,000 digits", f"[{'9' * 5000}]", STATED),
    # They are the right digits, so that reading them is no fault; failing at them is.
    Probe("what is right in full-width digits", partial(e.other_digits, zero="０")),
    Probe("what is right in Arabic-Indic digits", partial(e.other_digits, zero="٠")),
]

CODE = [
    Probe("Python code for the right number", e.python_code, STATED),
    _in_tags("Python code that sleeps", "__import__('time').sleep(600)", STATED, heavy=True),
    _in_tags("9**9**9**9", "9**9**9**9", STATED, heavy=True),
    _in_tags("$9^{9^{9^9}}$", "$9^{9^{9^9}}$", STATED, heavy=True),
    _in_tags("10!!!!!", "$10!!!!!$", STATED, heavy=True),
    _in_tags(
        "the expression of Math-Verify#65",
        r"\boxed{\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}}",
        STATED,
        heavy=True,
    ),
    _in_tags("2,000 fractions in fractions", r"\frac{1}{" * 2000 + "2" + "}" * 2000, STATED, heavy=True),
    _in_tags("10,000 parentheses", "(" * 10_000 + "1" + ")" * 10_000, STATED, heavy=True),
]

STRUCTURE = [
    _bare("a tag in itself", "<answer><answer>?</answer></answer><perception><perception>?</perception></perception>", STATED),
    _bare("tags that never close", "<perception>?<think>?<answer>?", STATED),
    _bare("tags that close first", "</answer>?<answer></perception>?<perception>", STATED),
    _bare("a thousand answers", "<perception>?</perception><answer>?</answer>" * 1000, STATED),
    *(_in_tags(f"the JSON {text}", text) for text in ("null", "true", "0", '""', "[null]", "[[]]", "[{}]", '[1, "a", [2]]')),
    *(_in_tags(f"the JSON {text}", text) for text in ("[[1, 2], [3]]", '[{"a": 1}, 2]', "[[[[1]]]]", '{"a": {"a": [{}]}}')),
    *(_in_tags(f"the JSON {text}", text) for text in ('{"a": 1, "a": 2}', '{"label": 5, "bbox_2d": [1, 2, 3, 4]}', "[1, 2")),
    _in_tags("lists 10,000 deep", "[" * 10_000 + "]" * 10_000, STATED, heavy=True),
    _in_tags("objects 10,000 deep", '{"a":' * 10_000 + "1" + "}" * 10_000, STATED, heavy=True),
    _in_tags("null bytes", "\x00\x00\x00", STATED),
    _in_tags("lone surrogates", "\ud800\udfff\udc80", STATED),
    _in_tags("marks that cannot be seen", "\u200b\u202e\ufeff", STATED),
    _in_tags("a format string", "%s%n {0} {__class__}", STATED),
]

HUGE = [
    _many("10 MB of words", "so it goes on "),
    _many("10 MB of one letter", "a"),
    _many("10 MB of digits", "7"),
    _many("10 MB of numbers", "1, 2, 3, "),
    _many("10 MB of space", " "),
    _many("10 MB of lines", "\n"),
    _many("10 MB of brackets", "["),
    Probe("10 MB of tags", lambda row: "<answer>" * (HALF // 4), STATED, heavy=True),
    # Regular expressions that go back over what they have read take time that grows as a power of these, or doubles.
    _many("a regex bomb: one letter", "a", 50_000),
    _many("a regex bomb: digits and commas", "1,", 50_000),
    _many("a regex bomb: digits and points", "0.", 50_000),
    _many("a regex bomb: spaces", " x" + " " * 5_000, 50_000),
    _many("a regex bomb: words", "ab ", 50_000),
    _many("a regex bomb: openings", "(", 50_000),
    _many("a regex bomb: braces", r"\boxed{", 50_000),
    _in_tags("a regex bomb: thirty letters and an end", "a" * 30 + "!", STATED, heavy=True),
    _in_tags("a regex bomb: thirty digits and an end", "1" * 30 + "x", STATED, heavy=True),
    _bare("a regex bomb: openings of tags", "<answer>" * 10_000, STATED, heavy=True),
    _in_tags("marks upon marks on one letter", "a" + "\u0301\u0316" * 25_000, STATED, heavy=True),
]

# Not adversarial: what the others are compared with.
RIGHT = Probe("a right response", e.honest)
PROBES = [RIGHT, *NOTHING_SAID, *IN_THE_WRONG_PLACE, *TOO_MUCH_SAID, *BOXES, *NUMBERS, *CODE, *STRUCTURE, *HUGE]
