"""Numbers as checkpoints store them, to float32 and back."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["E4M3", "FLOATS", "as_f32", "pack", "rounded"]

FLOATS = ("F32", "F16", "BF16")


def _e4m3() -> np.ndarray:
    bits = np.arange(256)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    size = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(8 + mantissa, exponent - 10))
    size = np.where(bits & 127 == 127, np.nan, size)  # of the largest exponent only the last number is NaN
    return np.where(bits & 128, -size, size).astype(np.float32)


E4M3 = _e4m3()  # by their bits


def as_f32(values: np.ndarray, dtype: str) -> np.ndarray:
    """Stored numbers as float32, exactly; bfloat16 and the eight-bit types come as their bits."""
    if dtype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "F8_E4M3":
        return E4M3[values]
    if dtype == "F8_E8M0":
        return np.where(values == 255, np.nan, np.ldexp(np.float32(1), values.astype(np.int32) - 127)).astype(
            np.float32
        )
    return values.astype(np.float32)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 as the nearest numbers of "f32", "f16" or "bf16", which comes as its bits."""
    if dtype == "f16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    if dtype == "f32":
        return values.astype(np.float32, copy=False)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FC0), nearest).astype(np.uint16)


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
