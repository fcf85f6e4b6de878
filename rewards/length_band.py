"""A response of the length one asks for, in tokens, with a linear fall on both sides.

Source: the linear fall is that of the soft overlong punishment of DAPO (arXiv 2503.14476, section 3.4), here also below the
band, so that neither rambling nor a bare answer pays.
"""

from rlperc import Completion, Score, reward
from rlperc.errors import DataError, RecipeError


@reward(range=(0.0, 1.0), credits="format", bounded=True)
def length_band(completion: Completion, *, low: int, high: int, slack: int = 0) -> Score:
    """1 from `low` to `high` tokens, both included; outside max(0, 1 - distance / slack), and 0 with a slack of 0.

    Raises DataError where the length is not known; it always is in training.
    """
    if not 0 <= low <= high or slack < 0:
        raise RecipeError(
            f"low: {low}, high: {high}, slack: {slack}",
            "that is no band of lengths",
            "0 <= low <= high and slack >= 0, in tokens",
        )
    if completion.tokens is None:
        raise DataError(
            "the reward 'length_band'",
            "it scores the length of a completion in tokens, which is not known here",
            "a file of completions with a column `tokens`",
        )
    distance = max(low - completion.tokens, completion.tokens - high, 0)
    if distance == 0:
        return Score(1.0)
    side = "below" if completion.tokens < low else "above"
    value = max(0.0, 1.0 - distance / slack) if slack else 0.0
    return Score(value, why=f"{completion.tokens} tokens, {distance} {side} the band")
