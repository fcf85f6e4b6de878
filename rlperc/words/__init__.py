"""Floor 0: reading what a model wrote. Standard library only; model output is untrusted text."""
