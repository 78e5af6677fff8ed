"""The built-in model: a small mixture of experts that tells stories, shipped as package data."""

from pathlib import Path

__all__ = ["NAME", "builtin_model"]

NAME = "storyteller"


def builtin_model() -> Path:
    """The folder of the built-in checkpoint (4-bit, MLX format)."""
    return Path(__file__).parents[1] / "data" / NAME
