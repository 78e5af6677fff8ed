"""Weights that need no file: each follows from its name and shape, and every format that stores it holds it exactly.

An element of a matrix is q · scale with a whole q from -7 to 7 and one scale, of four bits and an exponent, for 32
elements of a row in the order they lie. So float32, bfloat16 and float16 hold the same numbers, and so do MLX's affine
formats from four bits on and GGUF's from Q4_0 on: what transformers computes with one of them is right for all.
"""

import zlib
from dataclasses import dataclass

import numpy as np

BLOCK = 32
DEVIATION = 4.32  # of whole numbers from -7 to 7
SIXES = np.array([0, 1, 2, 3, 4, 6, 0, -1, -2, -3, -4, -6, 6, -6, 3, -3], np.int8)  # which MXFP4 holds, too


@dataclass(frozen=True)
class Grid:
    """q [..., inputs] int8 and scale [..., inputs / 32] f32."""

    q: np.ndarray
    scale: np.ndarray

    @property
    def values(self) -> np.ndarray:
        return (self.q * np.repeat(self.scale, BLOCK, -1)[..., : self.q.shape[-1]]).astype(np.float32)


def grid(name: str, shape, *, gain: float = 1.0, mxfp4: bool = False, even: bool = False) -> Grid:
    """A matrix [..., outputs, inputs] whose products have the deviation of `gain` for inputs of deviation 1. even: of
    one scale, so that the transposed matrix is as exact."""
    inputs = shape[-1]
    raw = _bytes(name, int(np.prod(shape)))
    q = SIXES[raw & 15] if mxfp4 else (raw % 15).astype(np.int8) - np.int8(7)
    blocks = (*shape[:-1], -(-inputs // BLOCK))
    exponent = np.floor(np.log2(gain / (DEVIATION * inputs**0.5)))
    odd = 0 if mxfp4 or even else _bytes(name + ".scale", int(np.prod(blocks))).reshape(blocks) & 7
    scale = np.broadcast_to((1 + np.float32(odd) / 8) * np.float32(2.0**exponent), blocks).astype(np.float32)
    return Grid(q.reshape(shape), scale)


def vector(name: str, shape, *, centre: float = 1.0, spread: float = 0.5) -> np.ndarray:
    """Elements about `centre`, none further than `spread` from it; exact in bfloat16 where both are simple."""
    raw = _bytes(name, int(np.prod(shape)))
    return (centre + spread * ((raw % 15).astype(np.float32) - 7) / 8).reshape(shape)


def tokens(count: int, vocab: int) -> list[int]:
    return (_bytes("tokens", count * 2).view(np.uint16) % vocab).tolist()


def _bytes(name: str, count: int) -> np.ndarray:
    """The stream of bits is part of the bit generator's definition: the same everywhere."""
    words = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(-(-count // 8))
    return np.asarray(words, "<u8").view(np.uint8)[:count]
