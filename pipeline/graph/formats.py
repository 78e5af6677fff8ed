"""Element types and stored weight formats: names, sizes, and how NumPy shows them. The one home of these facts.

Nothing heavy is imported here: the command line names formats before NumPy or the core is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DTypeError

if TYPE_CHECKING:
    import numpy as np

ITEM_SIZES = {"f32": 4, "f16": 2, "bf16": 2, "u32": 4, "u8": 1}

LARGEST_F32 = 3.4028234663852886e38

FLOATS = ("f32", "f16", "bf16")  # the dtypes of weights, biases and scales

CACHE_DTYPES = ("f16", "f32", "q8")  # of KV caches, the default first; shaders/cache.h describes q8

_NUMPY_NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "uint32": "u32", "uint8": "u8"}

_VIEWS = {"f32": "float32", "f16": "float16", "bf16": "uint16", "u32": "uint32", "u8": "uint8", "q8": "uint8"}

# MLX's affine formats that kernels read: bits per weight, and weights that share a scale and a bias.
AFFINE_BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

# MLX's other modes: bits of a weight, which is a small float, and weights that share a scale of eight bits.
FLOAT_MODES = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}

# Small floats of checkpoints of PyTorch, with scales in f32: bits of a weight, and how many of a row may share a scale.
PLAIN_MODES = {"fp8": (8, (16, 32, 64, 128)), "fp4": (4, (16,))}
FP8_BLOCK = 128  # of a row, and of a column, where nobody says another number

# GGUF's types that kernels read: columns and bytes of one block.
BLOCKS = {
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "MXFP4": (32, 17),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "IQ3_S": (256, 110),
    "IQ3_XXS": (256, 98),
    "IQ2_S": (256, 82),
    "IQ2_XS": (256, 74),
    "IQ2_XXS": (256, 66),
    "IQ1_M": (256, 56),
    "IQ1_S": (256, 50),
    "TQ2_0": (256, 66),
    "TQ1_0": (256, 54),
    "Q2_0": (64, 18),
    "Q1_0": (128, 18),
    "NVFP4": (64, 36),
}

# Formats, by the ends of kernels' names, for which the `cpu` device of x86-64 has kernels written by hand.
_BY_HAND = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 MXFP4 Q4_K Q5_K Q6_K IQ4_NL IQ4_XS Q2_K Q3_K IQ3_S IQ2_S"
NATIVE = (
    *(f"q{bits}_{scales}" for bits in (4, 8) for scales in FLOATS),
    "mxfp4",
    *(f"gguf_{kind.lower()}" for kind in _BY_HAND.split()),
)

# What `convert` writes: formats of an MLX folder and of a GGUF file, and recipes that mix them: mlx-lm's, with the bits
# of most weights and of some, and llama.cpp's, with the type of most weights.
PLAIN = ("F32", "F16", "BF16")
MLX_WRITTEN = ("affine", *FLOAT_MODES)
GGUF_WRITTEN = ("Q4_0", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "MXFP4", *PLAIN)
MLX_RECIPES = {"mixed_2_6": (2, 6), "mixed_3_4": (3, 4), "mixed_3_6": (3, 6), "mixed_4_6": (4, 6)}
GGUF_RECIPES = {"Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K"}
RECIPES = (*GGUF_RECIPES, *MLX_RECIPES)


def either(values: tuple[object, ...], word: str = "or") -> str:
    """The values as a message lists them: (3, 4, 8) → "3, 4 or 8"."""
    *most, last = map(str, values)
    return f"{', '.join(most)} {word} {last}" if most else last


def dtype_of(array: np.ndarray) -> str:
    """The dtype of a NumPy array: "f32", "f16", "u32", "u8", or "bf16" for ml_dtypes.bfloat16."""
    name = array.dtype.name
    if name not in _NUMPY_NAMES:
        raise DTypeError(f"an array of {name} is not supported; use {', '.join(_NUMPY_NAMES)}")
    if not array.dtype.isnative:
        raise DTypeError(f"an array of {array.dtype.str} has the other byte order; convert it with .astype({name!r})")
    return _NUMPY_NAMES[name]


def view_dtype(dtype: str) -> str:
    """The NumPy dtype that shows a tensor's memory; bf16 shows as uint16, q8 as bytes."""
    return _VIEWS[dtype]
