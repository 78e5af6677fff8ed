"""The folder of the built-in model, as `from pipeline.storyteller import builtin_model`."""

from .checkpoints.storyteller import builtin_model

__all__ = ["builtin_model"]
