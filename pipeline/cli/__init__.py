"""The command line of `python -m pipeline.run`: arguments, prompts, displays, rows."""
