"""Every stored format decodes to the very numbers that gguf and mlx decode it to.

data/formats.npz holds what both packages, and for two types ggml itself, gave (data/make_formats.py makes it); gguf is
asked again where it is there.
"""

import numpy as np
import pytest
from data import make_codebooks
from support import reference as ref
from support.axes import pairs
from support.coded_formats import CODEBOOKS, codebook
from support.kernels import PLAIN_FORMATS, run, stored
from support.paths import DATA
from support.stored_formats import decode, decode_floats, random_blocks

import pipeline as p
from pipeline.graph.formats import AFFINE_BITS, BLOCKS, FLOAT_MODES, GROUP_SIZES

pytestmark = pytest.mark.one_processor  # no step here has native kernels

GOLDEN = np.load(DATA / "formats.npz")
ROWS = 64
ONLY_IN_GGML = ("Q1_0", "Q2_0")  # the package has no function for these; data/formats.npz has what ggml's gave


def decoded(device, weight, rows):
    """The weight's rows, as the embedding reads them."""
    tokens = np.arange(rows, dtype=np.uint32)
    return run(device, rows, lambda pipe, tokens: pipe.embed(tokens, weight), tokens=tokens)


def same_bits(actual, expected):
    """Equal, NaN for NaN; the zeros of either sign are one number."""
    np.testing.assert_array_equal(actual, expected)


def dequantised(data, kind):
    """What the package gguf makes of blocks, where it is installed."""
    gguf = pytest.importorskip("gguf")
    if kind in ONLY_IN_GGML:
        return decode(data, kind)
    return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])


@pytest.mark.parametrize("kind", BLOCKS)
def test_gguf(device, kind):
    data = random_blocks(np.random.default_rng(1), (ROWS, 1024), kind)
    expected = dequantised(data, kind)
    same_bits(decode(data, kind), expected)
    same_bits(decoded(device, p.Blocks(data, kind), ROWS), expected)


@pytest.mark.parametrize("kind", BLOCKS)
def test_any_bits_of_a_block(processor, kind):
    """Also scales that are subnormal, infinite or no number, which the checker would report."""
    data = np.random.default_rng(2).integers(0, 256, (ROWS, 16 * BLOCKS[kind][1]), np.uint8)
    with np.errstate(all="ignore"):
        expected = dequantised(data, kind)
    same_bits(decoded(processor, p.Blocks(data, kind), ROWS), expected)


@pytest.mark.parametrize("kind", BLOCKS)
def test_gguf_golden(device, kind):
    data, values = GOLDEN[f"{kind}.data"], GOLDEN[f"{kind}.values"]
    same_bits(decode(data, kind), values)
    same_bits(decoded(device, p.Blocks(data, kind), len(data)), values)


@pairs("bits, group, scales", AFFINE_BITS, GROUP_SIZES, PLAIN_FORMATS)
def test_mlx_affine_golden(device, bits, group, scales):
    name = f"affine_{bits}_{group}"
    (scale, scale_values), (bias, bias_values) = (
        stored(GOLDEN[f"{name}.{part}"], scales) for part in ("scales", "biases")
    )
    words, values = GOLDEN[f"{name}.words"], GOLDEN[f"{name}.values"]
    np.testing.assert_array_equal(scale_values, GOLDEN[f"{name}.scales"])  # nothing was rounded
    same_bits(ref.dequantize(words, scale_values, bias_values, bits, group).astype(np.float32), values)
    same_bits(decoded(device, p.Quantized(words, scale, bias, bits, group), len(words)), values)


@pytest.mark.parametrize("mode", FLOAT_MODES)
def test_mlx_floats_golden(device, mode):
    """Every other scale from 2^-126 on, where infinity stands for the last; every scale of E4M3."""
    bits, group = FLOAT_MODES[mode]
    words, scales, values = (GOLDEN[f"{mode}.{part}"] for part in ("words", "scales", "values"))
    below = len(words) - (mode != "nvfp4")
    same_bits(decode_floats(words[:below], scales[:below], mode), values[:below])
    if device.name == "checker":  # which reports NaN: without those among weights, in rows without those among scales
        words = words & np.uint32(0xBFBFBFBF if bits == 8 else 0xFFFFFFFF)
        finite = np.isfinite(decode_floats(words, scales, mode)).all(-1)
        finite[below:] = False
        words, scales = words[finite], scales[finite]
        values = decode_floats(words, scales, mode)
        assert len(words) > below // 2
    same_bits(decoded(device, p.Quantized(words, scales, None, bits, group), len(words)), values)


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_quantize_packs_as_mlx_does(bits):
    mx = pytest.importorskip("mlx.core")
    made = p.quantize(np.random.default_rng(3).normal(size=(5, 256)).astype(np.float32), bits, 64)
    values = mx.dequantize(mx.array(made.weight), mx.array(made.scales), mx.array(made.biases), 64, bits)
    expected = ref.dequantize(made.weight, made.scales, made.biases, bits, 64)
    np.testing.assert_allclose(np.array(values), expected, rtol=0, atol=2.0**-20)


@pytest.mark.parametrize("kind", make_codebooks.TYPES)
def test_codebooks_are_those_of_the_package(kind):
    pytest.importorskip("gguf")
    magnitudes, numbers, bits = make_codebooks.entries_of(kind)
    assert CODEBOOKS[kind.lower()] == (numbers.shape[1], bits, magnitudes)
    np.testing.assert_array_equal(codebook(kind.lower()), np.array(magnitudes)[numbers])


def test_golden_is_of_every_format():
    assert {name.partition(".")[0] for name in GOLDEN.files} == {
        *BLOCKS,
        *FLOAT_MODES,
        *(f"affine_{bits}_{group}" for bits in AFFINE_BITS for group in GROUP_SIZES),
    }
