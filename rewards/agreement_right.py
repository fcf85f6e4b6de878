"""The share of the group's others with the right answer that state the same perception.

Source: ours. The vote of `agreement` (after TTRL, arXiv 2504.16084), in which only those vote that got the answer right, as
STaR (arXiv 2203.14465) keeps of a model's own rationales those that end in the right answer. A mistake that all share is
paid by `agreement`; here it is not, as long as it costs the answer.

It needs labels of answers and none of perceptions, and it does not know what is in the image. Who gets the answer right in
spite of a misreading votes too, so that a shared mistake is still paid where it seldom changes the answer, or where answers
are easily guessed. So is saying the same whatever the image shows, if the answers are right without it. In a group with
nobody right all earn 0, and in one with a single right completion that one earns 0 and those that saw the same earn 1.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from rlperc import Completion, Score, reward
from rlperc.words.answers import exact_number
from rlperc.words.stated import Statement, as_json, as_text, read_perception
from rlperc.words.structure import MAX_CHARACTERS
from rlperc.worlds import in_order

# An answer is the gold answer where one of these reads the same from both.
READINGS: tuple[Callable[[str], Hashable | None], ...] = (exact_number, as_json, as_text)


@reward(range=(0.0, 1.0), credits="perception", scope="group", bounded=True)
def agreement_right(completions: list[Completion], answer: str | None, task: str | None = None) -> list[Score] | None:
    """Others with the right answer that state the same, over all others with the right answer; 0 where there are none.

    Whether a completion's own answer is right does not matter to its score, only to those of the others. Perceptions are
    the same as in `agreement`: one that states nothing earns 0, and with a right answer it counts among the others.

    An answer is right where it and the column `answer` are the same number, the same JSON (spacing, the order of keys and
    1 for 1.0 aside) or the same text (case and spacing aside). Of a question with several right answers, such as the
    colouring of a graph, only the written one counts; so do units and LaTeX only as they are written.

    A row without a gold answer is skipped, and so is a group of one.

    Args:
        completions: the responses to one prompt.
        answer: the gold answer.
        task: a world's, which says whether what is stated may stand in any order.
    """
    gold = "" if answer is None else str(answer).strip()
    if not gold or len(completions) < 2:
        return None
    readings = [read(gold) for read in READINGS]
    right = [_is_gold(completion.answer, readings) for completion in completions]
    stated = [read_perception(completion.perception and in_order(task, completion.perception)) for completion in completions]
    votes = Counter(key for (key, _), voter in zip(stated, right, strict=True) if voter)
    voters = sum(right)
    # Nobody votes for itself.
    return [_score(key, fault, votes[key] - own, voters - own) for (key, fault), own in zip(stated, right, strict=True)]


def _is_gold(answer: str | None, readings: Sequence[Hashable | None]) -> bool:
    if not answer or len(answer) > MAX_CHARACTERS:
        return False
    return any(gold is not None and read(answer) == gold for read, gold in zip(READINGS, readings, strict=True))


def _score(key: Statement | None, fault: str, same: int, voters: int) -> Score:
    if key is None:
        return Score(0.0, why=fault)
    if not voters:
        return Score(0.0, why="no other has the right answer")
    return Score(same / voters, why="" if same == voters else f"{same} of {voters} right others agree")
