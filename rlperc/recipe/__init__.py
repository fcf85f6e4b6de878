"""Floor 2: what a recipe may say, how it is read, and everything that can be known before a model loads."""
