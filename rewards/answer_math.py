r"""The stated answer is the gold answer, as mathematics: `\frac{1}{2}`, `0.5` and `1/2` are the same.

Source: math-verify (github.com/huggingface/Math-Verify), asked as `accuracy_reward` of TRL 1.16 asks it; exact-match outcome
reward as in DeepSeekMath (arXiv 2402.03300), section 4.
"""

from typing import Literal

from rlperc import Completion, Score, reward
from rlperc.words.maths import judge_span, judge_text


@reward(range=(0.0, 1.0), credits="outcome", imports=("math_verify", "sympy"))
def answer_math(completion: Completion, answer: str | None, *, span: Literal["answer", "text"] = "answer") -> Score | None:
    r"""1 where the response states the column `answer`, else 0.

    Args:
        completion: the response.
        answer: the gold answer, in LaTeX or as a plain number; `$…$` or `\boxed{…}` around it changes nothing.
        span: `answer` reads `<answer>` alone; `text` reads the whole response as TRL does, the last `\boxed{…}` first.
    """
    if answer is None:
        return None
    gold = str(answer)
    verdict = judge_text(gold, completion.text) if span == "text" else judge_span(gold, completion.answer or "")
    return verdict and Score(float(verdict.right), verdict.why)
