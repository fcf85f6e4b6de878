"""Text read from an image, by its edit distance from the gold text.

Source: 1 minus the character or word error rate, which is the Levenshtein distance over the length of the gold text; the
threshold below which a text counts as another one is that of ANLS (arXiv 1905.13648, there 0.5).
"""

from typing import Literal

from rlperc import Completion, Score, reward
from rlperc.words.response import Where, stated_text
from rlperc.words.text import normalise

MAX_CHARACTERS = 10_000


@reward(range=(0.0, 1.0), credits="perception", bounded=True, imports=("rapidfuzz",))
def text_edit(
    completion: Completion,
    answer: str | None = None,
    perception: str | None = None,
    *,
    span: Where = "answer",
    unit: Literal["character", "word"] = "character",
    fold_case: bool = False,
    drop_punctuation: bool = False,
    min_similarity: float = 0.0,
) -> Score | None:
    """max(0, 1 - edits / length of gold), edits being insertions, deletions and substitutions of `unit`s.

    The text is read in the span that `span` names, and gold in the column of the same name. Both are normalised first:
    Unicode NFKC and each run of whitespace as one space, and where asked without upper case (`fold_case`) or punctuation
    (`drop_punctuation`). A score below `min_similarity` is 0. Of more than 10,000 characters a stated text scores 0, and a
    row is skipped. `unit: word` is for scripts with spaces between words.
    """
    from rapidfuzz.distance import Levenshtein

    text = stated_text(completion, span)
    truth = perception if span == "perception" else answer
    if truth is None or len(truth) > MAX_CHARACTERS:
        return None
    gold = _split(normalise(truth, fold_case=fold_case, drop_punctuation=drop_punctuation), unit)
    if not gold:
        return None
    if text is None:
        return Score(0.0, why=f"no {span}")
    if len(text) > MAX_CHARACTERS:
        return Score(0.0, why=f"longer than {MAX_CHARACTERS} characters")
    stated = _split(normalise(text, fold_case=fold_case, drop_punctuation=drop_punctuation), unit)
    if len(stated) >= 2 * len(gold):
        return Score(0.0, why="at least twice as long as the gold text")
    edits = Levenshtein.distance(stated, gold)
    similarity = max(0.0, 1.0 - edits / len(gold))
    value = similarity if similarity >= min_similarity else 0.0
    return Score(value, why=f"{unit} error rate {edits / len(gold):.2f}" if edits else "")


def _split(text: str, unit: str) -> str | list[str]:
    return text.split() if unit == "word" else text
