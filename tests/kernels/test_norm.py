"""RMS norm, alone and after a residual addition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import each, pairs
from support.kernels import (
    DIMS,
    NORM,
    PLAIN_FORMATS,
    ROUNDING,
    ROWS,
    activations,
    assert_close,
    assert_rows_alone,
    chain,
    run,
    stored,
)

import pipeline as p
from pipeline.errors import BuildError

EPS = 1e-6


def check_norm(actual, x, weight, eps=EPS, extra=0.0):
    expected = ref.rms_norm(x, weight, eps)
    assert_close(actual, expected, NORM * np.abs(expected) + extra)


@each("dim, rows, dtype", DIMS, ROWS, [None, *PLAIN_FORMATS])
def test_rms_norm(device, dim, rows, dtype):
    rng = np.random.default_rng(dim)
    x = activations(rng, rows, dim)
    weight, values = stored(rng.normal(size=dim), dtype) if dtype else (None, None)
    check_norm(run(device, rows, lambda pipe, x: pipe.rms_norm(x, weight, EPS), x=x), x, values)


@pairs("dim, dtype", DIMS, PLAIN_FORMATS)
def test_rms_norm3(device, dim, dtype):
    """Bit for bit what three norms give."""
    rng = np.random.default_rng(dim)
    x = activations(rng, 3, dim)
    weights = [stored(rng.normal(size=dim), dtype) for _ in range(3)]
    found = run(device, 3, lambda pipe, x: pipe.rms_norm3(x, [w for w, _ in weights], ("a", "b", "c"), EPS), x=x)
    for y, (weight, values) in zip(found, weights, strict=True):
        check_norm(y, x, values)
        alone = run(device, 3, lambda pipe, x, weight=weight: pipe.rms_norm(x, weight, EPS), x=x)
        assert y.tobytes() == alone.tobytes()


def test_rms_norm3_of_several_dtypes():
    """Three dispatches; and a weight that is missing is refused."""
    pipe = p.Pipeline(rows=2)
    x, weights = pipe.input("x", (2, 8)), [stored(np.ones(8), dtype)[0] for dtype in ("f32", "bf16", "f32")]
    pipe.rms_norm3(x, weights, ("a", "b", "c"))
    assert [dispatch.step for dispatch in pipe.dispatches] == ["a", "b", "c"]
    with pytest.raises(BuildError, match="None"):
        pipe.rms_norm3(x, [weights[0], None, weights[2]], ("d", "e", "f"))


@each("dim, rows, dtype", DIMS, ROWS, [None, *PLAIN_FORMATS])
def test_residual_norm(device, dim, rows, dtype):
    rng = np.random.default_rng(dim)
    residual, x = activations(rng, rows, dim), activations(rng, rows, dim)
    weight, values = stored(rng.normal(size=dim), dtype) if dtype else (None, None)
    total, y = run(device, rows, lambda pipe, r, x: pipe.fused_residual_norm(r, x, weight, EPS), r=residual, x=x)
    np.testing.assert_array_equal(total, residual + x)
    # The norm may be of the sum before it is rounded, so an element is off by that rounding too.
    exact = residual.astype(np.float64) + x
    scale = (1.0 if values is None else np.abs(values)) / np.sqrt((exact**2).mean(-1, keepdims=True) + EPS)
    check_norm(y, exact, values, extra=2 * ROUNDING * np.abs(exact) * scale)


@given(
    rows=st.integers(1, 12),
    dim=st.integers(1, 600),
    eps=st.sampled_from([0.0, 1e-6, 1e-5, 0.5]),
    log_size=st.integers(-12, 12),
    dtype=st.sampled_from(PLAIN_FORMATS),
    seed=st.integers(0, 1000),
)
def test_rms_norm_of_any_size(device, rows, dim, eps, log_size, dtype, seed):
    rng = np.random.default_rng(seed)
    x = activations(rng, rows, dim) * np.float32(10.0**log_size)
    weight, values = stored(rng.normal(size=dim), dtype)
    check_norm(run(device, rows, lambda pipe, x: pipe.rms_norm(x, weight, eps), x=x), x, values, eps)


def test_rows_do_not_depend_on_each_other(device):
    rng = np.random.default_rng(0)
    weight, _ = stored(rng.normal(size=257), "bf16")
    inputs = {"r": activations(rng, 9, 257), "x": activations(rng, 9, 257)}
    assert_rows_alone(device, lambda pipe, r, x: pipe.fused_residual_norm(r, x, weight), **inputs)
    assert_rows_alone(device, lambda pipe, x: pipe.rms_norm(x, weight), x=inputs["x"])


def test_nan_and_inf_stay_in_their_rows(device):
    x = np.ones((3, 33), np.float32)
    x[1, 7], x[2, 0] = np.nan, np.inf
    y = run(device, 3, lambda pipe, x: pipe.rms_norm(x, None, 0.0), x=x)
    assert (y[0] == 1).all() and np.isnan(y[1]).all()
    assert np.isnan(y[2, 0]) and (y[2, 1:] == 0).all()  # inf / inf, 1 / inf


def test_zeros_give_zeros(device):
    y = run(device, 2, lambda pipe, x: pipe.rms_norm(x, None, EPS), x=np.zeros((2, 31), np.float32))
    assert (y == 0).all()


@pytest.mark.parametrize("used", [1, 2, 4, 5])
def test_fewer_rows_leave_the_others_alone(device, used):
    x = activations(np.random.default_rng(1), 5, 33)
    made = chain(device, 5, lambda pipe, x: pipe.rms_norm(x), x=x)
    output = made.view(made.plan.outputs[0])
    output[:] = -7
    y = made.run(rows=used, x=x)
    check_norm(y[:used], x[:used], None)
    assert (y[used:] == -7).all()
