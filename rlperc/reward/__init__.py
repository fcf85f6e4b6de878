"""Floor 1: what a reward is, where it comes from, and how it is run. Never torch."""
