"""Floor 5: showing a run. Reads the run's folder and nothing else; never torch."""
