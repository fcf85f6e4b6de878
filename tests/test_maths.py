"""Answers to mathematics: reading, exact comparing, and the whole against math-verify."""

import itertools
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlperc.words import exact, maths
from rlperc.words.forms import read_answer
from rlperc.words.latex import NotReadError
from rlperc.words.magnitude import too_costly
from rlperc.words.maths import Stated, find_stated, judge_span, judge_text
from rlperc.words.sameness import same_answer

FRACTIONS = st.fractions(min_value=-100, max_value=100, max_denominator=60)
LEAVES = st.sampled_from("xyk").map(exact.indeterminate) | FRACTIONS.map(exact.rational) | st.just(exact.indeterminate(exact.PI))
VALUES = st.recursive(
    LEAVES | st.integers(0, 50).map(exact.rational).map(exact.square_root),
    lambda inner: st.tuples(st.sampled_from([exact.add, exact.multiply]), inner, inner).map(lambda t: t[0](t[1], t[2])),
    max_leaves=5,
)


def verdict(gold: str, stated: str) -> bool | None:
    return same_answer(read_answer(gold, repair=True), read_answer(stated))


@given(VALUES, VALUES)
def test_exact_values_form_a_field(left: exact.Exact, right: exact.Exact) -> None:
    minus = exact.negate(right)
    assert exact.same(exact.add(exact.add(left, right), minus), left)
    assert exact.same(exact.multiply(left, right), exact.multiply(right, left))
    square = exact.multiply(exact.add(left, right), exact.add(left, minus))
    assert exact.same(square, exact.add(exact.power(left, 2), exact.negate(exact.power(right, 2))))
    if right.top:
        assert exact.same(exact.divide(exact.multiply(left, right), right), left)


@given(FRACTIONS.filter(lambda f: f >= 0))
def test_a_root_squared_is_the_number(number: Fraction) -> None:
    root = exact.square_root(exact.rational(number))
    assert exact.same(exact.power(root, 2), exact.rational(number))
    assert exact.estimate(root) == pytest.approx(float(number) ** 0.5)


@given(VALUES, VALUES)
def test_equal_values_have_equal_estimates(left: exact.Exact, right: exact.Exact) -> None:
    product, other = exact.multiply(left, exact.add(right, left)), exact.multiply(exact.add(left, right), left)
    try:
        assert exact.estimate(product) == pytest.approx(exact.estimate(other))
    except exact.NotExactError:
        assert exact.same(product, other)


@given(FRACTIONS)
def test_a_fraction_is_the_same_however_it_is_written(number: Fraction) -> None:
    sign, above, below = "-" if number < 0 else "", abs(number.numerator), number.denominator
    forms = [rf"{sign}\frac{{{above}}}{{{below}}}", f"{sign}{above}/{below}", rf"\dfrac{{{3 * number.numerator}}}{{{3 * below}}}"]
    if above > below and above % below:
        forms.append(rf"{sign}{above // below}\frac{{{above % below}}}{{{below}}}")
    for left, right in itertools.product(forms, repeat=2):
        assert verdict(left, right) is True
        assert verdict(left, f"{right}+1") is False


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=4), st.integers(-9, 9))
def test_a_polynomial_is_the_same_in_any_order_and_factored(coefficients: list[int], root: int) -> None:
    terms = [rf"({c})\cdot x^{{{power}}}" for power, c in enumerate(coefficients)]
    written = "+".join(terms)
    assert verdict(written, "+".join(reversed(terms))) is True
    times_root = (rf"({c})\cdot x^{{{power + 1}}}-({root})\cdot({c})\cdot x^{{{power}}}" for power, c in enumerate(coefficients))
    assert verdict(f"({written})(x-({root}))", "+".join(times_root)) is True
    assert verdict(written, f"{written}+1") is False


MIXED = [
    *("5", "+5", "5.0", "5\\%", "0.05", "1,234", "1234.0", "\\$5", "5^\\circ", "5\\text{ cm}", "x=5", "y = 5", "\\{5\\}"),
    *("\\frac{1}{3}", "0.333333", "0.33333", "1/3", "2\\frac{1}{3}", "\\frac{7}{3}", "-\\frac{1}{3}", "\\frac{\\pi}{3}"),
    *("\\sqrt{12}", "2\\sqrt{3}", "3.464102", "\\frac{6}{\\sqrt{3}}", "3\\pi", "9.424778", "2^{-1}", "0.5", "e^{2x}"),
    *(
        "x^2-1",
        "(x-1)(x+1)",
        "x^2+1",
        "X",
        "x",
        "1x",
        "\\frac{x^2-1}{x+1}",
        "x-1",
        "1/2x",
        "\\frac{x}{2}",
        "\\sin x",
        "\\sin(x)+1",
    ),
    *("1,2", "2, 1", "(1,2)", "(2,1)", "[1,2]", "[1,2)", "\\{1,2\\}", "(1,2,3)", "3,1,2", "\\pm 1", "x=1,x=2", "x=1,2"),
    *(
        "(-\\infty,1]",
        "(-\\infty,1)",
        "(1,2)\\cup(3,4)",
        "(3,4) \\cup (1,2)",
        "\\infty",
        "y=2x+1",
        "y=2x+3",
        "f(x)=2x+1",
        "x^2+y^2=1",
    ),
    *(
        "\\text{Even}",
        "\\text{even}",
        "\\mathrm{odd}",
        "A",
        "\\text{(A)}",
        "x^2+y^2=2",
        "\\ln 2",
        "0.693147",
        "\\text{no solution}",
    ),
]


def test_what_is_decided_is_what_math_verify_says() -> None:
    math_verify = pytest.importorskip("math_verify")
    golds = {text: math_verify.parse(f"${text}$", parsing_timeout=None) for text in MIXED}
    extraction = maths._extraction(True)
    stated = {t: math_verify.parse(f"\\boxed{{{t}}}", extraction, parsing_timeout=None) for t in MIXED}
    decided = 0
    for index, (gold, text) in enumerate(itertools.product(MIXED, repeat=2)):
        ours = verdict(gold, text)
        if ours is None or (not ours and index % 8):  # most pairs differ; a part of them is enough
            continue
        decided += 1
        assert math_verify.verify(golds[gold], stated[text], timeout_seconds=None) == ours, (gold, text)
    assert decided > 500


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "5.",
            "2 3",
            "2(3)",
            "x(2)",
            "5 m",
            "3t",
            "x_1",
            "3!",
            "|x|",
            "i",
            "\\frac12",
            "\\sqrt2",
            "x^2^3",
            "1e5",
            "5,",
            "(5",
        ),
        *(
            "5\\\\",
            "\\frac{1}{0}",
            "0^0",
            "odd",
            "\\text{5 or 6}",
            "\\{1,1\\}",
            "[2,1]",
            "1 < x",
            "\\sin x / 2",
            "٣",
            "\x00",
            "5&",
        ),
        *("(" * 100, "7" * 100, "x" * 1000, "(x+y+z)^9", "2^{9999}", "\\sqrt{99999999999}"),
    ],
)
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(NotReadError):
        read_answer(text)


PIECES = [
    "\\frac",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "^",
    "2",
    "3.5",
    "x",
    "+",
    "-",
    ",",
    "=",
    "\\sqrt",
    "\\pi",
    "\\cup",
    "\\infty",
    "\\pm",
    "e",
]


@given(
    st.lists(st.sampled_from([*PIECES, "\\text{a b}", "\\{", "\\}", "\\sin", "\\log_", " ", "%", "/"]), max_size=14).map("".join)
)
@settings(max_examples=500)
def test_an_answer_is_the_same_as_itself_or_refused(text: str) -> None:
    try:
        read = read_answer(text)
    except NotReadError:
        return
    assert same_answer(read, read) is not False


@given(
    st.text() | st.lists(st.sampled_from([*PIECES, "\\boxed{", "$", "\\[", "\\]", "answer is ", "\n"]), max_size=14).map("".join)
)
def test_finding_an_answer_never_raises_and_what_is_found_stands_in_the_text(text: str) -> None:
    stated = find_stated(text)
    assert stated is None or stated.text in text


def box(text: str) -> Stated:
    return Stated(text, alone=True)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("So \\boxed{5}.", box("5")),
        ("So $\\boxed{\\frac{1}{2}}$", box("\\frac{1}{2}")),
        ("\\boxed{ \\{1, 2\\} }", box("\\{1, 2\\}")),
        ("\\boxed{(-\\infty, 5] \\cup [6, 7)}", box("(-\\infty, 5] \\cup [6, 7)")),
        ("costs \\boxed{\\$5}", box("\\$5")),
        ("\\boxed{1} is wrong, because " + "we left out a case, " * 5 + "so \\boxed{2}", box("2")),
        ("The final answer is $x^2$.", box("x^2")),
        ("nothing here", None),
        ("\\boxed{5", None),
        ("\\boxed{\\frac{5}{6} and on", None),
        ("the answer is 5", None),
        ("\\boxed{1}, \\boxed{2}", Stated("\\boxed{1}, \\boxed{2}", alone=False)),
        ("$\\boxed{50}$\\%", Stated("$\\boxed{50}$\\%", alone=False)),
        ("$$\\boxed{1} = x = y = \\boxed{2}$$", Stated("$$\\boxed{1} = x = y = \\boxed{2}$$", alone=False)),
        ("answer: \\(5\\)", Stated("answer: \\(5\\)", alone=False)),
    ],
)
def test_find_stated(text: str, stated: Stated | None) -> None:
    assert find_stated(text) == stated


@pytest.mark.parametrize(
    ("gold", "span", "right"),
    [
        ("$5$", "5", True),
        ("\\boxed{5}", "$5$", True),
        ("We add. So \\boxed{5}", "\\boxed{5}", True),
        ("\\sqrt{8}", "2\\sqrt{2}", True),  # TRL skips a gold answer like this
        ("2x+1", "2", False),  # TRL takes this gold answer for 2
        ("$\\frac12$", "\\frac12", True),  # math-verify does not read the answer; it is the gold answer, word for word
        ("5 apples and more", "5", True),
        ("1000000!", "1000000!", True),
        ("1000000!", "7", False),
        ("\\log_2 3", "\\frac{\\ln 3}{\\ln 2}", True),
    ],
)
def test_judge_span(gold: str, span: str, right: bool) -> None:
    pytest.importorskip("math_verify")
    judged = judge_span(gold, span)
    assert judged is not None
    assert judged.right == right
    assert bool(judged.why) != right


@pytest.mark.parametrize("gold", ["", " ", "$$", "\\boxed{}", "x" * 20_000 + "}"])
def test_a_gold_answer_that_is_none_judges_nothing(gold: str) -> None:
    assert judge_span(gold, "5") is None
    assert judge_text(gold, "\\boxed{5}") is None


@pytest.mark.parametrize(
    "text",
    [
        r"\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}",
        *(
            "9**9**9**9",
            "9^{9^{9^9}}",
            "10^{10^{10}}",
            "2^{99 \\cdot 99 \\cdot 99 \\cdot 99}",
            "((((10^9)^9)^9)^9)^9",
            "} 9^{9^{9}}",
        ),
        *("1000000!", "((9!)!)!", "\\binom{1000000}{500000}", "1E99999999", "e^{e^{e^{e^{9}}}}", "\\exp(\\exp(\\exp(\\exp(9))))"),
        *("(" * 50, "\\operatorname{eye}(100000)", "(x+1)^{9999999}", "1^" * 50),
    ],
)
def test_what_would_never_end_is_too_costly(text: str) -> None:
    assert too_costly(text)
    began = time.process_time()
    assert judge_span("7", text) == maths.Verdict(False, too_costly(text))
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize(
    "text",
    [
        *("2^{100}", "3^{2^{10}}", "x^{2020}", "(x+1)^{2020}", "10!", "100!", "e^{-\\frac{(x-\\mu)^2}{2\\sigma^2}}", "30^\\circ"),
        *("\\binom{20}{10}", "6.02 \\times 10^{23}", "2^{2^{5}}+1", "\\frac{1}{1+\\frac{1}{1+\\frac{1}{2}}}", "1,000,000,000"),
    ],
)
def test_what_mathematicians_write_is_not_too_costly(text: str) -> None:
    assert not too_costly(text)


def test_math_verify_keeps_its_hands_off_signals() -> None:
    """Its time limits use signal.alarm, which only the main thread may; the worker's limit is ours."""
    from concurrent.futures import ThreadPoolExecutor

    pytest.importorskip("math_verify")
    with ThreadPoolExecutor(1) as thread:
        judged = thread.submit(judge_span, "x \\ge 3", "3 \\le x").result()
    assert judged == maths.Verdict(True)
