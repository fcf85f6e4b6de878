"""Floor 4: training. From here on up torch, transformers and TRL are loaded."""
