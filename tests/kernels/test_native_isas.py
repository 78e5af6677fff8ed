"""Native kernels of every instruction set give the bits of AVX2's.

Those that this processor has run as they are built. The others are compiled from the same sources with
tests/support/native/emulated.h in place of the missing intrinsics, and stand in a copy of the bundle where AVX2's would
(support/emulation.py)."""

import functools
import platform
import subprocess
import sys

import numpy as np
import pytest
from support import emulation
from support.axes import axis, each, pairs
from support.experts import Layer
from support.kernels import AFFINE_FORMATS, GROUPS, NATIVE_BLOCKS, activations, matrix, run
from support.paths import ROOT

import pipeline as p
from pipeline.device import resources
from pipeline.errors import OnebufError
from pipeline.metalc import toolchain

ISAS = ("avx512", "vnni", "amx")

pytestmark = pytest.mark.skipif(
    sys.platform == "darwin" or platform.machine().lower() not in ("x86_64", "amd64"),
    reason="native kernels are for x86-64",
)


@pytest.fixture(scope="module")
def avx2():
    return open_bundle(resources.shader_library("avx2"))


@pytest.fixture(scope="module", params=ISAS)
def emulated(request):
    """A device whose kernels are those of an instruction set, which the processor may lack."""
    return device_for(request.param)


@pytest.fixture(scope="module", params=[isa for isa in ISAS if emulation.has_blocks(isa)])
def emulated_blocks(request):
    """The same, for kernels of blocks."""
    return device_for(request.param)


@functools.cache
def device_for(isa):
    if emulation.is_here(isa):
        return open_bundle(resources.shader_library(), isa)
    return open_bundle(emulation.bundle_for(isa))


def open_bundle(bundle, isa="avx2"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OB_ISA", isa)
        patch.setenv("OB_NATIVE", "1")
        patch.setattr(resources, "shader_library", lambda isa: bundle)
        try:
            return p.open_device("cpu", threads=2)
        except OnebufError as error:
            pytest.skip(str(error))


def assert_same(avx2, emulated, rows, steps, **inputs):
    expected, actual = (run(device, rows, steps, **inputs) for device in (avx2, emulated))
    many = isinstance(expected, tuple)
    for a, b in zip(expected, actual) if many else [(expected, actual)]:
        assert np.isfinite(a).all() and np.abs(a).max() > 0
        assert a.tobytes() == b.tobytes()


@each("format, group", AFFINE_FORMATS, GROUPS)
def test_linear_gives_the_same_bits(avx2, emulated, format, group):
    rng = np.random.default_rng(group)
    for groups, outputs in ((1, 8), (3, 33), (9, 45), (16, 17), (41, 19)):
        weight, _ = matrix(rng, (outputs, groups * group), format, group)
        for rows in (1, 2, 7, 8, 13, 15, 16, 17, 28, 31, 33, 70):
            x = activations(rng, rows, groups * group)
            assert_same(avx2, emulated, rows, lambda pipe, x, w=weight: pipe.linear(x, w), x=x)


@pytest.mark.parametrize("format, columns", NATIVE_BLOCKS)
def test_blocks_give_the_same_bits(avx2, emulated_blocks, format, columns):
    rng = np.random.default_rng(columns)
    for blocks, outputs in ((1, 8), (3, 33), (9, 45), (16, 17)):
        weight, _ = matrix(rng, (outputs, blocks * columns), format)
        for rows in (1, 2, 3, 4, 5, 6, 7, 13, 33):
            x = activations(rng, rows, blocks * columns)
            assert_same(avx2, emulated_blocks, rows, lambda pipe, x, w=weight: pipe.linear(x, w), x=x)


def test_every_count_of_rows(avx2, emulated):
    rng = np.random.default_rng(1)
    weight, _ = matrix(rng, (21, 192), "q4_bf16", 64)
    for rows in range(1, 71):
        assert_same(avx2, emulated, rows, lambda pipe, x: pipe.linear(x, weight), x=activations(rng, rows, 192))


@pytest.mark.parametrize("group", GROUPS)
def test_every_count_of_groups(avx2, emulated, group):
    """Groups go to eight sums, and several of a sum go together."""
    rng = np.random.default_rng(5)
    for groups in (*range(1, 35), 63, 64, 65):
        weight, _ = matrix(rng, (16, groups * group), "q4_f16", group)
        for rows in (5, 19):
            assert_same(
                avx2,
                emulated,
                rows,
                lambda pipe, x, w=weight: pipe.linear(x, w),
                x=activations(rng, rows, groups * group),
            )


@each("bits, group", [8, 4], GROUPS[::-1])  # the longest sums, then the others
def test_the_largest_products_are_exact(avx2, emulated, bits, group):
    """All weights' integers as large as they may be, all activations ±32,767 of their scale."""
    outputs, inputs = 17, 3 * group
    words = np.full((outputs, inputs * bits // 32), 0xFFFFFFFF, np.uint32)
    scale, bias = np.full((outputs, 3), 1.0, np.float32), np.zeros((outputs, 3), np.float32)
    weight = p.Quantized(words, scale, bias, bits, group)
    x = np.ones((23, inputs), np.float32)
    x[1::2] = -1
    x[2::4, ::2] = -1 + 2.0**-9
    assert_same(avx2, emulated, 23, lambda pipe, x: pipe.linear(x, weight), x=x)


@each("format, group", ["q4_bf16", "q8_f32"], GROUPS)
def test_three_give_the_same_bits(avx2, emulated, format, group):
    rng = np.random.default_rng(2)
    weights = [matrix(rng, (outputs, 2 * group), format, group)[0] for outputs in (33, 9, 17)]
    for rows in (1, 5, 31):
        x = activations(rng, rows, 2 * group)
        assert_same(avx2, emulated, rows, lambda pipe, x: pipe.linear3(x, weights, "qkv"), x=x)


def test_what_becomes_of_products_has_the_same_bits(avx2, emulated):
    rng = np.random.default_rng(4)
    weight, _ = matrix(rng, (37, 128), "q4_bf16", 64)
    bias = rng.normal(size=37).astype(np.float16)
    for rows in (1, 6, 40):
        assert_same(
            avx2,
            emulated,
            rows,
            lambda pipe, x, gate, add: (
                pipe.linear(x, weight, bias, "a", scale=0.3, gate=gate, add=add),
                pipe.linear(x, weight, softcap=2.0, name="b"),
            ),
            x=activations(rng, rows, 128),
            gate=activations(rng, rows, 1),
            add=activations(rng, rows, 37),
        )


@pairs(
    "format, grouped, epilogue",
    ["q4_bf16", "q8_f16"],
    [False, True],
    [(32, "silu", None), (64, "gelu_tanh", "bf16"), (128, "swiglu_oai", "f16")],
)
def test_experts_give_the_same_bits(avx2, emulated, format, grouped, epilogue):
    group, activation, bias = epilogue
    rng = np.random.default_rng(3)
    layer = Layer(rng, 5, 3 * group, group, (format, group), activation=activation, bias=bias)

    def steps(pipe, h, ids, weights):
        return layer.steps(pipe, h, ids, weights, grouped)

    for rows in (1, 6, 40, 70):
        assert_same(avx2, emulated, rows, steps, **layer.inputs(rng, rows, 3))


# test_blocks_give_the_same_bits has every format, and experts multiply with the same code.
@each("blocks, grouped", axis(NATIVE_BLOCKS, daily=[NATIVE_BLOCKS[0], *NATIVE_BLOCKS[1::2]]), [False, True])
def test_experts_of_blocks_give_the_same_bits(avx2, emulated_blocks, blocks, grouped):
    format, columns = blocks
    rng = np.random.default_rng(5)
    layer = Layer(rng, 5, 3 * columns, columns, (format, columns))

    def steps(pipe, h, ids, weights):
        return layer.steps(pipe, h, ids, weights, grouped)

    for rows in (1, 6, 40):
        assert_same(avx2, emulated_blocks, rows, steps, **layer.inputs(rng, rows, 3))


@pytest.mark.parametrize(
    "isa, instructions",
    [("avx512", ["zmm"]), ("vnni", ["vpdpwssd", "zmm"]), ("amx", ["tdpbsud", "tdpbuud", "vpdpwssd"])],
)
def test_compiled_for_it_they_have_its_instructions(isa, instructions, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import native_kernels

    library = resources.shader_library() / "native" / f"{isa}.so"
    if library.exists():
        command = ["objdump", "-d", "--no-show-raw-insn", "--no-addresses", str(library)]
    else:  # a source tree is built for its own processor
        source = "objc/metal/cpu/native/formats_packed.cpp"
        command = [*toolchain.compiler(), *native_kernels.flags(isa), "-O0", "-S", "-o", "-", source]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for instruction in instructions:
        assert instruction in text
