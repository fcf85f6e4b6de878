"""Floor 4: measuring what a model sees and what it concludes from it."""
