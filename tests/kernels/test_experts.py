"""Expert matrices chosen by ids on the device."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import axis, each, pairs
from support.experts import Layer
from support.kernels import (
    FORMATS_AND_GROUPS,
    ONE_OF_EACH_KIND,
    PLAIN_FORMATS,
    assert_close,
    assert_rows_alone,
    guarded_chain,
    matrix,
    run,
)

import pipeline as p
from pipeline.errors import BuildError, DTypeError, RunError, ShapeError
from pipeline.graph.tensors import Storage, Tensor, as_storage
from pipeline.graph.weights import Quantized, Weight

FEW_FORMATS = [("bf16", 0), ("q4_bf16", 32), ("gguf_q5_0", 32)]


@each("format", axis(FORMATS_AND_GROUPS, daily=ONE_OF_EACH_KIND))  # all of them: test_experts_grouped.py
def test_every_format(device, format):
    """One group of columns in gate and up, and two in down; one chosen expert, and all of them."""
    rng = np.random.default_rng(1)
    size = format[1] or 33
    slow = device.name == "checker" and size > 64  # there is the step from group to group in the smaller ones
    layer = Layer(rng, 3, size if slow else 2 * size, size, format)
    for rows, top_k in ((2, 2),) if slow else ((1, 1), (3, 3)):
        inputs = layer.inputs(rng, rows, top_k)
        layer.check(device, run(device, rows, layer.steps, **inputs), **inputs)


@each("experts, sizes", axis([1, 6, 48, 60, 96, 257], daily=[1, 6, 60, 257]), [(1, 1), (31, 17), (7, 257)])
def test_every_size(device, experts, sizes):
    hidden, dim = sizes
    rng = np.random.default_rng(experts)
    layer = Layer(rng, experts, hidden, dim)
    inputs = layer.inputs(rng, 3, min(experts, 8))
    layer.check(device, run(device, 3, layer.steps, **inputs), **inputs)


@given(
    experts=st.integers(1, 12),
    rows=st.integers(1, 9),
    hidden=st.integers(1, 70),
    dim=st.integers(1, 70),
    format=st.sampled_from(PLAIN_FORMATS),
    seed=st.integers(0, 1000),
)
def test_experts_of_any_size(device, experts, rows, hidden, dim, format, seed):
    rng = np.random.default_rng(seed)
    layer = Layer(rng, experts, hidden, dim, (format, 0))
    inputs = layer.inputs(rng, rows, rng.integers(1, experts + 1))
    layer.check(device, run(device, rows, layer.steps, **inputs), **inputs)


def test_down_may_have_a_format_of_its_own(device):
    rng = np.random.default_rng(2)
    layer = Layer(rng, 6, 64, 128, ("q4_bf16", 128), ("q8_f16", 64))
    inputs = layer.inputs(rng, 3, 4)
    layer.check(device, run(device, 3, layer.steps, **inputs), **inputs)


def test_large_gates_neither_overflow_nor_vanish(device):
    """silu(±100): exp(100) is more than f32 holds, and still silu is 100 or 0."""
    for sign in (1, -1):
        gate, one = np.full((1, 1, 1), 100 * sign, np.float32), np.ones((1, 1, 1), np.float32)
        y = run(
            device,
            1,
            lambda pipe, h, ids, weights, g=gate, one=one: pipe.experts(h, ids, weights, g, one, one),
            h=np.ones((1, 1), np.float32),
            ids=np.zeros((1, 1), np.uint32),
            weights=np.ones((1, 1), np.float32),
        )
        assert y[0, 0] == (100 if sign > 0 else 0)


def test_rows_do_not_depend_on_each_other(device):
    rng = np.random.default_rng(3)
    for format in (("bf16", 0), ("q4_bf16", 64)):
        layer = Layer(rng, 16, 64, 64, format)
        assert_rows_alone(device, layer.steps, **layer.inputs(rng, 9, 4))


def test_no_expert_adds_nothing(device):
    rng = np.random.default_rng(4)
    layer = Layer(rng, 6, 33, 17)
    inputs = layer.inputs(rng, 4, 3)
    inputs["ids"][0] = ref.NONE
    inputs["ids"][1, 0] = inputs["ids"][2, 1] = inputs["ids"][3, 2] = ref.NONE
    y = run(device, 4, layer.steps, **inputs)
    layer.check(device, y, **inputs)
    assert (y[0] == 0).all()


def test_fewer_rows_leave_the_others_alone(device):
    rng = np.random.default_rng(5)
    layer = Layer(rng, 6, 33, 17)
    inputs = layer.inputs(rng, 5, 3)
    made = guarded_chain(device, 5, layer.steps, **inputs)
    made.view(made.plan.outputs[0])[:] = -7
    y = made.run(rows=3, **inputs)
    layer.check(device, y[:3], **{name: value[:3] for name, value in inputs.items()})
    assert (y[3:] == -7).all()


@each("bad, format", axis([6, 7, 1000, ref.NONE], daily=[6, 1000, ref.NONE]), [("q4_bf16", 32), ("f32", 0)])
def test_ids_that_are_no_experts_read_no_weights(device, bad, format):
    """What gate and up make of them is 0; behind the last expert's weights there is NaN."""
    rng = np.random.default_rng(6)
    layer = Layer(rng, 6, 32, 32, format)
    inputs = layer.inputs(rng, 3, 4)
    inputs["ids"][1, 2] = bad
    made = guarded_chain(device, 3, layer.steps, **inputs)
    with contextlib.nullcontext() if bad == ref.NONE else pytest.raises(RunError, match="row 1: experts"):
        made.run(**inputs)
    made.check_guards()
    (gate_up,) = [dispatch for dispatch in made.plan.dispatches if dispatch.step.endswith("gate_up")]
    inner = made.view(gate_up.writes[0])
    zeros = [(row, k) for row in range(3) for k in range(4) if (inner[row, k] == 0).all()]
    assert zeros == [(1, 2)] and not np.isnan(inner).any()


# Activations and biases


@pairs(
    "weights, activation, bias",
    [("bf16", 0, 31, 17), ("q4_bf16", 32, 96, 64), ("q8_f16", 32, 32, 32)],
    ["silu", "gelu_tanh", "swiglu_oai", "relu"],
    [None, "f32", "f16", "bf16"],
)
def test_activations_and_biases(device, weights, activation, bias):
    format, sizes = weights[:2], weights[2:]
    rng = np.random.default_rng(7)
    layer = Layer(rng, 6, *sizes, format, activation=activation, bias=bias)
    inputs = layer.inputs(rng, 5, 3, scale=4.0)  # beyond the limits of 7 too
    inputs["ids"][2, 1] = ref.NONE
    layer.check(device, run(device, 5, layer.steps, **inputs), **inputs)


@each("format, grouped", FEW_FORMATS, [False, True])
def test_one_matrix_for_gate_and_up(device, format, grouped):
    """An MLP without a gate: relu². With the bits that two copies of the matrix give."""
    rng = np.random.default_rng(4)
    layer = Layer(rng, 3, 32, 32, format, activation="relu", bias="f32")
    layer.up_values, inputs = layer.gate_values, layer.inputs(rng, 5, 2)
    layer.biases = (layer.biases[0], layer.biases[0], layer.biases[2])
    layer.bias_values = (layer.bias_values[0], layer.bias_values[0], layer.bias_values[2])
    layer.up = layer.gate
    y = run(device, 5, lambda pipe, **given: layer.steps(pipe, **given, grouped=grouped), **inputs)
    layer.check(device, y, **inputs)
    layer.up = Layer(np.random.default_rng(4), 3, 32, 32, format).gate
    again = run(device, 5, lambda pipe, **given: layer.steps(pipe, **given, grouped=grouped), **inputs)
    assert again.tobytes() == y.tobytes()


@each("format, grouped, activation", FEW_FORMATS, [False, True], ["silu", "relu"])
def test_weights_that_count_on_inputs(device, format, grouped, activation):
    """Each expert gets the row times its weight; the row's result is the sum of theirs."""
    rng = np.random.default_rng(5)
    layer = Layer(rng, 3, 32, 32, format, activation=activation)
    inputs = layer.inputs(rng, 6, 3)
    inputs["ids"][2, 1] = ref.NONE

    def steps(pipe, **given):
        stacks = layer.gate, layer.up, layer.down
        return pipe.experts(*given.values(), *stacks, activation=activation, **options)

    options = {"grouped": grouped, "scales_inputs": True}
    y = run(device, 6, steps, **inputs)
    expected, alone = np.zeros_like(y), np.ones((6, 1), np.float32)
    for k in range(3):
        part = {"h": inputs["h"] * inputs["weights"][:, k : k + 1], "ids": inputs["ids"][:, k : k + 1]}
        values = (layer.gate_values, layer.up_values, layer.down_values)
        expected += ref.experts(
            **part, weights=alone, **dict(zip(("gate", "up", "down"), values)), activation=activation
        )
    assert_close(y, expected, 2e-4 * np.abs(expected).max())  # 16-bit activations cost a tenth of it, a weight all
    options["grouped"] = not grouped
    assert run(device, 6, steps, **inputs).tobytes() == y.tobytes()


@given(
    experts=st.integers(1, 7),
    rows=st.integers(1, 9),
    hidden=st.integers(1, 40),
    dim=st.integers(1, 40),
    bias=st.sampled_from([None, *PLAIN_FORMATS]),
    activation=st.sampled_from(["silu", "gelu_tanh", "swiglu_oai", "relu"]),
    grouped=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_activations_and_biases_of_any_size(device, experts, rows, hidden, dim, bias, activation, grouped, seed):
    rng = np.random.default_rng(seed)
    layer = Layer(rng, experts, hidden, dim, activation=activation, bias=bias)
    inputs = layer.inputs(rng, rows, rng.integers(1, experts + 1), scale=4.0)
    y = run(device, rows, lambda pipe, **given: layer.steps(pipe, **given, grouped=grouped), **inputs)
    layer.check(device, y, **inputs)


@each(
    "format, grouped, case",
    [("f32", 0), ("q4_f32", 32)],
    [False, True],
    [
        ("relu", 100, 2, 200),
        ("relu", -100, 2, 0),
        ("relu", np.nan, 1, np.nan),
        ("relu", -np.inf, 1, 0),
        ("gelu_tanh", 100, 2, 200),
        ("gelu_tanh", -100, 2, 0),
        ("gelu_tanh", 1e15, 1, 1e15),
        ("gelu_tanh", -1e15, 1, 0),
        ("swiglu_oai", 100, 100, 56),
        ("swiglu_oai", 100, -100, -42),
        ("swiglu_oai", -100, 3, 0),
        ("swiglu_oai", np.nan, 1, np.nan),
        ("swiglu_oai", 1, np.nan, np.nan),
        ("gelu_tanh", np.nan, 1, np.nan),
        ("swiglu_oai", np.inf, 1, 14),
        ("swiglu_oai", 7, -np.inf, -42),
        ("gelu_tanh", np.inf, 1, np.inf),
    ],
)
def test_far_out(processor, format, case, grouped):
    """Beyond the limits, where exp overflows, and where there is no number: gate and up are what the biases are. Not on
    the checker, which reports them."""
    (format, group), (activation, gate, up, expected) = format, case
    zeros = lambda *shape: matrix_of_zeros(shape, format, group)  # noqa: E731
    n = group or 8
    biases = tuple(np.full((1, n), value, np.float32) for value in (gate, up)) + (np.zeros((1, n), np.float32),)
    one = np.zeros((5, n), np.float32)
    inner = run(
        processor,
        5,
        lambda pipe, h, ids, weights: inner_of(
            pipe,
            pipe.experts(
                h,
                ids,
                weights,
                zeros(1, n, n),
                zeros(1, n, n),
                zeros(1, n, n),
                activation=activation,
                biases=biases,
                grouped=grouped,
            ),
        ),
        h=one,
        ids=np.zeros((5, 1), np.uint32),
        weights=np.ones((5, 1), np.float32),
    )
    np.testing.assert_allclose(inner.reshape(5, n), np.full((5, n), expected), rtol=1e-4, atol=1e-30)


def matrix_of_zeros(shape, format, group):
    if not group:
        return np.zeros(shape, np.float32)
    groups = (*shape[:-1], shape[-1] // group)
    return Quantized(
        np.zeros((*shape[:-1], shape[-1] // 8), np.uint32),
        np.zeros(groups, np.float32),
        np.zeros(groups, np.float32),
        4,
        group,
    )


def inner_of(pipe, y):
    """The values that gate and up made, in the step that was added last."""
    (gate_up,) = [dispatch for dispatch in pipe.dispatches if dispatch.step.endswith("gate_up")]
    return gate_up.writes[0]


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"activation": "tanh"}, BuildError, r"experts: activation = 'tanh'; choose silu, gelu_tanh, swiglu_oai, relu"),
        (
            {"scales_inputs": True, "biases": (np.zeros((6, 5), np.float32), None, None)},
            BuildError,
            "experts: scales_inputs goes without biases of gate and up",
        ),
        (
            {"biases": (None, None, np.zeros((6, 5), np.float32))},
            ShapeError,
            r"experts.down: the bias has shape \(6, 5\), expected \(6, 4\)",
        ),
        (
            {"biases": (None, None, np.zeros((6, 4), np.uint32))},
            DTypeError,
            "experts.down: the bias is u32, expected f32, f16 or bf16",
        ),
    ],
)
def test_what_experts_refuse(change, error, message):
    pipe = p.Pipeline(rows=2)
    h, ids, weights = pipe.input("h", (2, 4)), pipe.input("ids", (2, 3), "u32"), pipe.input("weights", (2, 3))
    gate, down = np.zeros((6, 5, 4), np.float32), np.zeros((6, 4, 5), np.float32)
    with pytest.raises(error, match=message):
        pipe.experts(h, ids, weights, gate, gate, down, **change)


# Gate and up in one stack


@pairs("interleaved, format, grouped", [False, True], [("f32", 0), ("q4_bf16", 32)], [False, True])
def test_gate_and_up_may_be_views_of_one_stack(device, interleaved, format, grouped):
    """Halves of each expert's rows, or every other row of them."""
    format, group = format
    rng, hidden, dim = np.random.default_rng(8), 35, group or 17
    both, values = matrix(rng, (6, 2 * hidden, dim), format, group)
    parts = (both,) if not group else (both.weight, both.scales, both.biases)
    views = []
    for which in (0, 1):
        first = which if interleaved else which * hidden
        tensors = tuple(rows_from(as_storage(part), first) for part in parts)
        weight = Weight("both", (6, hidden, dim), format, tensors, group, 2 * hidden, 2 if interleaved else 1)
        views.append((weight, values[:, first::2] if interleaved else values[:, first : first + hidden]))
    layer = Layer(rng, 6, hidden, dim)
    (layer.gate, layer.gate_values), (layer.up, layer.up_values) = views
    inputs = layer.inputs(rng, 5, 3)
    y = run(device, 5, lambda pipe, **given: layer.steps(pipe, **given, grouped=grouped), **inputs)
    layer.gate = layer.up = both  # for the bound
    layer.check(device, y, **inputs)


def rows_from(storage, first):
    """A stack [experts, rows, …] from row `first` of its first matrix to its end, as a flat tensor."""

    class From(Storage):
        def _allocate(self, device):
            buffer, offset = storage.on(device)
            return buffer, offset + first * storage.nbytes // (storage.shape[0] * storage.shape[1])

    count = (storage.shape[0] * storage.shape[1] - first) * storage.shape[2]
    view = From((count,), storage.dtype)
    return Tensor("both", view.shape, view.dtype, view, "weight")
