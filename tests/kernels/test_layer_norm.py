"""Layer norm, alone and after a residual addition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.axes import each
from support.kernels import NORM, activations, assert_close, assert_rows_alone, guarded_run, run

import pipeline as p
from pipeline.errors import DTypeError, ShapeError

pytestmark = pytest.mark.one_processor  # it has no native kernel


def expected(x, weight, bias, eps):
    """(values, bound): a mean is off by a few roundings of its terms, which the division makes larger."""
    x = x.astype(np.float64)
    mean, deviation = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + eps)
    normed = (x - mean) / deviation
    size = np.abs(normed) + (np.abs(x) + np.abs(mean) + np.abs(x).mean(-1, keepdims=True)) / deviation
    return normed * weight + bias, NORM * (size * np.abs(weight) + np.abs(bias))


def check(device, rows, dim, seed=0, shift=0.0, eps=1e-5):
    rng = np.random.default_rng(seed)
    x, residual = (activations(rng, rows, dim) + np.float32(shift) for _ in range(2))
    weight, bias = (activations(rng, dim) for _ in range(2))
    y = run(device, rows, lambda pipe, x: pipe.layer_norm(x, weight, bias, eps), x=x)
    assert_close(y, *expected(x, weight, bias, eps))
    total, y = run(device, rows, lambda pipe, r, x: pipe.residual_layer_norm(r, x, weight, bias, eps), r=residual, x=x)
    assert (total == residual + x).all()
    assert_close(y, *expected(total, weight, bias, eps))


@each("rows, dim", [1, 3, 9], [1, 4, 31, 64, 257, 4096])
def test_layer_norm(device, rows, dim):
    check(device, rows, dim)


@given(rows=st.integers(1, 5), dim=st.integers(1, 70), seed=st.integers(0, 99))
def test_layer_norm_of_any_size(device, rows, dim, seed):
    check(device, rows, dim, seed)


@pytest.mark.parametrize("dim", [61, 4096])
def test_a_mean_far_from_zero(device, dim):
    """The deviations are computed, not the difference of two large sums."""
    check(device, 2, dim, shift=100.0)


def test_numbers_that_are_all_alike(device):
    y = run(
        device,
        1,
        lambda pipe, x: pipe.layer_norm(x, np.ones(33, "f4"), np.full(33, 2, "f4")),
        x=np.full((1, 33), 7, "f4"),
    )
    assert_close(y, np.full((1, 33), 2.0), 1e-3)  # 7 · 2⁻²⁴ over √eps


def test_what_is_no_number(device):
    x = np.zeros((3, 40), np.float32)
    x[1, 7] = np.nan
    y = run(device, 3, lambda pipe, x: pipe.layer_norm(x, np.ones(40, "f4"), np.ones(40, "f4")), x=x)
    assert np.isnan(y[1]).all() and (y[[0, 2]] == 1).all()


def test_rows_alone_and_in_a_batch(device):
    rng = np.random.default_rng(1)
    weight, bias = (activations(rng, 70) for _ in range(2))
    assert_rows_alone(device, lambda pipe, x: pipe.layer_norm(x, weight, bias), x=activations(rng, 5, 70))


def test_nothing_else_is_written(device):
    rng = np.random.default_rng(2)
    weight, bias = (activations(rng, 33) for _ in range(2))
    guarded_run(device, 3, lambda pipe, x: pipe.layer_norm(x, weight, bias), spare=2, x=activations(rng, 3, 33))


def test_what_a_layer_norm_refuses():
    pipe = p.Pipeline(rows=2)
    x, weight = pipe.input("x", (2, 4)), np.ones(4, np.float32)
    with pytest.raises(ShapeError, match=r"layer_norm.bias has shape \(3,\), expected \(4,\)"):
        pipe.layer_norm(x, weight, np.ones(3, np.float32))
    with pytest.raises(DTypeError, match="layer_norm.weight is f16, expected f32"):
        pipe.layer_norm(x, weight.astype(np.float16), weight)
    with pytest.raises(ShapeError, match="expected"):
        pipe.residual_layer_norm(pipe.input("r", (2, 5)), x, weight, weight)
