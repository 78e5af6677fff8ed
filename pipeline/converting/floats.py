"""MLX's modes mxfp4, mxfp8 and nvfp4: what mlx.core.quantize gives on a CPU, bit for bit.

A weight is a small float, E2M1 (4 bits) or E4M3 (8 bits), times the scale of its group. The scale is the largest weight
over the largest small float: the next power of two (E8M0), or in nvfp4 the nearest E4M3 number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..graph.formats import FLOAT_MODES
from ..models.numbers import E4M3, as_f32, pack

__all__ = ["e2m1", "quantize_floats"]

_F = np.float32
LARGEST = {4: _F(6), 8: _F(448)}
BETWEEN = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5], np.float32)  # half-way between two numbers of E2M1


def quantize_floats(stored: np.ndarray, dtype: str, mode: str) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """(words, scales) of a matrix [rows, inputs], each [rows, …]; inputs are whole groups. FloatingPointError where a
    weight is no finite number."""
    bits, size = FLOAT_MODES[mode]
    rows, inputs = stored.shape
    groups = as_f32(stored, dtype).reshape(-1, size)
    peaks = np.abs(groups).max(1)
    if not np.isfinite(peaks).all():
        raise FloatingPointError("a weight is no finite number")
    wanted = peaks / LARGEST[bits]
    if dtype == "F16":  # in which MLX divides
        wanted = wanted.astype(np.float16).astype(np.float32)
    if mode == "nvfp4":
        scales = e4m3(wanted)
        steps = E4M3[scales]
    else:
        with np.errstate(divide="ignore"):
            powers = np.where(wanted > 0, np.ceil(np.log2(wanted)), _F(0))
        scales = (np.clip(powers, -127, 127) + 127).astype(np.uint8)
        steps = np.ldexp(_F(1), scales.astype(np.int32) - 127)
    some = steps != 0
    numbers = np.where(some[:, None], groups / np.where(some, steps, _F(1))[:, None], _F(0))
    codes = e2m1(numbers) if bits == 4 else e4m3(numbers)
    return pack(codes, bits).reshape(rows, inputs * bits // 32), scales.reshape(rows, inputs // size)


def e2m1(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The codes of the nearest numbers of E2M1; half-way, the smaller one."""
    size = np.abs(numbers)
    codes = np.searchsorted(BETWEEN, size, side="left").astype(np.uint8)
    return (codes | ((numbers < 0) & (codes > 0)).astype(np.uint8) << 3).astype(np.uint8)


def e4m3(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The codes of the nearest numbers of E4M3, at most 448; ties to even."""
    size = np.minimum(np.abs(numbers), LARGEST[8])
    exponent = np.maximum(np.frexp(np.maximum(size, _F(2.0**-20)))[1] - 1, -6)
    steps = np.rint(np.ldexp(size, 3 - exponent)).astype(np.int32)  # 8 to 16 of them, fewer where it is subnormal
    codes = np.where(steps < 8, steps, steps + (exponent + 6) * 8)
    return (codes | np.signbit(numbers).astype(np.int32) << 7).astype(np.uint8)
