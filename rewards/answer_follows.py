"""The answer follows from what the model says it saw, whether or not it saw right: reasoning by itself.

Source: the reasoning half of the split in arXiv 2605.29496, judged on the model's own perception by the world's
solver. With weight 0 it is the probe that reward coupling is measured against.
"""

from rlperc import Completion, Score, reward
from rlperc.words.structure import read_json


@reward(range=(0.0, 1.0), credits="reasoning", bounded=True)
def answer_follows(completion: Completion, task: str | None) -> Score | None:
    """1 where the answer would be right if the stated perception were true; `task` comes with a world's rows.

    Held against what the world's solver makes of the stated perception, by the reward that verifies the world's answers:
    any colouring that is right for the stated graph will do.
    """
    from rlperc.reward.plugins import find_reward
    from rlperc.worlds import WORLDS, restate

    formal = read_json(task) if task is not None else None
    if task is None or not isinstance(formal, dict) or formal.get("world") not in WORLDS:
        return None  # the row is of no world
    if completion.perception is None or completion.answer is None:
        return Score(0.0, why="no perception or no answer")
    restated = restate(task, completion.perception)
    if restated is None:
        return Score(0.0, why="the perception does not describe this kind of image")
    verifier, columns = find_reward(restated[0]), restated[1]
    score: Score = verifier.function(completion, **{name: columns[name] for name in verifier.columns if name in columns})
    return Score(score.value, why=f"from its own perception: {score.why}" if score.why else "")
