"""MLX's affine quantisation: what mlx.core.quantize gives on a CPU, bit for bit.

A group of weights of a row, from `lo` to `hi`, has the scale (hi − lo) / (2^bits − 1), with the sign that puts code 0
at the end further from zero; then the scale is changed so that zero, too, has a code of its own, exactly:

    edge = the end further from zero,  scale = edge / round(edge / scale),  bias = edge
    code = round((weight − bias) / scale), kept within 0 … 2^bits − 1;  weight ≈ scale · code + bias

All of it in float32, ties to even; scales and biases are rounded to the weights' dtype last, so codes do not depend on
that. MLX's GPU kernels round ties away from zero and count 0 as a weight of every group, which differs now and then.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..models.numbers import as_f32, pack, rounded

__all__ = ["NUMPY", "quantize"]

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
    groups = as_f32(stored, dtype).reshape(-1, group_size)
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
        return (
            words,
            rounded(scales, dtype.lower()).reshape(rows, count),
            rounded(biases, dtype.lower()).reshape(rows, count),
        )
