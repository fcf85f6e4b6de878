"""Post-training for vision-language models that pays for seeing, built on TRL."""

from rlperc.errors import UserError
from rlperc.reward.contract import Score, reward
from rlperc.words.response import Completion

__all__ = ["Completion", "Score", "UserError", "reward"]
