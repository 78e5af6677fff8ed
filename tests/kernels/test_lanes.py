"""Lanes, the unit of all arithmetic over weights: every register width gives the same bits.

A width wider than the processor's registers is compiled for it all the same, so the code of processors with other
registers is tested everywhere.
"""

import ctypes
import subprocess

import numpy as np
import pytest
from support.paths import ROOT
from support.reference import from_bf16

from pipeline.metalc import toolchain

WIDTHS = (4, 8, 16)
EXP_ULP = 4  # of lanes_exp against float64

SOURCE = """
#include <metal_stdlib>
#include <metal_lanes_bytes>
#undef kernel
#undef device
#undef threadgroup
#undef thread
#undef constant
#define OUT extern "C" __attribute__((visibility("default"))) void
OUT load_f32(const float *p, float *y) { lanes_store(y, lanes_load(p)); }
OUT load_f16(const unsigned short *p, float *y) { lanes_store(y, lanes_load((const half *)p)); }
OUT load_bf16(const unsigned short *p, float *y) { lanes_store(y, lanes_load((const bfloat *)p)); }
OUT unpack4(const unsigned *p, float *y) { lanes_store(y, lanes_unpack4(p)); }
OUT unpack8(const unsigned *p, float *y) { lanes_store(y, lanes_unpack8(p)); }
OUT bytes(const unsigned char *p, float *y) { lanes_store(y, lanes_convert(lanes_bytes(p))); }
OUT low(const unsigned char *p, float *y) { lanes_store(y, lanes_convert(lanes_field(lanes_bytes(p), 0, 15))); }
OUT high(const unsigned char *p, float *y) { lanes_store(y, lanes_convert(lanes_field(lanes_bytes(p), 4, 15))); }
OUT middle(const unsigned char *p, float *y) { lanes_store(y, lanes_convert(lanes_field(lanes_bytes(p), p[16], 3))); }
OUT join(const unsigned char *p, float *y) {
    lanes_store(y, lanes_convert(lanes_join(lanes_field(lanes_bytes(p), 0, 15), lanes_field(lanes_bytes(p), 4, 3))));
}
OUT less_by(const unsigned char *p, float *y) {
    lanes_store(y, lanes_convert(lanes_less_by(lanes_field(lanes_bytes(p), 0, 15), 8)));
}
OUT e2m1(const unsigned char *p, float *y) {
    lanes_store(y, lanes_convert(lanes_e2m1(lanes_field(lanes_bytes(p), 4, 15))));
}
OUT nibbles(const unsigned *p, float *y) { lanes_store(y, lanes_convert(lanes_nibbles(p))); }
OUT spread1(const unsigned long *p, float *y) { lanes_store(y, lanes_convert(lanes_spread<1>(p[0], p[1]))); }
OUT spread3(const unsigned long *p, float *y) { lanes_store(y, lanes_convert(lanes_spread<3>(p[0], p[1]))); }
OUT spread4(const unsigned long *p, float *y) { lanes_store(y, lanes_convert(lanes_spread<4>(p[0], p[1]))); }
OUT spread6(const unsigned long *p, float *y) { lanes_store(y, lanes_convert(lanes_spread<6>(p[0], p[1]))); }
OUT fma(const float *p, float *y) { lanes_store(y, lanes_fma(lanes_load(p), lanes_load(p + 16), lanes_load(p + 32))); }
OUT exponential(const float *p, float *y) { lanes_store(y, lanes_exp(lanes_load(p))); }
OUT larger(const float *p, float *y) { lanes_store(y, lanes_max(lanes_load(p), lanes_load(p + 16))); }
OUT sum(const float *p, float *y) { *y = lanes_sum(lanes_load(p)); }
OUT top(const float *p, float *y) { *y = lanes_top(lanes_load(p)); }
"""


@pytest.fixture(scope="module", params=WIDTHS)
def lanes(request, tmp_path_factory):
    """The functions above for one width, by name: array in, array of `count` floats out."""
    folder = tmp_path_factory.mktemp(f"lanes{request.param}")
    (folder / "lanes.cpp").write_text(SOURCE)
    out = folder / "lanes.so"
    subprocess.run(
        [
            *toolchain.compiler(),
            "-std=c++17",
            "-O2",
            "-shared",
            "-fPIC",
            "-w",
            "-fno-math-errno",
            "-fno-trapping-math",
            "-ffp-contract=off",
            f"-DLANES_WIDTH={request.param}",
            f"-I{ROOT / 'pipeline' / 'include' / 'metal_stdlib'}",
            f"-I{ROOT / 'objc' / 'metal' / 'abi'}",
            *toolchain.defines("avx2"),
            str(folder / "lanes.cpp"),
            "-o",
            str(out),
        ],
        check=True,
    )
    library = ctypes.CDLL(str(out))

    def call(name, array, count=16):
        array, y = np.ascontiguousarray(array), np.zeros(count, np.float32)
        getattr(library, name)(ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(y.ctypes.data))
        return y

    return call


def blocks(array):
    return np.asarray(array).reshape(-1, 16)


def test_every_half(lanes):
    bits = np.arange(65536, dtype=np.uint16)
    got = np.concatenate([lanes("load_f16", block) for block in blocks(bits)])
    np.testing.assert_array_equal(got, bits.view(np.float16).astype(np.float32))


def test_every_bfloat(lanes):
    bits = np.arange(65536, dtype=np.uint16)
    got = np.concatenate([lanes("load_bf16", block) for block in blocks(bits)])
    np.testing.assert_array_equal(got, from_bf16(bits))


def test_packed_integers(lanes):
    words = np.random.default_rng(0).integers(0, 2**32, 4, dtype=np.uint32)
    nibbles = (words[:2, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15).reshape(-1)
    np.testing.assert_array_equal(lanes("unpack4", words), nibbles)
    np.testing.assert_array_equal(lanes("unpack8", words), words.view(np.uint8))


def test_bytes(lanes):
    rng = np.random.default_rng(4)
    for raw in rng.integers(0, 256, (50, 17), np.uint8):
        raw[16] %= 7
        data = raw[:16]
        np.testing.assert_array_equal(lanes("bytes", raw), data.view(np.int8))
        np.testing.assert_array_equal(lanes("low", raw), data & 15)
        np.testing.assert_array_equal(lanes("high", raw), data >> 4)
        np.testing.assert_array_equal(lanes("middle", raw), data >> raw[16] & 3)
        np.testing.assert_array_equal(lanes("join", raw), (data & 15) + 16 * (data >> 4 & 3))
        np.testing.assert_array_equal(lanes("less_by", raw), (data & 15).astype(int) - 8)
        twice = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])
        np.testing.assert_array_equal(lanes("e2m1", raw), twice[data >> 4])


@pytest.mark.parametrize("bits", [1, 3, 4, 6])
def test_bits_spread_over_bytes(lanes, bits):
    for pair in np.random.default_rng(bits).integers(0, 2**64, (50, 2), np.uint64):
        expected = pair[:, None] >> np.arange(0, 8 * bits, bits, dtype=np.uint64) & np.uint64(2**bits - 1)
        np.testing.assert_array_equal(lanes(f"spread{bits}", pair), expected.reshape(-1))
        if bits == 4:
            words = pair.astype(np.uint32)
            np.testing.assert_array_equal(
                lanes("nibbles", words), (words[:, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15).reshape(-1)
            )


def test_order_of_the_sum(lanes):
    """Lane i takes i + 8, then i + 4, then (0 + 2) + (1 + 3): bits, not a tolerance."""
    for x in np.random.default_rng(1).normal(size=(200, 16)).astype(np.float32):
        eight = x[:8] + x[8:]
        four = eight[:4] + eight[4:]
        assert lanes("sum", x, 1)[0] == (four[0] + four[2]) + (four[1] + four[3])


def test_larger_takes_the_number(lanes):
    x = np.random.default_rng(2).normal(size=32).astype(np.float32)
    x[3] = np.nan
    x[5] = np.inf
    x[6] = -np.inf
    got = lanes("larger", x)
    np.testing.assert_array_equal(got, np.fmax(x[:16], x[16:]))
    assert lanes("top", np.roll(x[16:], 1), 1)[0] == x[16:].max()


def test_fma(lanes):
    x = np.random.default_rng(3).normal(size=48).astype(np.float32)
    np.testing.assert_allclose(lanes("fma", x), x[:16].astype(np.float64) * x[16:32] + x[32:], rtol=3e-7, atol=3e-7)


def test_exponential(lanes):
    x = np.concatenate(
        [
            np.linspace(-110, 95, 4096 - 16),
            [0, -0.0, np.inf, -np.inf, np.nan, 88.72, 88.73, -87.4, -103.9, -104.1, 1e-30, -1e-30, 1, -1, 1e30, -1e30],
        ]
    ).astype(np.float32)
    got = np.concatenate([lanes("exponential", block) for block in blocks(x)])
    with np.errstate(over="ignore", under="ignore"):
        want = np.exp(x.astype(np.float64))
    number = ~np.isnan(x)
    assert np.isnan(got[~number]).all()
    finite = number & (want < np.finfo(np.float32).max)
    assert np.isinf(got[number & ~finite]).all()
    ulp = np.spacing(np.maximum(want[finite], np.finfo(np.float32).tiny).astype(np.float32))
    assert (np.abs(got[finite] - want[finite]) <= EXP_ULP * ulp).all()
