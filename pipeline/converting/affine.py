"""MLX's affine quantisation: what mlx.core.quantize gives on a CPU, bit for bit.

A group of weights of a row, from `lo` to `hi`, has the scale (hi − lo) / (2^bits − 1), with the sign that puts code 0
at the end further from zero; then the scale is changed so that zero, too, has a code of its own, exactly:

    edge = the end further from zero,  scale = edge / round(edge / scale),  bias = edge
    code = round((weight − bias) / scale), kept within 0 … 2^bits − 1;  weight ≈ scale · code + bias

All of it in float32, ties to even; scales and biases are rounded to the weights' dtype last, so codes do not depend on
that. MLX's GPU kernels round ties away from zero and count 0 as a weight of every group, which differs now and then.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["NUMPY", "from_float32", "pack", "quantize", "to_float32"]

SMALLEST_SCALE = np.float32(1e-7)
NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # the NumPy dtype of each stored dtype


def quantize(
    stored: np.ndarray, dtype: str, bits: int, group_size: int
) -> tuple[npt.NDArray[np.uint32], np.ndarray, np.ndarray]:
    """(words, scales, biases) of a matrix [rows, inputs], each [rows, …]; inputs are whole groups.

    `stored` has the dtype F32, F16 or BF16, as an array of the dtype in NUMPY. The words are uint32; scales and biases
    have the stored dtype. FloatingPointError where a weight is no finite number.
    """
    rows, inputs = stored.shape
    groups = to_float32(stored, dtype).reshape(-1, group_size)
    lo, hi = groups.min(axis=1), groups.max(axis=1)
    if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
        raise FloatingPointError("a weight is no finite number")
    most = np.float32(2**bits - 1)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        below = np.abs(lo) > np.abs(hi)
        scales = np.maximum((hi - lo) / most, SMALLEST_SCALE)
        scales = np.where(below, scales, -scales)
        edges = np.where(below, lo, hi)
        steps = np.rint(edges / scales)
        zero = steps == 0
        scales = np.where(zero, scales, edges / np.where(zero, np.float32(1), steps))
        biases = np.where(zero, np.float32(0), edges)
        codes = np.rint((groups - biases[:, None]) / scales[:, None])
        np.clip(codes, np.float32(0), most, out=codes)
        words = pack(codes.astype(np.uint8), bits).reshape(rows, inputs * bits // 32)
        count = inputs // group_size
        return words, from_float32(scales, dtype).reshape(rows, count), from_float32(biases, dtype).reshape(rows, count)


def pack(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint32]:
    """The codes one after another, the first one in the lowest bits, as words of 32 bits, which they must fill."""
    codes = codes.reshape(-1)
    if bits == 8:
        return codes.view("<u4")
    if bits == 4:
        return (codes[0::2] | codes[1::2] << 4).view("<u4")
    nbytes = math.lcm(bits, 8) // 8  # the fewest that codes fill together: 1, 3, 5 or 3 for 2, 3, 5 or 6 bits
    together = nbytes * 8 // bits
    parts = codes.reshape(-1, together).astype("<u8")
    filled = parts[:, 0]
    for i in range(1, together):
        filled = filled | parts[:, i] << np.uint64(bits * i)
    return np.ascontiguousarray(filled.view(np.uint8).reshape(-1, 8)[:, :nbytes]).reshape(-1).view("<u4")


def to_float32(stored: np.ndarray, dtype: str) -> npt.NDArray[np.float32]:
    """The stored numbers, exactly."""
    if dtype == "BF16":
        return (stored.astype("<u4") << np.uint32(16)).view("<f4")
    return stored.astype("<f4")


def from_float32(values: npt.NDArray[np.float32], dtype: str) -> np.ndarray:
    """Finite numbers, rounded to `dtype`, ties to even."""
    if dtype != "BF16":
        return values.astype(NUMPY[dtype])
    bits = values.astype("<f4").view("<u4")
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype("<u2")
