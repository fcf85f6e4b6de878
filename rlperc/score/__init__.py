"""Floor 3: scores and statistics over completions, without torch."""
