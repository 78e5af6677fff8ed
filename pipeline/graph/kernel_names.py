"""How the format of a weight becomes the name of a kernel: `linear` and `q4_bf16` make `linear_q4_bf16`.

A kernel that reads weights is compiled once per format (shaders/weights.h), and each instance has such a name.
"""

from __future__ import annotations

__all__ = ["affine_format", "block_format", "kernel_name"]


def affine_format(bits: int, scales: str) -> str:
    """The format of MLX's affine weights of so many bits, whose scales and biases are of dtype `scales`: "q4_bf16"."""
    return f"q{bits}_{scales}"


def block_format(kind: str) -> str:
    """The format of blocks of one of GGUF's types: "gguf_q4_k" for "Q4_K"."""
    return f"gguf_{kind.lower()}"


def kernel_name(kernel: str, format: str) -> str:
    """The kernel of a family, such as "linear", that reads weights of this format."""
    return f"{kernel}_{format}"
