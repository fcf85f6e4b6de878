"""The share of the group's other completions that state the same perception.

Source: agreement among samples as the reward, as in TTRL (arXiv 2504.16084) with its majority vote over answers, here
over perceptions and graded. It needs no labels, and it rewards a shared mistake just like a shared truth. In our study
with a biased teacher (a tiny model, digits with 6 stated as 8 and 7 as 1, one seed) outcome and majority agreement ended
7.3 points of accuracy below outcome alone after 20 steps and 11.7 after 40, and perception accuracy fell from .34 to .32;
agreement correlated .03 to .17 with perception. Use it only where errors differ from sample to sample, beside a reward
that knows the truth, or with weight 0 to watch a group collapse: saying the same whatever the image shows earns all.
"""

from collections import Counter

from rlperc import Completion, Score, reward
from rlperc.words.stated import read_perception
from rlperc.worlds import in_order


@reward(range=(0.0, 1.0), credits="perception", scope="group", bounded=True)
def agreement(completions: list[Completion], task: str | None = None) -> list[Score] | None:
    """Others that state the same, over all others; those without a perception count among the others.

    Perceptions are the same as JSON (spacing, the order of keys and 1 for 1.0 aside) or as text (case and spacing
    aside), edges and objects of a world's `task` in any order. One without a letter or digit states nothing and earns 0,
    `[]` too: silence would be the easiest to agree on.
    A group of one is skipped. That depends on the group and not on the row: there is nobody to agree with.
    """
    others = len(completions) - 1
    if others < 1:
        return None
    read = [read_perception(completion.perception and in_order(task, completion.perception)) for completion in completions]
    counts = Counter(key for key, _ in read if key is not None)
    scores = []
    for key, fault in read:
        if key is None:
            scores.append(Score(0.0, why=fault))
            continue
        same = counts[key] - 1
        scores.append(Score(same / others, why="" if same == others else f"{same} of {others} others agree"))
    return scores
