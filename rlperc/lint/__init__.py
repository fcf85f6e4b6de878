"""Proving a reward before a run: golden cases, adversarial responses, a file to start from. Never torch."""
