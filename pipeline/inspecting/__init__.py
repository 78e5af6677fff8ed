"""What `python -m pipeline.inspect` finds out about a checkpoint, and how it says so."""
