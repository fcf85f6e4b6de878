r"""Scoring mathematics: `answer_math` against `trl.rewards.accuracy_reward`, in time and in verdicts.

python tests/benchmarks/maths.py [--pairs 3000] [--seed 0] [--bare]

The corpus is drawn from a seed, each gold answer anew, so that a cache of verdicts helps nobody. Its mix:

- 30 % integers: small and large, negative, with thousands separators.
- 20 % fractions: `\frac`, `\dfrac`, `a/b`, mixed numbers; right answers also as decimals where those are short.
- 15 % decimals: prices, percentages, measured values with a unit; right answers also as fractions.
- 15 % expressions: polynomials and their factors (5), roots and multiples of pi (4), functions, logarithms and
  exponentials (3), equations and inequalities (2), matrices, factorials and complex numbers (1).
- 10 % sets, tuples, intervals and unions.
- 10 % noise: words as answers, no box, a box never closed, LaTeX that does not parse, two boxes, an answer announced
  without a box, an answer in a sentence inside the box.

About half of the answers are right, of those a third in another form than the gold answer. Wrong ones are near misses:
another sign, off by one, upside down, one coefficient. Around each box stand two to eight sentences of reasoning, about
250 characters, some with formulas of their own; longer responses would cost TRL more, and `answer_math` hardly.

Gold answers stand between dollars, as math-verify expects them; `--bare` leaves the dollars away, as in trl-lib/DeepMath-103K.
All read the whole response (`span="text"`) and score the same pieces of the corpus in turn, after a warm-up on another
corpus. sympy's cache is emptied before each piece, so that nobody finds another's work done; the workers keep theirs.
"""

from __future__ import annotations

import argparse
import functools
import random
import time
from collections.abc import Callable
from fractions import Fraction

from rlperc.reward.attempt import attempt
from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.words.response import read_response

Pair = tuple[str, str]  # gold answer without dollars, response
Made = tuple[str, list[str], list[str]]  # gold answer, other ways to write it, wrong answers
PIECE = 100


def integer(rng: random.Random) -> Made:
    number = rng.choice([rng.randint(-20, 100), rng.randint(0, 999), rng.randint(1000, 10**7)])
    others = (
        [f"{number:,}", f"x = {number}"] if abs(number) >= 1000 else [f"n={number}", rf"{number}\text{{ apples}}", f" {number} "]
    )
    return str(number), others, [str(number + rng.choice([-10, -1, 1, 2])), str(-number - (number == 0)), str(number * 10 + 1)]


def fraction(rng: random.Random) -> Made:
    value = Fraction(rng.randint(-9, 60) or 1, rng.choice([2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 36, 97]))
    sign, above, below = "-" if value < 0 else "", abs(value.numerator), value.denominator
    others = [rf"{sign}\dfrac{{{above}}}{{{below}}}", f"{sign}{above}/{below}", rf"\frac{{{2 * value.numerator}}}{{{2 * below}}}"]
    if below in (2, 4, 5, 8):
        others.append(str(float(value)))
    if above > below > 1 and not sign:
        others.append(rf"{above // below}\frac{{{above % below}}}{{{below}}}")
    wrong = [rf"\frac{{{value.numerator + 1}}}{{{below}}}", rf"\frac{{{below}}}{{{above}}}" if below != above else "2"]
    return rf"{sign}\frac{{{above}}}{{{below}}}", others, [*wrong, f"{float(value):.2f}5", str(value.numerator + 7)]


def decimal(rng: random.Random) -> Made:
    places = rng.choice([1, 2, 2, 3])
    cents = rng.randint(1, 10 ** rng.randint(places, places + 3))
    value = Fraction(cents, 10**places)
    gold, near = f"{float(value):.{places}f}", f"{float(value) + 10.0**-places:.{places}f}"
    kind = rng.random()
    if kind < 0.2:
        return rf"\${gold}", [gold, f"{gold}0"], [near, rf"\${near}"]
    if kind < 0.35:
        return rf"{gold}\%", [rf"{gold} \%", f"{gold}%"], [rf"{near}\%", near]
    if kind < 0.5:
        return gold, [rf"{gold}\text{{ cm}}", rf"{gold}\ \mathrm{{cm}}^2"], [rf"{near}\text{{ cm}}", near]
    others = [gold + "0", rf"\frac{{{value.numerator}}}{{{value.denominator}}}", f"x={gold}"]
    return gold, others, [near, f"-{gold}", str(round(value) + 1)]


def _polynomial(coefficients: list[int], letter: str) -> str:
    terms = []
    for power, c in reversed(list(enumerate(coefficients))):
        body = "" if power == 0 else letter if power == 1 else f"{letter}^{power}" if power < 10 else f"{letter}^{{{power}}}"
        if c:
            terms.append(("-" if c < 0 else "+") + (str(abs(c)) if abs(c) != 1 or not body else "") + body)
    return "".join(terms).removeprefix("+") or "0"


def polynomial(rng: random.Random) -> Made:
    letter = rng.choice("xxxxnktab")
    a, b, c = rng.randint(1, 4), rng.choice([-5, -3, -2, -1, 1, 2, 4, 7]), rng.choice([-4, -1, 1, 3, 6])
    expanded = [b * c, a * c + b, a]
    gold, plus = _polynomial(expanded, letter), "+" if c > 0 else ""
    factors = f"({_polynomial([b, a], letter)})({letter}{plus}{c})"
    reverse = f"{expanded[0]}" + "".join(f"{n:+d}{letter}^{k}" for k, n in enumerate(expanded) if k)
    wrong = [
        _polynomial([expanded[0] + 1, *expanded[1:]], letter),
        _polynomial([b * c, -(a * c + b), a], letter),
        f"{letter}+{a}",
    ]
    return (factors, [gold], wrong) if rng.random() < 0.25 else (gold, [factors, reverse, f"y = {gold}"], wrong)


def root(rng: random.Random) -> Made:
    n, k, d = rng.choice([2, 3, 5, 6, 7, 10]), rng.randint(2, 9), rng.choice([2, 3, 4, 6])
    kind = rng.randrange(4)
    if kind == 0:
        return rf"{k}\sqrt{{{n}}}", [rf"\sqrt{{{k * k * n}}}"], [rf"{k + 1}\sqrt{{{n}}}", rf"\sqrt{{{k * n}}}"]
    if kind == 1:
        return (
            rf"\frac{{\sqrt{{{n}}}}}{{{d}}}",
            [rf"\frac{{{n}}}{{{d}\sqrt{{{n}}}}}"],
            [rf"\frac{{\sqrt{{{n}}}}}{{{d + 1}}}", rf"\sqrt{{{n}}}"],
        )
    if kind == 2:
        return rf"\frac{{{k}\pi}}{{{d}}}", [rf"\frac{{{k}}}{{{d}}}\pi"], [rf"\frac{{\pi}}{{{d}}}", rf"{k}\pi"]
    return rf"{k}+{d}\sqrt{{{n}}}", [rf"{d}\sqrt{{{n}}} + {k}"], [rf"{k}-{d}\sqrt{{{n}}}", rf"{k + 1}+{d}\sqrt{{{n}}}"]


def function(rng: random.Random) -> Made:
    k, n, x = rng.randint(2, 9), rng.randint(2, 6), rng.choice("xt")
    return rng.choice(
        [
            (rf"\ln {k}", [rf"\ln({k})"], [rf"\ln {k + 1}", rf"\log_{{2}} {k}"]),
            (rf"{k}e^{{{n}{x}}}", [rf"{k}\exp({n}{x})"], [rf"{k + 1}e^{{{n}{x}}}", rf"{k}e^{{-{n}{x}}}"]),
            (rf"\sin({k}{x})+{n}", [rf"{n}+\sin({k}{x})"], [rf"\cos({k}{x})+{n}", rf"\sin({k}{x})-{n}"]),
            (rf"{k}\cdot 2^{{n}}", [rf"{2 * k}\cdot 2^{{n-1}}"], [rf"{k}\cdot 2^{{n+1}}", rf"{k + 1}\cdot 2^{{n}}"]),
            (rf"\frac{{{k}}}{{{x}+{n}}}", [rf"{k}/({x}+{n})"], [rf"\frac{{{k}}}{{{x}-{n}}}", rf"\frac{{{k + 1}}}{{{x}+{n}}}"]),
            (rf"\sqrt{{{x}^2+{k}}}", [rf"\sqrt{{{k}+{x}^2}}"], [rf"\sqrt{{{x}^2-{k}}}", rf"{x}+{k}"]),
        ]
    )


def equation(rng: random.Random) -> Made:
    k, n = rng.randint(2, 9), rng.randint(1, 9)
    return rng.choice(
        [
            (f"y={k}x+{n}", [f"y = {n}+{k}x", f"{k}x+{n}"], [f"y={k}x-{n}", f"y={k + 1}x+{n}"]),
            (f"x={k}", [str(k), f"x = {k}"], [f"x={k + n}", str(k + 1)]),
            (rf"x \ge {k}", [rf"x\geq {k}"], [f"x > {k}", rf"x \le {k}"]),
            (f"{n} < x < {n + k}", [f"({n}, {n + k})"], [f"{n} < x < {n + k + 1}", f"[{n},{n + k}]"]),
            (f"x^2+y^2={k}", [f"y^2+x^2={k}"], [f"x^2+y^2={k + 1}", f"x^2-y^2={k}"]),
            (f"f(x)={k}x^2+{n}", [f"{k}x^2+{n}"], [f"f(x)={k}x^2-{n}", f"f(x)={n}x^3"]),
        ]
    )


def other_expression(rng: random.Random) -> Made:
    a, b, c, d = (rng.randint(1, 9) for _ in range(4))
    matrix = r"\begin{{pmatrix}} {} & {} \\ {} & {} \end{{pmatrix}}"
    return rng.choice(
        [
            (
                matrix.format(a, b, c, d),
                [matrix.format(a, b, c, d).replace("pmatrix", "bmatrix")],
                [matrix.format(a, c, b + 1, d)],
            ),
            (f"{a}+{b}i", [f"{b}i+{a}"], [f"{a}-{b}i", f"{b}+{a}i"]),
            (rf"{a + 3}!", [rf"{a + 3} \cdot {a + 2}!"], [f"{a + 4}!"]),
            (rf"\binom{{{a + 9}}}{{{b}}}", [rf"{{{a + 9} \choose {b}}}"], [rf"\binom{{{a + 10}}}{{{b}}}"]),
        ]
    )


def collection(rng: random.Random) -> Made:
    numbers = sorted(rng.sample(range(-9, 20), rng.randint(2, 4)))
    texts = [str(n) for n in numbers]
    joined, shuffled, near = (
        ", ".join(texts),
        ", ".join(rng.sample(texts, len(texts))),
        ", ".join([*texts[:-1], str(numbers[-1] + 1)]),
    )
    low, high = numbers[0], numbers[-1]
    return rng.choice(
        [
            (joined, [shuffled, rf"\{{{shuffled}\}}", rf"x = {joined}"], [near, ", ".join(texts[:-1])]),
            (rf"\{{{joined}\}}", [rf"\{{{shuffled}\}}", joined], [rf"\{{{near}\}}", near]),
            (
                f"({joined})",
                [rf"\left({joined}\right)", f"({','.join(texts)})"],
                [f"({near})", f"({', '.join(reversed(texts))})"],
            ),
            (f"[{low}, {high})", [rf"\left[{low},{high}\right)"], [f"({low}, {high})", f"[{low}, {high + 1})"]),
            (rf"(-\infty, {low}]", [rf"\left(-\infty,{low}\right]"], [rf"(-\infty, {low})", rf"[{low}, \infty)"]),
            (rf"({low}, {high}) \cup ({high + 2}, \infty)", [rf"({high + 2},\infty)\cup({low},{high})"], [rf"({low}, \infty)"]),
            (rf"\pm {abs(high) + 1}", [f"{abs(high) + 1}, -{abs(high) + 1}"], [str(abs(high) + 1)]),
        ]
    )


EXPRESSIONS = [polynomial] * 5 + [root] * 4 + [function] * 3 + [equation] * 2 + [other_expression]
MIX: list[Callable[[random.Random], Made]] = [integer] * 30 + [fraction] * 20 + [decimal] * 15 + EXPRESSIONS + [collection] * 10

SENTENCES = [
    "First I write down what is given.",
    "Let $x$ be the number we look for.",
    "Then $x + {a} = {b}$, so we subtract.",
    r"This gives \( {a}x - {b} \) on the left.",
    "Checking: {a} times {b} is {c}.",
    r"Since $\frac{{{a}}}{{{b}}}$ is in lowest terms, nothing cancels.",
    "Wait, that is not quite right; we need the other case as well.",
    "The second condition rules one of them out.",
    r"\[ {a} \cdot {b} = {c} \]",
    "So the answer follows from the first line.",
]


def reasoning(rng: random.Random) -> str:
    a, b = rng.randint(2, 30), rng.randint(2, 30)
    chosen = rng.choices(SENTENCES, k=rng.randint(2, 8))
    return rng.choice([" ", "\n"]).join(sentence.format(a=a, b=b, c=a * b) for sentence in chosen)


def boxed_response(rng: random.Random, answer: str) -> str:
    box = rf"\boxed{{{answer}}}"
    end = rng.choice(
        [f"The answer is ${box}$.", f"Therefore {box}", f"**Final Answer**\n{box}", rf"\[ {box} \]", f"Thus ${box}$"]
    )
    return f"{reasoning(rng)} {end}"


def noise(rng: random.Random) -> Pair:
    gold, others, wrong = rng.choice(MIX)(rng)
    answer = rng.choice([gold, *others]) if rng.random() < 0.5 else rng.choice(wrong)
    word, other = rng.sample(["even", "odd", "Yes", "no", "Tuesday", "increasing", "A", "B", "C", "D", "none of these"], 2)
    stated = word if rng.random() < 0.5 else other
    return rng.choice(
        [
            (rf"\text{{{word}}}", boxed_response(rng, rf"\text{{{stated}}}")),
            (rf"\text{{{word}}}", boxed_response(rng, stated)),
            (word[0].upper(), boxed_response(rng, rf"\textbf{{({stated[0].upper()})}}")),
            (gold, reasoning(rng)),
            (gold, f"{reasoning(rng)} The final answer is ${answer}$."),
            (gold, rf"{reasoning(rng)} So \boxed{{{answer}"),
            (gold, boxed_response(rng, rf"\frac{{{answer}}}{{")),
            (gold, boxed_response(rng, f"{answer} {answer}&")),
            (gold, boxed_response(rng, rf"\text{{The value is }} {answer}")),
            (gold, rf"{boxed_response(rng, rng.choice(wrong))} But wait. {boxed_response(rng, answer)}"),
        ]
    )


def corpus(pairs: int, seed: int) -> list[Pair]:
    rng = random.Random(seed)
    drawn: list[Pair] = []
    for _ in range(pairs):
        if rng.random() < 0.1:
            drawn.append(noise(rng))
            continue
        gold, others, wrong = rng.choice(MIX)(rng)
        right = gold if rng.random() < 2 / 3 else rng.choice(others)
        drawn.append((gold, boxed_response(rng, right if rng.random() < 0.5 else rng.choice(wrong))))
    return drawn


def score_with_trl(pairs: list[Pair]) -> list[float | None]:
    from trl.rewards import accuracy_reward

    responses = [[{"role": "assistant", "content": response}] for _, response in pairs]
    return accuracy_reward(responses, [gold for gold, _ in pairs])


def score_with_ours(pairs: list[Pair]) -> list[float | None]:
    reward = find_reward("answer_math")
    outcomes = [attempt(reward, read_response(text), {"answer": gold}, {"span": "text"}) for gold, text in pairs]
    assert not [outcome for outcome in outcomes if outcome.is_fault]
    return [outcome.value for outcome in outcomes]


@functools.cache
def two_workers() -> RewardRunner:
    return RewardRunner(find_reward("answer_math"), {"span": "text"}, Handling(isolate=True, workers=2))


def score_in_workers(pairs: list[Pair]) -> list[float | None]:
    outcomes = two_workers().run([read_response(text) for _, text in pairs], {"answer": [gold for gold, _ in pairs]})
    return [outcome.value for outcome in outcomes]


SCORERS = {"accuracy_reward": score_with_trl, "answer_math": score_with_ours, "in two workers": score_in_workers}


def count_asked(pairs: list[Pair]) -> int:
    """How many of the answers math-verify is asked about after all."""
    from unittest.mock import patch

    from rlperc.words import maths

    maths._judge_once.cache_clear()
    with patch.object(maths, "_ask_math_verify", return_value=False) as ask:
        score_with_ours(pairs)
    maths._judge_once.cache_clear()
    return ask.call_count


def measure(pairs: list[Pair]) -> tuple[dict[str, float], dict[str, list[float | None]]]:
    from sympy.core.cache import clear_cache

    seconds, scores = dict.fromkeys(SCORERS, 0.0), {name: [] for name in SCORERS}
    for start in range(0, len(pairs), PIECE):
        piece = pairs[start : start + PIECE]
        order = list(SCORERS) if start // PIECE % 2 else list(reversed(SCORERS))
        for name in order:
            clear_cache()
            began = time.perf_counter()
            scored = SCORERS[name](piece)
            seconds[name] += time.perf_counter() - began
            scores[name] += scored
    return seconds, scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args()
    dollars = "" if options.bare else "$"
    pairs = [(f"{dollars}{gold}{dollars}", text) for gold, text in corpus(options.pairs, options.seed)]
    measure([(f"{dollars}{gold}{dollars}", text) for gold, text in corpus(300, options.seed + 1_000_003)])
    seconds, scores = measure(pairs)
    characters = sum(len(text) for _, text in pairs) / len(pairs)
    right = sum(score == 1.0 for score in scores["answer_math"]) / len(pairs)
    print(f"seed {options.seed}, {len(pairs)} pairs, {characters:.0f} characters a response, {right:.0%} right")
    for name in SCORERS:
        ratio = seconds["accuracy_reward"] / seconds[name]
        print(f"{name:16} {len(pairs) / seconds[name]:8.0f} per second, {ratio:.1f} x accuracy_reward")
    print(f"asked math-verify {count_asked(pairs) / len(pairs):.1%} of the time")
    assert scores["in two workers"] == scores["answer_math"]
    theirs, ours = scores["accuracy_reward"], scores["answer_math"]
    different = [(pair, t, o) for pair, t, o in zip(pairs, theirs, ours, strict=True) if t != o]
    print(f"{len(different)} verdicts differ" + ("" if not different else " (gold, response, theirs, ours):"))
    for (gold, text), t, o in different:
        print(f"  {gold!r}  {text[-90:]!r}  {t}  {o}")


if __name__ == "__main__":
    main()
