"""GGUF's blocks from float32, by the rules of llama.cpp's quantisers; with an importance, by its searches.

A row is whole blocks. Weights that are half-way between two codes go where llama.cpp puts them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .floats import e2m1
from .kquants import q4_k, q5_k, q6_k
from .searches import Floats, best_scale, best_scale_and_least, mean_square

__all__ = ["WRITTEN", "quantize_blocks"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
_F = np.float32


def quantize_blocks(rows: Floats, kind: str, importance: Floats | None = None) -> Bytes:
    """The blocks [rows, bytes of a row] of a matrix [rows, columns]. importance: of the columns, or of each weight.
    FloatingPointError where a weight is no finite number, or where a scale is none that 16 bits hold."""
    if not np.isfinite(rows).all():
        raise FloatingPointError("a weight is no finite number")
    if importance is not None:
        importance = np.ascontiguousarray(np.broadcast_to(importance, rows.shape))
    with np.errstate(over="raise", divide="ignore", invalid="ignore", under="ignore"):
        return WRITTEN[kind](rows, importance).reshape(len(rows), -1)


def _quarters(rows: Floats, importance: Floats | None) -> Bytes:
    """Q4_0: q · d of 32 weights."""
    scales, codes = _symmetric(rows, importance, 8)
    bits = (codes + _F(8)).astype(np.uint8)
    blocks = np.empty(len(scales), [("d", "<f2"), ("q", "u1", 16)])
    blocks["d"], blocks["q"] = scales, bits[:, :16] | bits[:, 16:] << 4
    return blocks.view(np.uint8)


def _fifths(rows: Floats, importance: Floats | None) -> Bytes:
    """Q5_0: the same with five bits, of which the highest ones lie apart."""
    scales, codes = _symmetric(rows, importance, 16)
    blocks = np.empty(len(scales), [("d", "<f2"), ("high", "u1", 4), ("q", "u1", 16)])
    blocks["d"] = scales
    _five_bits(blocks, (codes + _F(16)).astype(np.uint8))
    return blocks.view(np.uint8)


def _symmetric(rows: Floats, importance: Floats | None, most: int) -> tuple[Floats, Floats]:
    """(scales, codes [blocks, 32] from -most to most - 1)."""
    x = rows.reshape(-1, 32)
    if importance is None:
        peaks = np.take_along_axis(x, np.abs(x).argmax(1)[:, None], 1)
        scales = peaks / _F(-most)
        inverse = np.where(scales == 0, _F(0), _F(1) / np.where(scales == 0, _F(1), scales))
        codes = np.minimum(np.trunc(x * inverse + _F(most + 0.5)), _F(2 * most - 1)) - _F(most)
        return scales[:, 0], codes
    found, codes = best_scale(x.T.copy(), _weights(rows, importance), most)
    return found, codes.T


def _weights(rows: Floats, importance: Floats) -> Floats:
    """How much the error of each weight counts, [32, blocks]."""
    weights = importance * np.sqrt(mean_square(rows)[:, None] + rows * rows)
    return weights.reshape(-1, 32).T.copy()


def _fifths_and_least(rows: Floats, importance: Floats | None) -> Bytes:
    """Q5_1: q · d + least of 32 weights, of five bits."""
    x = rows.reshape(-1, 32)
    if importance is None:
        low = x.min(1)
        scales = (x.max(1) - low) / _F(31)
        inverse = np.where(scales == 0, _F(0), _F(1) / np.where(scales == 0, _F(1), scales))
        codes = np.trunc((x - low[:, None]) * inverse[:, None] + _F(0.5)).astype(np.uint8)
    else:
        scales, leasts, found = best_scale_and_least(x.T.copy(), _weights(rows, importance), 31, -0.9, 0.05, 36)
        low, codes = -leasts, found.T.astype(np.uint8)
    blocks = np.empty(len(x), [("d", "<f2"), ("least", "<f2"), ("high", "u1", 4), ("q", "u1", 16)])
    blocks["d"], blocks["least"] = scales, low
    _five_bits(blocks, codes)
    return blocks.view(np.uint8)


def _five_bits(blocks: np.ndarray, codes: Bytes) -> None:
    low = codes & 15
    blocks["q"] = low[:, :16] | low[:, 16:] << 4
    blocks["high"] = np.packbits(codes >> 4, axis=1, bitorder="little")


def _eighths(rows: Floats, importance: Floats | None) -> Bytes:
    """Q8_0: q · d of 32 weights; importance changes nothing."""
    x = rows.reshape(-1, 32)
    scales = np.abs(x).max(1) / _F(127)
    inverse = np.where(scales == 0, _F(0), _F(1) / np.where(scales == 0, _F(1), scales))
    turned = x * inverse[:, None]
    blocks = np.empty(len(x), [("d", "<f2"), ("q", "i1", 32)])
    blocks["d"] = scales
    blocks["q"] = np.trunc(turned + np.copysign(_F(0.5), turned))  # half goes away from zero
    return blocks.view(np.uint8)


def _small_floats(rows: Floats, importance: Floats | None) -> Bytes:
    """MXFP4: an E2M1 number times a power of two of 32 weights; importance changes nothing."""
    x = rows.reshape(-1, 32)
    peaks = np.abs(x).max(1)
    powers = np.where(peaks > 0, np.frexp(peaks)[1] - 1 - 2, -127)
    blocks = np.empty(len(x), [("e", "u1"), ("q", "u1", 16)])
    blocks["e"] = np.clip(powers, -127, 127) + 127
    codes = e2m1(np.ldexp(x, -np.clip(powers, -127, 127)[:, None]))
    blocks["q"] = codes[:, :16] | codes[:, 16:] << 4
    return blocks.view(np.uint8)


WRITTEN: dict[str, Callable[[Floats, Floats | None], Bytes]] = {
    "Q4_0": _quarters,
    "Q5_0": _fifths,
    "Q5_1": _fifths_and_least,
    "Q8_0": _eighths,
    "MXFP4": _small_floats,
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
}
