"""GGUF's K-quants of 4, 5 and 6 bits from float32: blocks of 256 weights with quantised scales of their groups."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .searches import TINY, Floats, best_scale, best_scale_and_least, best_shared_scale, mean_square

__all__ = ["q4_k", "q5_k", "q6_k"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
_F = np.float32


def q4_k(rows: Floats, importance: Floats | None) -> Bytes:
    """q · (d · scale) - m · least, of 4 bits."""
    return _with_leasts(rows, importance, 15, (-1.0, 0.1, 20))


def q5_k(rows: Floats, importance: Floats | None) -> Bytes:
    """The same of 5 bits, of which the highest ones lie apart."""
    return _with_leasts(rows, importance, 31, (-0.5, 0.1, 15))


def _with_leasts(rows: Floats, importance: Floats | None, most: int, plain: tuple[float, float, int]) -> Bytes:
    x = rows.reshape(-1, 256)
    groups = rows.reshape(-1, 32).T.copy()
    if importance is None:
        mean = np.sqrt(np.add.reduce(groups * groups, axis=0) / _F(32))
        scales, leasts, codes = best_scale_and_least(groups, mean + np.abs(groups), most, *plain)
        d, six_scales = _six_bits(scales)
        m, six_leasts = _six_bits(leasts)
    else:
        spread = _F(2) * mean_square(x)
        weights = importance.reshape(-1, 256) * np.sqrt(spread[:, None] + x * x)
        weights = weights.reshape(-1, 32).T.copy()
        scales, leasts, codes = best_scale_and_least(groups, weights, most, -0.9, 0.05, 36)
        sums = np.add.reduce(weights, axis=0).reshape(-1, 8).T
        (d, six_scales), (m, six_leasts) = (
            best_shared_scale(numbers.reshape(-1, 8).T, sums, 63) for numbers in (scales, leasts)
        )
        six_scales, six_leasts = six_scales.T, six_leasts.T
    blocks = np.empty(len(x), [("d", "<f2"), ("m", "<f2"), ("scales", "u1", 12), *_bits(most)])
    blocks["d"], blocks["m"] = d, m
    blocks["scales"] = _packed(six_scales.astype(np.uint8), six_leasts.astype(np.uint8))
    step = (blocks["d"].astype(_F)[:, None] * six_scales).reshape(-1)
    least = (blocks["m"].astype(_F)[:, None] * six_leasts).reshape(-1)
    some = step != 0  # the codes of others are those of the search
    again = np.clip(np.rint((groups + least) / np.where(some, step, _F(1))), _F(0), _F(most))
    bits = np.where(some, again, codes).T.astype(np.uint8).reshape(-1, 4, 2, 32)
    low = bits & 15
    blocks["q"] = (low[:, :, 0] | low[:, :, 1] << 4).reshape(-1, 128)
    if most == 31:
        high = (bits >> 4).reshape(-1, 8, 32)
        blocks["high"] = np.bitwise_or.reduce(high << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    return blocks.view(np.uint8)


def _bits(most: int) -> list[tuple[str, str, int]]:
    return [("high", "u1", 32), ("q", "u1", 128)] if most == 31 else [("q", "u1", 128)]


def _six_bits(numbers: Floats) -> tuple[Floats, Floats]:
    """(d, codes [blocks, 8]) of the eight numbers of each block, none below zero: number ≈ d · code."""
    numbers = numbers.reshape(-1, 8)
    most = np.maximum(numbers.max(1), _F(0))
    inverse = np.where(most > 0, _F(63) / np.where(most > 0, most, _F(1)), _F(0))
    return most / _F(63), np.minimum(np.rint(inverse[:, None] * numbers), _F(63))


def _packed(scales: Bytes, leasts: Bytes) -> Bytes:
    """Twelve bytes of eight scales and eight leasts of six bits: the first four of each, with the upper bits of the
    others above them, then the lower bits of the others."""
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = leasts[:, :4] | (leasts[:, 4:] >> 4) << 6
    return np.concatenate([first, second, scales[:, 4:] & 15 | (leasts[:, 4:] & 15) << 4], axis=1)


def q6_k(rows: Floats, importance: Floats | None) -> Bytes:
    """(q - 32) · (d · scale), a scale of eight bits for each 16."""
    groups = rows.reshape(-1, 16).T.copy()
    weights = None if importance is None else importance.reshape(-1, 16).T.copy()
    scales, codes = best_scale(groups, weights, 32)
    scales = scales.reshape(-1, 16)
    peaks = np.take_along_axis(scales, np.abs(scales).argmax(1)[:, None], 1)[:, 0]
    zero = np.abs(peaks) < TINY
    inverse = _F(-128) / np.where(zero, _F(1), peaks)
    blocks = np.empty(len(scales), [("low", "u1", 128), ("high", "u1", 64), ("scales", "i1", 16), ("d", "<f2")])
    blocks["d"] = np.where(zero, _F(0), _F(1) / inverse)
    eights = np.where(zero[:, None], _F(0), np.minimum(np.rint(inverse[:, None] * scales), _F(127)))
    blocks["scales"] = eights
    step = (blocks["d"].astype(_F)[:, None] * eights).reshape(-1)
    some = step != 0
    again = np.clip(np.rint(groups / np.where(some, step, _F(1))), _F(-32), _F(31))
    codes = np.where(some, again, codes).T + _F(32)
    bits = codes.reshape(-1, 256).astype(np.uint8)
    bits[zero] = 0
    four = bits.reshape(-1, 2, 4, 32)
    low, high = four & 15, four >> 4
    blocks["low"] = np.concatenate([low[:, :, :2] | low[:, :, 2:] << 4], axis=2).reshape(-1, 128)
    blocks["high"] = np.bitwise_or.reduce(high << (2 * np.arange(4, dtype=np.uint8))[:, None], axis=2).reshape(-1, 64)
    return blocks.view(np.uint8)
