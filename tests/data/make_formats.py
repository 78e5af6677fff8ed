"""Makes formats.npz: random weights in every quantised format, and what gguf and mlx dequantise them to.

    pip install gguf 'mlx[cpu]' llama-cpp-python
    python tests/data/make_formats.py

llama-cpp-python brings ggml, for the types that the package gguf does not dequantise; LLAMA_CPP_LIB_PATH names its
folder.

The arrays of GGUF's types are NAME.data (bytes) and NAME.values; MLX's are NAME.words, NAME.scales, NAME.biases and
NAME.values, NAME as affine_BITS_GROUP, mxfp4, mxfp8 or nvfp4. MLX computes in the type of its scales: they are given
as float32 here, of so few bits that a product with them is exact, and so stand for float32, float16 and bfloat16 alike.
"""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from support.stored_formats import random_blocks  # noqa: E402

from pipeline.graph.formats import AFFINE_BITS, BLOCKS, FLOAT_MODES, GROUP_SIZES  # noqa: E402


def few_bits(rng, shape):
    """Seven significant bits, which bfloat16 has, between 2^-8 and 2^-2."""
    return np.ldexp(rng.integers(-127, 128, shape).astype(np.float32), rng.integers(-14, -8, shape))


def dequantised(data, kind):
    if kind not in ("Q1_0", "Q2_0"):
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    folder = os.environ.get("LLAMA_CPP_LIB_PATH") or importlib.util.find_spec("llama_cpp").submodule_search_locations[0]
    library = ctypes.CDLL(next(str(file) for file in Path(folder).rglob("libggml-base.so*")))
    values = np.empty((len(data), data.shape[1] // BLOCKS[kind][1] * BLOCKS[kind][0]), np.float32)
    function = library[f"dequantize_row_{kind.lower()}"]
    function(data.ctypes.data_as(ctypes.c_void_p), values.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(values.size))
    return values


def main() -> None:
    rng, found = np.random.default_rng(6), {}
    for kind in BLOCKS:
        data = random_blocks(rng, (3, 512), kind)
        found[f"{kind}.data"] = data
        found[f"{kind}.values"] = dequantised(data, kind)
    for bits in AFFINE_BITS:
        for group in GROUP_SIZES:
            name, groups = f"affine_{bits}_{group}", (3, 256 // group)
            words = rng.integers(0, 2**32, (3, 8 * bits), np.uint32)
            scales, biases = few_bits(rng, groups), few_bits(rng, groups)
            values = mx.dequantize(mx.array(words), mx.array(scales), mx.array(biases), group, bits)
            found |= {
                f"{name}.words": words,
                f"{name}.scales": scales,
                f"{name}.biases": biases,
                f"{name}.values": np.array(values),
            }
    for mode, (bits, group) in FLOAT_MODES.items():
        # Every scale, and every one of E8M0 from 1 on, in steps of two: 1, 3, … 255.
        scales = np.arange(128, dtype=np.uint8) * 2 + 1 if mode.startswith("mx") else np.arange(256, dtype=np.uint8)
        words = rng.integers(0, 2**32, (16, len(scales) // 16 * group * bits // 32), np.uint32)
        if bits == 8:
            words[0] = np.arange(256, dtype=np.uint8).view("<u4")  # every number
        scales = scales.reshape(16, -1)
        values = mx.dequantize(mx.array(words), mx.array(scales), None, group, bits, mode=mode, dtype=mx.float32)
        found |= {f"{mode}.words": words, f"{mode}.scales": scales, f"{mode}.values": np.array(values)}
    np.savez_compressed(HERE / "formats.npz", **found)


if __name__ == "__main__":
    main()
