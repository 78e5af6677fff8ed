"""Random weights in the formats that checkpoints store, and what they stand for: decoders in NumPy, written from the
descriptions of the formats (ggml-common.h, OCP Microscaling Formats 1.0) and not from the shaders.

Each decoder computes in float32 what is exact in it but for one rounding, where the format has a bias.
"""

import numpy as np

from pipeline.graph.formats import BLOCKS, FLOAT_MODES, PLAIN_MODES
from pipeline.graph.weights import Blocks, Quantized
from support import coded_formats
from support.coded_formats import E2M1

# Where a block's halves lie, in bytes, and how large they are to be for weights of about 1.
HALVES = {
    "Q4_0": {0: 1 / 8},
    "Q4_1": {0: 1 / 8, 2: 1},
    "Q5_0": {0: 1 / 16},
    "Q5_1": {0: 1 / 16, 2: 1},
    "Q8_0": {0: 1 / 128},
    "MXFP4": {},
    "Q4_K": {0: 1 / 512, 2: 1 / 64},
    "Q5_K": {0: 1 / 1024, 2: 1 / 64},
    "Q6_K": {208: 1 / 2048},
    "IQ4_NL": {0: 1 / 128},
    "IQ4_XS": {0: 1 / 2048},
    "Q2_K": {80: 1 / 16, 82: 1 / 16},
    "Q3_K": {108: 1 / 64},
} | coded_formats.HALVES
IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def random_blocks(rng, shape, kind: str, power: int = 0):
    """Bytes [..., bytes of a row] of weights of `shape`, of about 2^power: any bits but for the halves, which are
    finite."""
    columns, nbytes = BLOCKS[kind]
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // columns, nbytes), np.uint8)
    for offset, size in HALVES[kind].items():
        halves = (rng.normal(size=(*blocks.shape[:-1], 1)) * size * 2.0**power).astype(np.float16)
        blocks[..., offset : offset + 2] = halves.view(np.uint8)
    if kind == "MXFP4":
        blocks[..., 0] = rng.integers(120, 128, blocks.shape[:-1]) + power
    coded_formats.random_scales(rng, blocks, kind, power)
    return blocks.reshape(*shape[:-1], -1)


def decode(data, kind: str):
    """float32 [..., columns] of such bytes."""
    columns, nbytes = BLOCKS[kind]
    blocks = np.ascontiguousarray(data).reshape(-1, nbytes)
    return _DECODERS[kind](blocks).astype(np.float32).reshape(*data.shape[:-1], -1)


def block_matrix(rng, shape, kind: str):
    data = random_blocks(rng, shape, kind)
    return Blocks(data, kind), decode(data, kind).astype(np.float64)


def float_matrix(rng, shape, mode: str):
    """Weights of about 1, of one of MLX's modes, fp8 or fp4; a number behind the mode is the size of its groups."""
    mode, bits, group = _sizes(mode)
    words = rng.integers(0, 2**32, (*shape[:-1], shape[-1] * bits // 32), np.uint32)
    if bits == 8:  # all ones would be NaN
        words &= np.uint32(0xBFBFBFBF)
    groups = (*shape[:-1], shape[-1] // group)
    low, high = (48, 60) if mode == "nvfp4" else (120, 129)
    scales = rng.integers(low, high, groups).astype(np.uint8)
    if mode in PLAIN_MODES:
        scales = rng.normal(size=groups).astype(np.float32)
    return Quantized(words, scales, None, bits, group), decode_floats(words, scales, mode, group).astype(np.float64)


def _sizes(mode: str) -> tuple[str, int, int]:
    """(mode, bits, weights that share a scale)."""
    name, _, size = mode.partition("/")
    bits, sizes = PLAIN_MODES[name] if name in PLAIN_MODES else (FLOAT_MODES[name][0], FLOAT_MODES[name][1:])
    return name, bits, int(size) if size else sizes[-1]


def decode_floats(words, scales, mode: str, group: int = 0):
    """float32 of one of MLX's modes whose weights are small floats, or of fp8 or fp4."""
    mode, bits, size = _sizes(mode)
    group = group or size
    raw = np.ascontiguousarray(words).view(np.uint8)
    codes = raw if bits == 8 else _low_high(raw[..., None], axis=-1).reshape(*words.shape[:-1], -1)
    with np.errstate(all="ignore"):
        power = scales if mode in PLAIN_MODES else e4m3(scales)
        if mode.startswith("mx"):
            power = np.ldexp(np.float32(1), scales.astype(int) - 127)
        return (e4m3(codes) if bits == 8 else E2M1[codes]) * np.repeat(power, group, axis=-1).astype(np.float32)


def e4m3(bits):
    bits = bits.astype(int)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    # Of the largest exponent only the last number is NaN.
    return np.where(bits & 127 == 127, np.nan, np.where(bits & 128, -size, size)).astype(np.float32)


def _half(blocks, offset: int):
    return blocks[:, offset : offset + 2].copy().view(np.float16).astype(np.float32)


def _low_high(q, axis: int):
    """The low halves of bytes, then the high ones, along an axis."""
    return np.concatenate([q & 15, q >> 4], axis=axis)


def _fifth(blocks, offset: int):
    """Bits of four bytes, each as 16."""
    return np.unpackbits(blocks[:, offset : offset + 4], axis=-1, bitorder="little") << 4


def _q4_0(b):
    return (_low_high(b[:, 2:], 1).astype(np.float32) - 8) * _half(b, 0)


def _q4_1(b):
    return _low_high(b[:, 4:], 1) * _half(b, 0) + _half(b, 2)


def _q5_0(b):
    return ((_low_high(b[:, 6:], 1) | _fifth(b, 2)).astype(np.float32) - 16) * _half(b, 0)


def _q5_1(b):
    return (_low_high(b[:, 8:], 1) | _fifth(b, 4)) * _half(b, 0) + _half(b, 2)


def _q8_0(b):
    return b[:, 2:].copy().view(np.int8) * _half(b, 0)


def _mxfp4(b):
    power = np.ldexp(np.float32(1), b[:, :1].astype(int) - 127)
    return E2M1[_low_high(b[:, 1:], 1)] * power.astype(np.float32)


def _scales(b):
    """(scales, minima) [blocks, 8, 1]: twelve bytes hold six bits each of eight scales and eight minima."""
    raw = b[:, 4:16].astype(np.int32)
    low, least, rest = raw[:, :4], raw[:, 4:8], raw[:, 8:]
    scales = np.concatenate([low & 63, (rest & 15) | (low >> 6 << 4)], 1)
    minima = np.concatenate([least & 63, (rest >> 4) | (least >> 6 << 4)], 1)
    return (_half(b, 0) * scales).astype(np.float32)[..., None], (_half(b, 2) * minima).astype(np.float32)[..., None]


def _q4_k(b):
    scale, least = _scales(b)
    q = _low_high(b[:, 16:].reshape(-1, 4, 1, 32), 2).reshape(-1, 8, 32)
    return q * scale - least


def _q5_k(b):
    scale, least = _scales(b)
    q = _low_high(b[:, 48:].reshape(-1, 4, 1, 32), 2).reshape(-1, 8, 32)
    high = b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return (q | high << 4) * scale - least


def _q6_k(b):
    low = _low_high(b[:, :128].reshape(-1, 2, 1, 64), 2).reshape(-1, 2, 128)
    high = b[:, 128:192].reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3
    q = (low | high.reshape(-1, 2, 128) << 4).astype(np.float32) - 32
    scales = b[:, 192:208].copy().view(np.int8) * _half(b, 208)
    return q.reshape(-1, 16, 16) * scales.astype(np.float32)[..., None]


def _iq4_nl(b):
    return IQ4[_low_high(b[:, 2:], 1)] * _half(b, 0)


def _iq4_xs(b):
    low = _low_high(b[:, 4:8, None], 2).reshape(-1, 8)
    high = b[:, 2:4].copy().view(np.uint16) >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    scales = (low | high << 4).astype(np.float32) - 32
    codes = _low_high(b[:, 8:].reshape(-1, 8, 16), 2)
    return IQ4[codes] * (_half(b, 0) * scales)[..., None]


def _two_bits(q):
    """Columns [blocks, 8, 32] of 64 bytes: per half block, byte i has those of i, i + 32, i + 64 and i + 96."""
    return (q.reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3).reshape(-1, 8, 32)


def _q2_k(b):
    scale, least = _half(b, 80) * (b[:, :16] & 15), _half(b, 82) * (b[:, :16] >> 4)
    return _two_bits(b[:, 16:80]).reshape(-1, 16, 16) * scale[..., None] - least[..., None]


def _q3_k(b):
    third = b[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    q = (_two_bits(b[:, 32:96]) | third << 2).astype(np.float32) - 4
    low = _low_high(b[:, 96:104], 1)
    high = (b[:, None, 104:108] >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3).reshape(-1, 16)
    scales = _half(b, 108) * ((low | high << 4).astype(np.float32) - 32)
    return q.reshape(-1, 16, 16) * scales[..., None]


_DECODERS = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "MXFP4": _mxfp4,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
} | coded_formats.DECODERS
