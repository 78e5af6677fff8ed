"""Projections in every stored format, alone and three at a time, and embedding lookups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.axes import axis, each, pairs
from support.kernels import (
    DIMS,
    FORMATS,
    FORMATS_AND_GROUPS,
    ONE_OF_EACH_KIND,
    PLAIN_FORMATS,
    ROUNDING,
    ROWS,
    activations,
    alone,
    assert_close,
    assert_rows_alone,
    chain,
    check_product,
    matrix,
    run,
)

import pipeline as p
from pipeline.graph.formats import AFFINE_BITS

ROW_TILE = 4  # rows that one threadgroup takes: a run of fewer rows works in whole tiles


def linear(weight):
    return lambda pipe, x: pipe.linear(x, weight)


# Those of the checker first, so that they have the same sizes everywhere.
DAILY = list(dict.fromkeys([*ONE_OF_EACH_KIND[2:], *(FORMATS.values[place] for place in FORMATS.daily[3:])]))
QUANTISED = axis(FORMATS_AND_GROUPS[3:], on_checker=ONE_OF_EACH_KIND[2:], daily=DAILY)


@pytest.mark.one_processor  # native kernels are for quantised weights
@each("inputs, rows, format", DIMS, ROWS, PLAIN_FORMATS)
def test_linear(device, inputs, rows, format):
    rng = np.random.default_rng(inputs)
    for outputs in (1, 17, 33):
        weight, values = matrix(rng, (outputs, inputs), format)
        x = activations(rng, rows, inputs)
        check_product(device, run(device, rows, linear(weight), x=x), x, weight, values)


@pytest.mark.all_on_cpu1  # the one test of all shaders and all native kernels of projections
@each("format, groups", QUANTISED, [1, 3, 33])
def test_linear_quantised(device, format, groups):
    format, group = format
    rng = np.random.default_rng(group)
    for rows, outputs in ((1, 1), (1, 33), (3, 17), (5, 16), (9, 31)):
        weight, values = matrix(rng, (outputs, groups * group), format, group)
        x = activations(rng, rows, groups * group)
        check_product(device, run(device, rows, linear(weight), x=x), x, weight, values)


@given(
    rows=st.integers(1, 13),
    inputs=st.integers(1, 700),
    outputs=st.integers(1, 70),
    format=st.sampled_from(PLAIN_FORMATS),
    seed=st.integers(0, 1000),
)
def test_linear_of_any_size(device, rows, inputs, outputs, format, seed):
    rng = np.random.default_rng(seed)
    weight, values = matrix(rng, (outputs, inputs), format)
    x = activations(rng, rows, inputs)
    check_product(device, run(device, rows, linear(weight), x=x), x, weight, values)


@given(
    rows=st.integers(1, 13),
    groups=st.integers(1, 9),
    outputs=st.integers(1, 70),
    format=st.sampled_from(FORMATS_AND_GROUPS[3:]),
    seed=st.integers(0, 1000),
)
def test_quantised_of_any_size(device, rows, groups, outputs, format, seed):
    rng = np.random.default_rng(seed)
    weight, values = matrix(rng, (outputs, groups * format[1]), *format)
    x = activations(rng, rows, groups * format[1])
    check_product(device, run(device, rows, linear(weight), x=x), x, weight, values)


@each("format", axis(FORMATS_AND_GROUPS, daily=ONE_OF_EACH_KIND))  # their loops are those of one
def test_three_at_a_time(device, format):
    format, group = format
    rng = np.random.default_rng(3)
    inputs = 2 * group or 257
    pairs = [matrix(rng, (outputs, inputs), format, group) for outputs in (33, 1, 17)]
    x = activations(rng, 5, inputs)
    made = chain(device, 5, lambda pipe, x: pipe.linear3(x, [w for w, _ in pairs], "qkv"), x=x)
    assert len(made) == 1
    for y, (weight, values) in zip(made.run(x=x), pairs):
        check_product(device, y, x, weight, values)


def test_three_of_different_formats_are_three_dispatches(device):
    rng = np.random.default_rng(4)
    pairs = [matrix(rng, (9, 64), *format) for format in (("q4_bf16", 64), ("q4_bf16", 32), ("bf16", 0))]
    x = activations(rng, 2, 64)
    made = chain(device, 2, lambda pipe, x: pipe.linear3(x, [w for w, _ in pairs], "qkv"), x=x)
    assert len(made) == 3
    for y, (weight, values) in zip(made.run(x=x), pairs):
        check_product(device, y, x, weight, values)


@pairs("format", FORMATS)
def test_rows_do_not_depend_on_each_other(device, format):
    format, group = format
    rng = np.random.default_rng(5)
    inputs = 3 * group or 269
    weight, _ = matrix(rng, (21, inputs), format, group)
    x = activations(rng, 9, inputs)
    assert_rows_alone(device, linear(weight), x=x)
    assert_rows_alone(device, lambda pipe, x: pipe.linear3(x, (weight, weight, weight), "qkv"), x=x)


def test_one_of_three_is_the_same_as_alone(device):
    rng = np.random.default_rng(6)
    weight, _ = matrix(rng, (21, 257), "bf16")
    x = activations(rng, 5, 257)
    one = run(device, 5, linear(weight), x=x)
    for y in run(device, 5, lambda pipe, x: pipe.linear3(x, (weight, weight, weight), "qkv"), x=x):
        assert y.tobytes() == one.tobytes()


@each("used", axis([1, 3, 4, 5, 8], daily=[1, 4, 5]))
def test_fewer_rows_leave_other_tiles_alone(device, used):
    rng = np.random.default_rng(7)
    weight, values = matrix(rng, (17, 33), "f32")
    x = activations(rng, 9, 33)
    made = chain(device, 9, linear(weight), x=x)
    made.view(made.plan.outputs[0])[:] = -7
    y = made.run(rows=used, x=x)
    check_product(device, y[:used], x[:used], weight, values)
    assert (y[-(-used // ROW_TILE) * ROW_TILE :] == -7).all()


def test_nan_and_inf_stay_in_their_rows_and_outputs(device):
    x = np.ones((5, 40), np.float32)
    x[1, 39], x[3, 0] = np.nan, np.inf
    weight = np.ones((19, 40), np.float32)
    weight[18, 5] = np.nan
    y = run(device, 5, linear(weight), x=x)
    assert np.isnan(y[1]).all() and np.isnan(y[:, 18]).all()
    assert (y[3, :18] == np.inf).all() and (y[[0, 2, 4], :18] == 40).all()


@pytest.mark.parametrize("format, group", [("bf16", 0), ("q4_bf16", 64), ("q8_f16", 32)])
def test_rows_do_not_depend_on_one_that_is_no_number(device, format, group):
    rng = np.random.default_rng(10)
    weight, _ = matrix(rng, (33, 64), format, group)
    x = activations(rng, 7, 64)
    x[1, 40], x[6, 3] = np.nan, np.inf
    y = run(device, 7, linear(weight), x=x)
    for row in (0, 2, 3, 4, 5):
        assert y[row].tobytes() == alone(device, linear(weight), row, x=x)[0].tobytes()
    assert not np.isfinite(y[[1, 6]]).any()


def test_quantize_is_what_the_kernels_read(processor):
    """Of p.quantize: test_linear_quantised has the kernels."""
    rng = np.random.default_rng(8)
    dense = rng.normal(size=(17, 128)).astype(np.float32)
    identity = np.eye(128, dtype=np.float32)
    for bits in AFFINE_BITS:
        for group in (32, 64, 128):
            y = run(processor, 128, linear(p.quantize(dense, bits, group)), x=identity)
            spread = dense.reshape(17, -1, group)
            step = (spread.max(-1) - spread.min(-1)) / (2**bits - 1)
            # Half a step off at most, and the rounding of the step itself times the largest integer.
            bound = np.repeat(0.5 * step, group, -1) + 2**bits * 4 * ROUNDING * np.abs(dense).max()
            assert_close(y.T, dense.astype(np.float64), bound)


# Embeddings

VOCABS = (1, 17, 4096, 5003)


@pytest.mark.one_processor
@each("format, vocab", axis(FORMATS_AND_GROUPS, daily=ONE_OF_EACH_KIND), VOCABS)
def test_embed(device, format, vocab):
    format, group = format
    rng = np.random.default_rng(vocab)
    weight, values = matrix(rng, (vocab, group or 33), format, group)
    tokens = np.array([0, vocab - 1, vocab // 2, 0, vocab - 1], np.uint32)
    y = run(device, 5, lambda pipe, tokens: pipe.embed(tokens, weight), tokens=tokens)
    # One multiplication and one addition where quantised; nothing to round otherwise.
    size = np.abs(values[tokens]) if not group else np.abs(values).max() * 2
    assert_close(y, values[tokens], ROUNDING * 2 * bool(group) * size)


@pytest.mark.one_processor
@each("token", axis([17, 18, 2**31, 0xFFFFFFFF], daily=[17, 0xFFFFFFFF]))
def test_a_token_outside_the_vocabulary_reads_nothing(device, token):
    weight, values = matrix(np.random.default_rng(9), (17, 33), "f32")
    tokens = np.array([16, token, 0], np.uint32)
    y = run(device, 3, lambda pipe, tokens: pipe.embed(tokens, weight), tokens=tokens)
    np.testing.assert_array_equal(y, [values[16], np.zeros(33), values[0]])
