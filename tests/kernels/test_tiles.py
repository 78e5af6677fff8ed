"""Weights whose rows are whole chunks of tensor cores (shaders/weights/tensor.h)."""

import numpy as np
import pytest
from support.axes import axis, each
from support.experts import Layer
from support.kernels import activations, assert_rows_alone, check_product, matrix, on_tensor_cores, run


def chunks(device, count):
    """That many chunks for tensor cores, and one for others, whose loops are those of any row."""
    return 256 * (count if device.name.startswith("cuda") else 1)


FORMATS = axis(["q4_bf16", "q8_bf16", "q4_f32", "q8_f16"], daily=["q4_bf16", "q8_bf16"])


@each("format, count, rows", FORMATS, [3, 5, 9], [1, 4, 7])
def test_products_of_whole_chunks(device, format, count, rows):
    rng, inputs = np.random.default_rng(count), chunks(device, count)
    weight, values = matrix(rng, (24, inputs), format)
    assert on_tensor_cores(device, weight) == device.name.startswith("cuda")
    x = activations(rng, rows, inputs)
    x[0] *= 1e-30  # groups have scales of their own
    check_product(device, run(device, rows, lambda pipe, x: pipe.linear(x, weight), x=x), x, weight, values)
    made = run(device, rows, lambda pipe, x: pipe.linear3(x, (weight, weight, weight), "qkv"), x=x)
    for y in made:
        check_product(device, y, x, weight, values)


def test_an_odd_chunk_of_eight_bits(device):
    rng = np.random.default_rng(1)
    weight, values = matrix(rng, (33, 384), "q8_bf16")
    x = activations(rng, 3, 384)
    check_product(device, run(device, 3, lambda pipe, x: pipe.linear(x, weight), x=x), x, weight, values)


@each("format", FORMATS)
def test_rows_share_weights_and_nothing_else(device, format):
    rows, outputs = (37, 1040) if device.name.startswith("cuda") else (5, 24)  # a GPU's threadgroups take many rows
    rng, inputs = np.random.default_rng(2), chunks(device, 3)
    weight, _ = matrix(rng, (outputs, inputs), format)
    x = activations(rng, rows, inputs)
    assert_rows_alone(device, lambda pipe, x: pipe.linear(x, weight), x=x)


@each("format", FORMATS)
def test_experts_expert_by_expert_are_those_row_by_row(device, format):
    rng = np.random.default_rng(3)
    rows, size = 40 if device.name.startswith("cuda") else 4, chunks(device, 3)
    layer = Layer(rng, 3, size, size, (format, 64), bias="f32")
    inputs = layer.inputs(rng, rows, 2)

    def steps(grouped):
        return lambda pipe, h, ids, weights: layer.steps(pipe, h, ids, weights, grouped)

    by_row, by_expert = (run(device, rows, steps(grouped), **inputs) for grouped in (False, True))
    layer.check(device, by_row, **inputs)
    assert by_row.tobytes() == by_expert.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(device, value):
    rng, inputs = np.random.default_rng(4), chunks(device, 3)
    weight, values = matrix(rng, (24, inputs), "q4_bf16")
    x = activations(rng, 3, inputs)
    x[1, 200] = value
    y = run(device, 3, lambda pipe, x: pipe.linear(x, weight), x=x)
    assert not np.isfinite(y[1]).any()
    check_product(device, y[[0, 2]], x[[0, 2]], weight, values)


def test_activations_of_zero_give_zero(device):
    inputs = chunks(device, 3)
    weight, _ = matrix(np.random.default_rng(5), (24, inputs), "q4_bf16")
    y = run(device, 2, lambda pipe, x: pipe.linear(x, weight), x=np.zeros((2, inputs), np.float32))
    assert not y.any()
