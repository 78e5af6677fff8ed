"""The norm functions against float64, over shapes, dtypes and forms; what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference

import pipeline as p
from pipeline import ops
from pipeline.errors import BuildError, DTypeError, ShapeError

# Relative to what is added up: the result of a norm, or residual and norm where they may cancel.
F32 = 2e-6
BF16 = 2.0**-8 + F32  # half a unit in the last of 8 significant bits

DIMS = st.sampled_from([1, 2, 15, 16, 17, 31, 255, 256, 257, 1000, 4097, 8193]) | st.integers(1, 600)
STORED = st.sampled_from(["f32", "f16", "bf16"])


def as_dtype(values, dtype):
    """(array as the functions take it with bits="bf16", its values in float64)."""
    if dtype == "bf16":
        bits = reference.bf16_bits(values)
        return bits, reference.from_bf16(bits).astype(np.float64)
    array = np.asarray(values, {"f32": np.float32, "f16": np.float16}[dtype])
    return array, array.astype(np.float64)


def values_of(array):
    return reference.from_bf16(array).astype(np.float64) if array.dtype == np.uint16 else array.astype(np.float64)


@st.composite
def cases(draw, scalar=False):
    """Arrays with their float64 values, and the keyword arguments."""
    rows, dim = draw(st.integers(1, 5)), draw(DIMS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype, scale = draw(st.sampled_from(["f32", "bf16"])), draw(st.sampled_from([1e-3, 1.0, 300.0]))
    case = {
        "residual": as_dtype(rng.normal(size=(rows, dim)) * scale, dtype),
        "input": as_dtype(rng.normal(size=(rows, dim)) * scale, dtype),
        "weight": (None, 1.0),
    }
    settings = {"eps": draw(st.sampled_from([1e-6, 1e-5, 0.1])), "weight_offset": 0.0}
    if draw(st.booleans()):
        case["weight"] = as_dtype(rng.normal(size=dim), draw(STORED))
        settings["weight_offset"] = draw(st.sampled_from([0.0, 1.0]))
    if scalar:
        shape = draw(st.sampled_from([(), (1,), (dim,), (rows, dim)]))
        case["scalar"] = as_dtype(rng.normal(size=shape), draw(STORED))
    arrays, values = ([pair[i] for pair in case.values()] for i in (0, 1))
    return dtype, arrays, values, settings


def norm(values, weight, eps, weight_offset):
    return reference.rms_norm(values, None, eps) * (weight + weight_offset)


def check(got, want, size, dtype):
    """got within the bound of dtype, relative to `size`, the magnitude of what was added up."""
    assert got.dtype == {"f32": np.float32, "bf16": np.uint16}[dtype] and got.shape == want.shape
    error, size = np.abs(values_of(got) - want), np.broadcast_to(size, want.shape)
    bound = F32 * size if dtype == "f32" else BF16 * np.abs(want) + F32 * size
    assert (error <= bound + 1e-37).all(), (error / size).max()


EXAMPLES = settings(max_examples=40, deadline=None)


@EXAMPLES
@given(cases())
def test_fused_norm_add(device, case):
    dtype, arrays, (residual, x, weight), settings = case
    got = ops.fused_norm_add(*arrays, **settings, bits="bf16", device=device)
    normed = norm(x, weight, **settings)
    check(got, residual + normed, np.abs(residual) + np.abs(normed), dtype)


@EXAMPLES
@given(cases(scalar=True))
def test_fused_norm_add_scalar(device, case):
    dtype, arrays, (residual, x, weight, scalar), settings = case
    got = ops.fused_norm_add_scalar(*arrays, **settings, bits="bf16", device=device)
    normed = norm(x, weight, **settings)
    check(got, (residual + normed) * scalar, (np.abs(residual) + np.abs(normed)) * np.abs(scalar), dtype)


@EXAMPLES
@given(cases(), st.sampled_from(["new", "none", "given", "in place"]))
def test_fused_residual_norm(device, case, how):
    dtype, arrays, (residual, x, weight), settings = case
    out = {"new": True, "none": False, "given": np.empty_like(arrays[0]), "in place": arrays[0]}[how]
    total, normed = ops.fused_residual_norm(*arrays, **settings, out_sum=out, bits="bf16", device=device)
    if how == "none":
        assert total is None
    else:
        assert isinstance(out, bool) or total is out
        check(total, residual + x, np.abs(residual + x), dtype)
    want = norm(residual + x, weight, **settings)
    check(normed, want, np.abs(want), dtype)


@EXAMPLES
@given(cases(scalar=True), st.booleans())
def test_fused_residual_norm_scalar(device, case, with_sum):
    dtype, arrays, (residual, x, weight, scalar), settings = case
    total, normed = ops.fused_residual_norm_scalar(*arrays, **settings, out_sum=with_sum, bits="bf16", device=device)
    if with_sum:
        check(total, residual + x, np.abs(residual + x), dtype)  # the scalar leaves it alone
    want = norm(residual + x, weight, **settings) * scalar
    check(normed, want, np.abs(want), dtype)


@pytest.mark.parametrize("dim", [65536, 2**20 + 5])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_long_rows(processor, dtype, dim):
    """Errors of a plain running sum would add up: all of one sign where the elements are equal. Not on the checker:
    what long rows do to memory is hazard 7."""
    device = processor
    rng = np.random.default_rng(3)
    values = np.stack([rng.normal(size=dim), np.full(dim, 0.1), rng.exponential(size=dim) * 100])
    (residual, r), (x, v), (weight, w) = (as_dtype(a, dtype) for a in (values[::-1], values, rng.normal(size=dim)))
    total, normed = ops.fused_residual_norm(residual, x, weight, bits="bf16", device=device)
    check(total, r + v, np.abs(r + v), dtype)
    want = norm(r + v, w, 1e-6, 0)
    check(normed, want, np.abs(want), dtype)
    want = norm(v, w, 1e-6, 0)
    check(
        ops.fused_norm_add(residual, x, weight, bits="bf16", device=device), r + want, np.abs(r) + np.abs(want), dtype
    )


def test_a_row_is_the_same_alone_and_among_others(device):
    rng = np.random.default_rng(4)
    residual, x = rng.normal(size=(2, 7, 333)).astype(np.float32)
    together = ops.fused_norm_add(residual, x, device=device)
    for row in range(7):
        np.testing.assert_array_equal(
            ops.fused_norm_add(residual[row:][:1], x[row:][:1], device=device)[0], together[row]
        )


def test_nan_and_infinity_stay_in_their_row(device):
    x = np.ones((4, 20), np.float32)
    x[1, 3], x[2, 19] = np.nan, np.inf
    got = ops.fused_norm_add(np.zeros_like(x), x, device=device)
    assert np.isnan(got[1]).all() and np.isnan(got[2, 19]) and not got[2, :19].any()
    np.testing.assert_allclose(got[[0, 3]], 1, rtol=F32)


def test_arrays_of_any_strides(device):
    rng = np.random.default_rng(5)
    wide = rng.normal(size=(6, 3, 40)).astype(np.float32)
    residual, x, weight = wide[::2, 0, ::-1], wide[1::2].transpose(1, 2, 0)[0].T, wide[0, 0][::1]
    want = ops.fused_norm_add(*(np.ascontiguousarray(a) for a in (residual, x, weight)), device=device)
    np.testing.assert_array_equal(ops.fused_norm_add(residual, x, weight, device=device), want)


def test_ml_dtypes_come_back_as_they_went(device):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(6)
    residual, x = rng.normal(size=(2, 3, 50)).astype(ml_dtypes.bfloat16)
    total, normed = ops.fused_residual_norm(residual, x, device=device)
    assert total.dtype == normed.dtype == ml_dtypes.bfloat16
    bits = ops.fused_residual_norm(residual.view(np.uint16), x.view(np.uint16), bits="bf16", device=device)
    np.testing.assert_array_equal(total.view(np.uint16), bits[0])
    np.testing.assert_array_equal(normed.view(np.uint16), bits[1])


# What is refused, and what the message says of it

A = np.ones((3, 4), np.float32)
W = np.ones(4, np.float32)
READ_ONLY = np.broadcast_to(np.float32(1), (3, 4))


@pytest.mark.parametrize(
    "error, message, call",
    [
        (
            ShapeError,
            r"input has shape \(3, 5\), expected \(3, 4\)",
            lambda: ops.fused_norm_add(A, np.ones((3, 5), np.float32)),
        ),
        (ShapeError, r"input has shape \(2, 4\), expected \(3, 4\)", lambda: ops.fused_residual_norm(A, A[:2])),
        (ShapeError, r"residual has shape \(4,\), expected two dimensions", lambda: ops.fused_norm_add(W, W)),
        (
            ShapeError,
            r"residual has shape \(3, 0\), expected .* of 1 or more",
            lambda: ops.fused_norm_add(A[:, :0], A[:, :0]),
        ),
        (ShapeError, r"residual has shape \(0, 4\)", lambda: ops.fused_norm_add(A[:0], A[:0])),
        (ShapeError, r"weight has shape \(3,\), expected \(4,\)", lambda: ops.fused_norm_add(A, A, W[:3])),
        (ShapeError, r"weight has shape \(\), expected \(4,\)", lambda: ops.fused_norm_add(A, A, np.float32(1))),
        (
            ShapeError,
            r"scalar has shape \(3,\), expected \(1,\) or \(4,\) or \(3, 4\)",
            lambda: ops.fused_norm_add_scalar(A, A, W, np.ones(3, np.float32)),
        ),
        (
            ShapeError,
            r"scalar has shape \(3, 1\)",
            lambda: ops.fused_residual_norm_scalar(A, A, None, np.ones((3, 1), np.float32)),
        ),
        (
            DTypeError,
            r"residual: .*float64 is not supported; use float32, ",
            lambda: ops.fused_norm_add(A.astype(float), A),
        ),
        (DTypeError, r"residual is f16, expected f32 or bf16", lambda: ops.fused_norm_add(A.astype(np.float16), A)),
        (DTypeError, r"input is bf16, expected f32", lambda: ops.fused_norm_add(A, A.astype(np.uint16), bits="bf16")),
        (DTypeError, r'input is uint16; say bits="bf16"', lambda: ops.fused_norm_add(A, A.astype(np.uint16))),
        (
            DTypeError,
            r"weight is u32, expected f32, f16 or bf16",
            lambda: ops.fused_norm_add(A, A, W.astype(np.uint32)),
        ),
        (DTypeError, r"weight: .*complex64", lambda: ops.fused_norm_add(A, A, W.astype(np.complex64))),
        (DTypeError, r"input: .*>f4 has the other byte order", lambda: ops.fused_norm_add(A, A.astype(">f4"))),
        (DTypeError, r"residual: an array of object", lambda: ops.fused_norm_add(None, A)),
        (BuildError, r'bits = "?.?bf17.*choose "bf16"', lambda: ops.fused_norm_add(A, A, bits="bf17")),
        (BuildError, r"eps = -1e-06 must be 0 or more", lambda: ops.fused_norm_add(A, A, eps=-1e-6)),
        (
            BuildError,
            r"eps = nan must be 0 or more, and finite",
            lambda: ops.fused_residual_norm(A, A, eps=float("nan")),
        ),
        (BuildError, r"eps = 1e\+39 must be 0 or more, and finite", lambda: ops.fused_residual_norm(A, A, eps=1e39)),
        (BuildError, r"eps = 'small' must be a number", lambda: ops.fused_residual_norm(A, A, eps="small")),
        (BuildError, r"weight_offset = inf must be finite", lambda: ops.fused_norm_add(A, A, W, weight_offset=np.inf)),
        (BuildError, r"weight_offset = 1.0 without a weight", lambda: ops.fused_norm_add(A, A, weight_offset=1)),
        (BuildError, r"scalar is None; give", lambda: ops.fused_norm_add_scalar(A, A, W, None)),
        (
            ShapeError,
            r"out_sum is float32 \(2, 4\), expected float32 \(3, 4\)",
            lambda: ops.fused_residual_norm(A, A, out_sum=A[:2]),
        ),
        (BuildError, r"out_sum is read-only", lambda: ops.fused_residual_norm(A, A, out_sum=READ_ONLY)),
        (
            BuildError,
            r"out_sum = 'yes'; give True, False or an array",
            lambda: ops.fused_residual_norm(A, A, out_sum="yes"),
        ),
    ],
)
def test_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_the_steps_refuse_what_functions_cannot_pass():
    pipe = p.Pipeline(rows=3)
    a, w16 = pipe.input("a", (3, 4)), np.ones(4, np.float16)
    with pytest.raises(DTypeError, match="scalar is f32, weight f16; they must agree"):
        pipe.fused_norm_add_scalar(a, a, w16, np.ones(1, np.float32))
    with pytest.raises(BuildError, match="scalar is None; .* or use fused_residual_norm"):
        pipe.fused_residual_norm_scalar(a, a, w16, None)
    with pytest.raises(BuildError, match="out_sum = w is a weight"):
        pipe.fused_residual_norm(a, a, out_sum=pipe.vector(np.ones((3, 4), np.float32), "w"))
    with pytest.raises(ShapeError, match=r"long has shape \(4,\), expected \[rows, dim\]"):
        pipe.rms_norm(pipe.input("long", (4,)))


def test_a_norm_of_bf16_in_a_pipeline(device):
    """rms_norm shares the code: one form of it in bf16 with Gemma's weight."""
    bits, values = as_dtype(np.random.default_rng(7).normal(size=(2, 77)), "bf16")
    weight, w = as_dtype(np.random.default_rng(8).normal(size=77), "f16")
    pipe = p.Pipeline(device, rows=2)
    got = pipe.build(pipe.rms_norm(pipe.input("x", (2, 77), "bf16"), weight, weight_offset=1)).run(x=bits)
    want = norm(values, w, 1e-6, 1)
    check(got, want, np.abs(want), "bf16")
