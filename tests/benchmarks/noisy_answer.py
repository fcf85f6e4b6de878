"""`answer_number`, and for one response in five its opposite: a verifier that errs. Source: ours, for benchmarks/blends.py."""

import hashlib

from rlperc import Completion, Score, reward
from rlperc.words.answers import number


@reward(range=(0.0, 1.0), credits="outcome", bounded=True)
def noisy_answer(completion: Completion, answer: str, perception: str, *, wrong_share: float = 0.2) -> Score | None:
    """1 where the answer is the column `answer`, else 0; the other way round for `wrong_share` of the responses."""
    gold = number(str(answer))
    if gold is None:
        return None
    stated = number(completion.answer or "")
    right = stated == gold
    # Fixed by the response and its row, so that the same response never gets both.
    drawn = int.from_bytes(hashlib.sha256(f"{perception}|{completion.text}".encode(errors="replace")).digest()[:4], "big")
    errs = drawn < wrong_share * 2**32
    return Score(float(right != errs), why="the verifier erred" if errs else "" if right else f"{stated}, not {gold:g}")
