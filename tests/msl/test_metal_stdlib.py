"""The C++ metal_stdlib: accuracy against float64, 16-bit conversions over all values, the language's types."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.metallib import Library, is_gcc

from pipeline import metalc
from pipeline.metalc import bundle as metalc_bundle
from pipeline.metalc import toolchain
from pipeline.metalc import units as metalc_units
from pipeline.metalc.preprocess import Preprocessor
from pipeline.metalc.toolchain import runnable_isas

SHADERS = Path(__file__).parent / "shaders"
MATH_ULP = 2.0  # what the issue of a kernel may rely on
POW_ULP = 1.0  # computed in double
SIN_ABSOLUTE = 1e-6
EDGES = np.array(
    [0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 1e-45, -1e-45, 1.17549435e-38, 1.1754942e-38, 3.4028235e38, -3.4028235e38]
    + [88.72283, 88.7229, 89, -87.3366, -103.9, -103.98, -104, 1e30, 127.99999, 128, -126, -148.9, -149, -150, 0.5, 2],
    np.float32,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stdlib")
    files = [SHADERS / "math.metal", SHADERS / "language.metal"]
    return metalc.build(files, folder / "x.metallib", runnable_isas(), build_dir=folder / "objects")


# The least and the best instruction set in a daily run: one without and one with instructions that multiply and add.
EVERY_ISA = [
    pytest.param(isa, marks=[] if isa in (runnable_isas()[0], runnable_isas()[-1]) else [pytest.mark.exhaustive])
    for isa in runnable_isas()
]


@pytest.fixture(params=EVERY_ISA)
def library(request, bundle):
    return Library(bundle, request.param)


def sweep(low, high):
    """Dense between low and high, dense around 1, every 4,001st bit pattern, and the edges."""
    patterns = np.arange(0, 2**32, 4001, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near_one = (1 + np.arange(-20000, 20000) * 2.0**-23).astype(np.float32)
    dense = np.linspace(low, high, 400_001).astype(np.float32)
    return np.concatenate([dense, patterns, near_one, EDGES])


def count(array):
    return np.array([array.size], np.uint32)


def unary(library, name, x):
    y = np.empty_like(x)
    library.run(f"{name}_float", [x, y, count(x)])
    return y


def binary(library, name, x, z):
    y = np.empty_like(x)
    library.run(f"{name}_float", [x, z, y, count(x)])
    return y


def ulp_error(got, want):
    """Error in units of the last place of the float32 nearest to want; 0 for equal inf and for two NaN."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        finite = np.where(np.isfinite(rounded), rounded, np.float32(3.4028235e38))
        error = np.abs(got.astype(np.float64) - want) / np.spacing(np.abs(finite)).astype(np.float64)
    error[np.isnan(error)] = np.inf
    error[(got == rounded) | (np.isnan(got) & np.isnan(want))] = 0
    return error


ACCURATE = {
    "exp": (np.exp, -110, 95),
    "exp2": (np.exp2, -155, 130),
    "exp10": (lambda x: 10.0**x, -46, 39),
    "log": (np.log, 0, 10),
    "log2": (np.log2, 0, 10),
    "log10": (np.log10, 0, 10),
    "tanh": (np.tanh, -10, 10),
    "sqrt": (np.sqrt, 0, 10),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 0, 10),
}


@pytest.mark.parametrize("name", ACCURATE)
def test_accuracy(library, name):
    function, low, high = ACCURATE[name]
    x = sweep(low, high)
    with np.errstate(all="ignore"):
        error = ulp_error(unary(library, name, x), function(x.astype(np.float64)))
    worst = error.argmax()
    assert error[worst] <= MATH_ULP, f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("limit", [10, 1e5, 1e8])
def test_sin_and_cos(library, name, limit):
    x = np.concatenate([np.random.default_rng(1).uniform(-limit, limit, 300_000), np.arange(-200, 200) * np.pi / 4])
    x = x.astype(np.float32)
    error = np.abs(unary(library, name, x) - getattr(np, name)(x.astype(np.float64)))
    assert error.max() <= SIN_ABSOLUTE
    assert np.isnan(unary(library, name, np.array([np.inf, -np.inf, np.nan], np.float32))).all()
    huge = unary(library, name, np.array([1e20, 3e38, -1e30], np.float32))
    assert (np.abs(huge) <= 1).all()


def test_signs_of_zero(library):
    zeros = np.array([0.0, -0.0], np.float32)
    for name in ("sin", "tanh", "sqrt", "floor", "ceil", "trunc", "rint", "round"):
        assert np.signbit(unary(library, name, zeros)).tolist() == [False, True], name


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "rint", "round", "fract"])
def test_rounding(library, name):
    x = np.concatenate([sweep(-3, 3), np.arange(-8, 8, 0.25).astype(np.float32)])
    expected = {
        "round": lambda v: np.trunc(v + np.copysign(0.5, v)),
        "fract": lambda v: np.minimum(v - np.floor(v), np.float32(1 - 2.0**-24)),
    }.get(name, getattr(np, name, None))
    with np.errstate(all="ignore"):
        want = expected(x.astype(np.float64)).astype(np.float32)
    finite = np.isfinite(x)
    np.testing.assert_array_equal(unary(library, name, x)[finite], want[finite])


def test_pow(library):
    random = np.random.default_rng(2)
    x = np.abs(random.standard_normal(300_000) * 10).astype(np.float32)
    z = random.uniform(-40, 40, x.size).astype(np.float32)
    with np.errstate(all="ignore"):
        error = ulp_error(binary(library, "pow", x, z), x.astype(np.float64) ** z.astype(np.float64))
    assert error.max() <= POW_ULP


def test_pow_of_special_values(library):
    values = np.array([*EDGES, 3, -3, 2.5, -2.5, 16777216, 16777217, -16777215, 1e-20, 0.75], np.float32)
    x, z = (grid.ravel().copy() for grid in np.meshgrid(values, values))
    got = binary(library, "pow", x, z)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), z.astype(np.float64))
        rounded = want.astype(np.float32)
    assert ulp_error(got, want).max() <= POW_ULP
    numbers = ~np.isnan(rounded)
    assert (np.signbit(got) == np.signbit(rounded))[numbers].all()


def test_min_and_max_prefer_numbers_to_nan(library):
    x, z = (grid.ravel().copy() for grid in np.meshgrid(EDGES, EDGES))
    np.testing.assert_array_equal(binary(library, "max", x, z), np.fmax(x, z))
    np.testing.assert_array_equal(binary(library, "min", x, z), np.fmin(x, z))


def test_fma_rounds_once(library):
    x, z, w = np.random.default_rng(3).standard_normal((3, 100_000)).astype(np.float32)
    w = -(x * z) + w * np.float32(1e-7)
    y = np.empty_like(x)
    library.run("fma_float", [x, z, w, y, count(x)])
    want = (x.astype(np.longdouble) * z + w).astype(np.float32)
    np.testing.assert_array_equal(y, want)


# -- 16-bit floats ---------------------------------------------------------------------------------


def convert(library, name, x, dtype):
    y = np.empty(x.size, dtype)
    library.run(name, [x, y, count(x)])
    return y


def halfway(values):
    """The float32 midway between neighbours, and its float32 neighbours: ties and near ties."""
    finite = np.sort(values[np.isfinite(values)]).astype(np.float64)
    middle = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    return np.concatenate([middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))])


def test_half_to_float_is_exact_for_all_values(library):
    bits = np.arange(65536, dtype=np.uint16)
    got = convert(library, "half_to_float", bits, np.float32)
    want = bits.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(got.view(np.uint32)[numbers], want.view(np.uint32)[numbers])
    assert np.isnan(got[~numbers]).all()


def test_float_to_half_rounds_to_nearest_even(library):
    values = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    x = np.concatenate(
        [values, halfway(values), sweep(-70000, 70000), np.float32([65519.99, 65520, -65520, 3e-8, 2.98e-8])]
    )
    got = convert(library, "float_to_half", x, np.uint16)
    with np.errstate(all="ignore"):
        want = x.astype(np.float16).view(np.uint16)
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(got[numbers], want[numbers])
    assert np.isnan(got.view(np.float16)[~numbers]).all()


def test_bfloat_to_float_is_exact_for_all_values(library):
    bits = np.arange(65536, dtype=np.uint16)
    got = convert(library, "bfloat_to_float", bits, np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), bits.astype(np.uint32) << 16)


def test_float_to_bfloat_rounds_to_nearest_even(library):
    values = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    x = np.concatenate([values, halfway(values), sweep(-3, 3)])
    got = convert(library, "float_to_bfloat", x, np.uint16)
    u = x.view(np.uint32).astype(np.uint64)
    want = ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(got[numbers], want[numbers])
    assert np.isnan((got[~numbers].astype(np.uint32) << 16).view(np.float32)).all()


# -- the language ----------------------------------------------------------------------------------

E_HALF = float(np.float16(np.e))
EXPECTED = {
    "vectors": (np.float32, [20, 5, 1, 1, 10, -8, 1, 7, 26, 22, 1, 7, 55, 40, 3, 1]),
    "swizzles": (np.float32, [5232, 14, 5, 2, 10, 352, 5, 3]),
    "small_floats": (
        np.float32,
        [0.0999755859375, 1.099609375, 1.208984375, 2.19921875, -1.099609375, 1, 0.333984375, 1]
        + [65504 + 2.0**-7, 9.5, E_HALF, 15360, np.inf, 4],
    ),
    "integers": (np.uint32, [89, 2, 2**32 - 1, 2**31, 24, 2**31 + 188 + 3840, 23, 16, 0x3F800001, 29, 11, 0x3F, 1, 1]),
    "one_thread": (np.uint32, [0, 4, 18, 7, 3, 3]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_language(library, name):
    dtype, expected = EXPECTED[name]
    out = np.zeros(len(expected), dtype)
    library.run(name, [out, np.zeros(6, np.float32)])
    assert out.tolist() == expected


def test_atomics(library):
    counter, total, low = np.zeros(6, np.uint32), np.zeros(1, np.float32), np.zeros(1, np.int32)
    library.run("atomics", [counter, total, low], (5,))
    assert counter.tolist() == [10, 31, 7, 7, 4, 10]
    assert (total[0], low[0]) == (2.5, -4)


# -- code quality ----------------------------------------------------------------------------------

VECTORISED = ("exp", "exp2", "log", "log2", "tanh", "sin", "cos", "rsqrt", "floor", "min", "max")
CONVERSIONS = ("half, float", "float, half", "bfloat, float", "float, bfloat")


@pytest.mark.skipif("x86-64" not in str(toolchain.ISA_FLAGS.get(runnable_isas()[-1])), reason="looks at x86-64 code")
def test_loops_over_functions_and_conversions_are_vectorised(tmp_path):
    if not is_gcc():
        pytest.skip("reads GCC's optimisation report")
    shader = SHADERS / "math.metal"
    with Preprocessor() as preprocessor:
        (tmp_path / "math.cpp").write_text(metalc_units.read(preprocessor, "", os.fspath(shader)).source)
    options = metalc_bundle._options("3", (), False)
    command = [*metalc_bundle._command(options, "avx2", toolchain.ISA_FLAGS["avx2"]), "-c", "-fopt-info-vec-optimized"]
    report = subprocess.run([*command, "-o", os.devnull, tmp_path / "math.cpp"], capture_output=True, text=True).stderr
    done = {
        int(line.split(":")[1]) for line in report.splitlines() if "32 byte vectors" in line and "math.metal" in line
    }
    lines = shader.read_text().splitlines()
    for name in VECTORISED:
        at = next(n for n, line in enumerate(lines, 1) if line in (f"UNARY({name})", f"BINARY({name})"))
        assert at in done, f"the loop over {name} is scalar"
    # All conversions are one template: one report for each of them on its line.
    loop = next(n for n, line in enumerate(lines, 1) if "To(x[i])" in line)
    assert sum(f"math.metal:{loop}:" in line and "32 byte" in line for line in report.splitlines()) >= len(CONVERSIONS)
