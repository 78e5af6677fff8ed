"""The work of `python -m pipeline.inspect`: the facts about a checkpoint, and how they are printed."""
