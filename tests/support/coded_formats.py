"""Decoders of GGUF's blocks of one to three bits per weight and of NVFP4, in NumPy, from ggml's description of them.

Where bits number entries of a codebook, the entries are read from the shaders' tables; `tests/kernels/test_formats.py`
compares these with the package gguf.
"""

import functools
import re

import numpy as np

from support.paths import SHADERS

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
# Of each codebook: weights of an entry, bits of each, and the magnitudes that these number.
CODEBOOKS = {
    "iq1_s": (8, 2, (-1, 0, 1)),
    "iq2_xxs": (8, 2, (8, 25, 43)),
    "iq2_xs": (8, 2, (8, 25, 43)),
    "iq2_s": (8, 2, (8, 25, 43)),
    "iq3_xxs": (4, 3, (4, 12, 20, 28, 36, 44, 52, 62)),
    "iq3_s": (4, 3, (1, 3, 5, 7, 9, 11, 13, 15)),
}


@functools.cache
def codebook(name: str):
    """float32 [entries, weights]."""
    text = (SHADERS / "weights" / f"codebook_{name}.h").read_text()
    entries = np.array([int(number, 16) for number in re.findall(r"0x([0-9A-F]+)", text)])
    weights, bits, magnitudes = CODEBOOKS[name]
    return np.array(magnitudes, np.float32)[entries[:, None] >> np.arange(weights) * bits & (1 << bits) - 1]


def random_scales(rng, blocks, kind: str, power: int):
    """Gives blocks [..., bytes] the scales that are no halves at a place of their own: of weights of about 2^power."""
    if kind == "IQ1_M":  # a half in the upper four bits of four numbers
        half = (rng.normal(size=blocks.shape[:-1]) / 8 * 2.0**power).astype(np.float16).view(np.uint16).astype(int)
        for i in range(4):
            at = 49 + 2 * i
            blocks[..., at] = blocks[..., at] & 15 | (half >> 4 * i & 15) << 4
    if kind == "NVFP4":
        blocks[..., :4] = rng.integers(48, 56, (*blocks.shape[:-1], 4)) + 8 * power


def _half(b, offset: int):
    return b[:, offset : offset + 2].copy().view(np.float16).astype(np.float32)


def _shorts(b, begin: int, end: int):
    return b[:, begin:end].copy().view("<u2").astype(int)


def _words(b, begin: int, end: int):
    return b[:, begin:end].copy().view("<u4").astype(int)


def _bits(numbers, shifts, mask: int):
    """Each number becomes as many as there are shifts."""
    return (numbers[..., None].astype(int) >> np.array(shifts) & mask).reshape(len(numbers), -1)


def _signs(bits):
    """1 or -1 for each of eight bits, [..., 8]."""
    return (1 - 2 * (bits[..., None] >> np.arange(8) & 1)).astype(np.float32)


def _even(seven):
    """Eight bits, of which an even number is set, of which seven are given."""
    parity = seven ^ seven >> 4
    parity ^= parity >> 2
    return seven | ((parity ^ parity >> 1) & 1) << 7


def _product(scales, entries, signs):
    """[blocks, 256] of scales of so many groups, entries of so many weights, and bits of signs of eight."""
    signs = _signs(signs).reshape(len(signs), -1)
    groups = scales.shape[1]
    weights = (entries.reshape(len(entries), -1) * signs).reshape(len(entries), groups, -1)
    return weights * scales.astype(np.float32)[..., None]


def _iq2_xxs(b):
    pairs = _words(b, 2, 66).reshape(-1, 8, 2)
    entries = codebook("iq2_xxs")[_bits(pairs[..., 0], (0, 8, 16, 24), 255)]
    return _product(
        _half(b, 0) * ((pairs[..., 1] >> 28) + 0.5) / 4, entries, _even(_bits(pairs[..., 1], (0, 7, 14, 21), 127))
    )


def _iq2_xs(b):
    q = _shorts(b, 2, 66)
    return _product(
        _half(b, 0) * (_bits(b[:, 66:74], (0, 4), 15) + 0.5) / 4, codebook("iq2_xs")[q & 511], _even(q >> 9)
    )


def _iq2_s(b):
    entries = b[:, 2:34] | _bits(b[:, 66:74], (0, 2, 4, 6), 3) << 8
    scales = _half(b, 0) * (_bits(b[:, 74:82], (0, 4), 15) + 0.5) / 4
    return _product(scales, codebook("iq2_s")[entries], b[:, 34:66].astype(int))


def _iq3_xxs(b):
    rest = _words(b, 66, 98)
    scales = _half(b, 0) * ((rest >> 28) + 0.5) / 2
    return _product(scales, codebook("iq3_xxs")[b[:, 2:66]], _even(_bits(rest, (0, 7, 14, 21), 127)))


def _iq3_s(b):
    entries = b[:, 2:66] | _bits(b[:, 66:74], range(8), 1) << 8
    scales = _half(b, 0) * (2 * _bits(b[:, 106:110], (0, 4), 15) + 1)
    return _product(scales, codebook("iq3_s")[entries], b[:, 74:106].astype(int))


def _shifted(scales, entries, down):
    """Weights of IQ1: those of an entry [blocks, 32, 8] are an eighth more, or less where `down` is set."""
    weights = codebook("iq1_s")[entries] + np.where(down, -0.125, 0.125).astype(np.float32)[..., None]
    return weights.reshape(len(weights), scales.shape[1], -1) * scales.astype(np.float32)[..., None]


def _iq1_s(b):
    rest = _shorts(b, 34, 50)
    entries = b[:, 2:34] | _bits(rest, (0, 3, 6, 9), 7) << 8
    return _shifted(_half(b, 0) * (2 * (rest >> 12 & 7) + 1), entries, np.repeat(rest >> 15, 4, axis=1))


def _iq1_m(b):
    four = _shorts(b, 48, 56)
    d = (four >> 12 << np.array([0, 4, 8, 12])).sum(1).astype(np.uint16).view(np.float16).astype(np.float32)[:, None]
    rest = _bits(b[:, 32:48], (0, 4), 15)
    return _shifted(d * (2 * _bits(four, (0, 3, 6, 9), 7) + 1), b[:, :32] | (rest & 7) << 8, rest >> 3)


def _digits(raw, count: int):
    """The numbers of the first `count` digits to the base of three of bytes that are fractions, [blocks, count, n]."""
    shifted = raw[:, None] * 3 ** np.arange(count)[:, None] & 255
    return (shifted * 3 >> 8).reshape(len(raw), -1)


def _tq1_0(b):
    raw = b[:, :52].astype(int)
    digits = np.concatenate([_digits(raw[:, :32], 5), _digits(raw[:, 32:48], 5), _digits(raw[:, 48:], 4)], axis=1)
    return (digits - 1) * _half(b, 52)


def _tq2_0(b):
    q = b[:, :64].reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3
    return (q.reshape(-1, 256).astype(np.float32) - 1) * _half(b, 64)


def _q2_0(b):
    return (_bits(b[:, 2:], (0, 2, 4, 6), 3) - 1) * _half(b, 0)


def _q1_0(b):
    return (2 * _bits(b[:, 2:], range(8), 1) - 1) * _half(b, 0)


def _nvfp4(b):
    bits = b[:, :4] & 127
    size = np.where(bits < 8, bits / 512, (1 + bits % 8 / 8) * 2.0 ** ((bits >> 3) - 7.0))
    scales = np.where(b[:, :4] == 127, 0, size).astype(np.float32)
    q = b[:, 4:].reshape(-1, 4, 8)
    return E2M1[np.concatenate([q & 15, q >> 4], axis=-1)] * scales[..., None]


HALVES = {
    "IQ3_S": {0: 1 / 128},
    "IQ3_XXS": {0: 1 / 128},
    "IQ2_S": {0: 1 / 32},
    "IQ2_XS": {0: 1 / 32},
    "IQ2_XXS": {0: 1 / 32},
    "IQ1_M": {},
    "IQ1_S": {0: 1 / 8},
    "TQ2_0": {64: 1},
    "TQ1_0": {52: 1},
    "Q2_0": {0: 1},
    "Q1_0": {0: 1},
    "NVFP4": {},
}
DECODERS = {
    "IQ3_S": _iq3_s,
    "IQ3_XXS": _iq3_xxs,
    "IQ2_S": _iq2_s,
    "IQ2_XS": _iq2_xs,
    "IQ2_XXS": _iq2_xxs,
    "IQ1_M": _iq1_m,
    "IQ1_S": _iq1_s,
    "TQ2_0": _tq2_0,
    "TQ1_0": _tq1_0,
    "Q2_0": _q2_0,
    "Q1_0": _q1_0,
    "NVFP4": _nvfp4,
}
