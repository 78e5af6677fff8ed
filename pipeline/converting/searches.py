"""Searches for the scale of a group of weights, and for its least value, that llama.cpp's quantisers make, in float32.

Arrays are [weights of a group, groups], so that a sum over a group adds its weights in their order, as llama.cpp does.
Each search tries scales around the one that fits the range, and keeps the one with the least weighted squared error.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["TINY", "best_scale", "best_scale_and_least", "best_shared_scale", "mean_square"]

Floats: TypeAlias = npt.NDArray[Any]  # of float32, which NumPy's stubs lose sight of

TINY = np.float32(1e-15)  # groups whose largest weight is below are zeros
_F = np.float32


def best_scale(x: Floats, importance: Floats | None, most: int) -> tuple[Floats, Floats]:
    """(scales, codes): weight ≈ scale · code, codes from -most to most - 1. importance: of each weight; where there is
    none, its square."""
    peaks = np.take_along_axis(x, np.abs(x).argmax(0)[None], 0)[0]  # with their signs
    zero = np.abs(peaks) < TINY
    peaks = np.where(zero, _F(1), peaks)
    weighted = x * (x * x if importance is None else importance)
    importance = x * x if importance is None else importance

    def tried(start: Any) -> tuple[Floats, Floats, Floats]:
        codes = np.clip(np.rint(start / peaks * x), _F(-most), _F(most - 1))
        return codes, _sum(weighted * codes), _sum(importance * codes * codes)

    codes, products, squares = tried(_F(-most))
    scales = _ratio(products, squares)
    best = scales * products
    for step in range(-9, 10):
        if step == 0:
            continue
        others, products, squares = tried(-(_F(most) + _F(0.1) * _F(step)))
        better = (squares > 0) & (products * products > best * squares)
        if not better.any():
            continue
        scales = np.where(better, _ratio(products, squares), scales)
        best = np.where(better, scales * products, best)
        np.copyto(codes, others, where=better)
    codes[:, zero] = -most  # the stored code 0, as llama.cpp writes it
    return np.where(zero, _F(0), scales), codes


def best_scale_and_least(
    x: Floats, importance: Floats, most: int, first: float, step: float, steps: int
) -> tuple[Floats, Floats, Floats]:
    """(scales, leasts, codes): weight ≈ scale · code - least, codes from 0 to most. The scales that are tried fit the
    range into most + first, most + first + step and so on."""
    low, high = np.minimum(x.min(0), _F(0)), x.max(0)
    flat = high <= low
    total = _sum(importance)
    first_moment = _sum(importance * x)

    def codes_of(inverse: Floats, least: Floats) -> Floats:
        found = x - least
        found *= inverse
        np.rint(found, out=found)
        return np.clip(found, _F(0), _F(most), out=found)

    def error(codes: Floats, scales: Floats, leasts: Floats) -> Floats:
        off = scales * codes
        off += leasts
        off -= x
        off *= off
        off *= importance
        return _sum(off)

    inverse = _F(most) / np.where(flat, _F(1), high - low)
    codes, scales, leasts = codes_of(inverse, low), _F(1) / inverse, low
    best = error(codes, scales, leasts)
    for i in range(steps + 1):
        width = np.where(flat, _F(1), high - leasts)  # from the best least value so far, as llama.cpp takes it
        others = codes_of((_F(first) + _F(step) * _F(i) + _F(most)) / width, leasts)
        part = importance * others
        sums = _sum(part)
        products = _sum(part * x)
        part *= others
        squares = _sum(part)
        under = total * squares - sums * sums
        possible = under > 0
        under = np.where(possible, under, _F(1))
        tried = (total * products - first_moment * sums) / under
        offset = (squares * first_moment - sums * products) / under
        positive = offset > 0
        tried = np.where(positive, _ratio(products, squares), tried)
        offset = np.where(positive, _F(0), offset)
        found = error(others, tried, offset)
        better = possible & (found < best)
        if not better.any():
            continue
        best, scales, leasts = (
            np.where(better, new, old) for new, old in ((found, best), (tried, scales), (offset, leasts))
        )
        np.copyto(codes, others, where=better)
    codes[:, flat] = 0
    return np.where(flat, _F(0), scales), -leasts, codes


def best_shared_scale(x: Floats, importance: Floats, most: int) -> tuple[Floats, Floats]:
    """(scales, codes) of positive numbers: number ≈ scale · code, codes from 0 to most. Codes are improved one by one
    after the search."""
    high = np.maximum(x.max(0), _F(0))
    zero = high < TINY
    high = np.where(zero, _F(1), high)

    def codes_of(inverse: Floats) -> Floats:
        return np.minimum(np.rint(inverse * x), _F(most))

    def error(inverse: Floats) -> Floats:
        off = x - _F(1) / inverse * codes_of(inverse)
        return _sum(importance * off * off)

    inverse = _F(most) / high
    best = error(inverse)
    for step in range(-4, 5):
        if step:
            other = (_F(0.1) * _F(step) + _F(most)) / high
            found = error(other)
            better = found < best
            best, inverse = np.where(better, found, best), np.where(better, other, inverse)
    codes = codes_of(inverse)
    products, squares = _sum(importance * x * codes), _sum(importance * codes * codes)
    going: npt.NDArray[np.bool_] = ~zero
    for _ in range(5):
        changed = np.zeros_like(going)
        for i in range(len(x)):
            weight, value, code = importance[i], x[i], codes[i]
            p, s = products - weight * value * code, squares - weight * code * code
            possible = going & (p > 0) & (s > 0)
            new = np.minimum(np.rint(value * s / np.where(possible, p, _F(1))), _F(most))
            p, s = p + weight * value * new, s + weight * new * new
            better = possible & (new != code) & (p * p * squares > products * products * s)
            codes[i] = np.where(better, new, code)
            products, squares = np.where(better, p, products), np.where(better, s, squares)
            changed |= better
        going = changed
        if not going.any():
            break
    codes[:, zero] = 0
    return np.where(zero, _F(0), _ratio(products, squares)), codes


def mean_square(rows: Floats) -> Floats:
    """Of each row."""
    total = _sum(np.ascontiguousarray((rows * rows).T))
    return total / _F(rows.shape[1])


def _sum(values: Floats) -> Floats:
    """Of each group, one weight after another."""
    total: Floats = np.add.reduce(values, axis=0)
    return total


def _ratio(above: Floats, below: Floats) -> Floats:
    """above / below, 0 where below is 0."""
    positive = below > 0
    return np.where(positive, above / np.where(positive, below, _F(1)), _F(0))
