"""A response that does not repeat itself: the share of its n-grams that are different from each other.

Source: the repetition term r_ngram of Perception-R1 (arXiv 2506.07218), (1 - distinct 20-grams / all 20-grams) * -2, here as
distinct / all, from 0 to 1. There, a reward for stating visual facts had made the model repeat itself.
"""

from rlperc import Completion, Score, reward
from rlperc.errors import RecipeError
from rlperc.words.text import distinct_ngrams

HALF = 12_000  # characters that are read at each end of a longer text


@reward(range=(0.0, 1.0), credits="format", bounded=True)
def no_repetition(completion: Completion, *, ngram: int = 20) -> Score:
    """Different n-grams over all n-grams of the whole response, 1 where nothing repeats, `ngram` being their length in units.

    A unit is a word between spaces, whatever its case; in scripts without spaces between words (Han, kana, Thai, …) it is a
    character; a longer word and a run of whitespace are cut into units of 24 characters. A response of fewer units than
    `ngram` scores 1, an empty one 0. Of more than 24,000 characters the first and the last 12,000 are read.
    """
    if ngram < 1:
        raise RecipeError(f"ngram: {ngram}", "an n-gram has at least one unit", "ngram: 20")
    text = completion.text
    if len(text) > 2 * HALF:
        text = f"{text[:HALF]} {text[-HALF:]}"
    distinct, total = distinct_ngrams(text, ngram)
    if total == 0:
        return Score(1.0) if text.strip() else Score(0.0, why="nothing written")
    return Score(distinct / total, why="" if distinct == total else f"{total - distinct} of {total} {ngram}-grams repeat")
