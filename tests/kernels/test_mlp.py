"""What projections do with their products, dense MLPs, and such beside the experts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import axis, each, pairs
from support.experts import Layer
from support.kernels import (
    DOT,
    ELEMENTARY,
    PLAIN_FORMATS,
    activations,
    assert_close,
    assert_rows_alone,
    chain,
    check_product,
    dot_bound,
    guarded_run,
    matrix,
    run,
    stored,
    stored_activations,
)

import pipeline as p
from pipeline.device.choices import Choices
from pipeline.errors import BuildError, DTypeError, ShapeError
from pipeline.graph.steps.experts import Mlp

# One of floats, which all multiply with the same code, and both of those that have native kernels.
FORMATS = axis(
    [("f32", 0), ("bf16", 0), ("q4_bf16", 32), ("q8_f16", 32)], daily=[("bf16", 0), ("q4_bf16", 32), ("q8_f16", 32)]
)
ACTIVATIONS = ("silu", "gelu_tanh", "swiglu_oai", "relu")


# Projections


def projected(x, values, bias=0.0, scale=1.0, softcap=0.0, gate=None, add=0.0):
    """add + softcap(scale · σ(gate) · (x · values' + bias))."""
    y = x.astype(np.float64) @ values.T + bias
    if gate is not None:
        y = y * ref.sigmoid(gate)
    return add + (softcap * np.tanh(scale * y / softcap) if softcap else scale * y)


def bound_of(device, x, weight, values, extra, scale=1.0):
    """Of a product with its bias, times the scale; tanh and σ make nothing larger."""
    size = np.abs(x.astype(np.float64)) @ np.abs(values).T + np.abs(extra)
    return (
        abs(scale) * ((dot_bound(weight) + ELEMENTARY) * size + stored_activations(device, x, weight, values)) + 1e-30
    )


@pairs("format, dtype", FORMATS, PLAIN_FORMATS)
def test_a_bias_is_added(device, format, dtype):
    rng = np.random.default_rng(1)
    inputs = format[1] * 3 or 37
    for rows, outputs in ((1, 33), (5, 17), (9, 1)):
        weight, values = matrix(rng, (outputs, inputs), *format)
        bias, bias_values = stored(rng.normal(size=outputs) * 10, dtype)
        x = activations(rng, rows, inputs)
        y = run(device, rows, lambda pipe, x, w=weight, b=bias: pipe.linear(x, w, b), x=x)
        assert_close(y, projected(x, values, bias_values), bound_of(device, x, weight, values, bias_values))


@each("format", FORMATS)
def test_three_biases_or_some(device, format):
    rng = np.random.default_rng(2)
    inputs = format[1] * 2 or 37
    sizes, dtypes = (33, 9, 17), ("bf16", None, "f32")
    pairs = [matrix(rng, (outputs, inputs), *format) for outputs in sizes]
    biases = [(None, 0.0) if dtype is None else stored(rng.normal(size=n), dtype) for n, dtype in zip(sizes, dtypes)]
    x = activations(rng, 5, inputs)
    made = chain(device, 5, lambda pipe, x: pipe.linear3(x, [w for w, _ in pairs], "qkv", [b for b, _ in biases]), x=x)
    assert len(made) == 1
    for y, (weight, values), (_, bias) in zip(made.run(x=x), pairs, biases):
        assert_close(y, projected(x, values, bias), bound_of(device, x, weight, values, bias))


def test_three_of_different_formats_keep_their_biases(device):
    rng = np.random.default_rng(3)
    pairs = [matrix(rng, (9, 64), *format) for format in (("q4_bf16", 64), ("q8_bf16", 32), ("bf16", 0))]
    biases = [rng.normal(size=9).astype(np.float32) for _ in range(3)]
    x = activations(rng, 2, 64)
    for y, (weight, values), bias in zip(
        run(device, 2, lambda pipe, x: pipe.linear3(x, [w for w, _ in pairs], "qkv", biases), x=x), pairs, biases
    ):
        assert_close(y, projected(x, values, bias), bound_of(device, x, weight, values, bias))


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_softcap_of_what_is_no_number(device, odd):
    """Capped, it would look like the output of a model that works."""
    x, (weight, _) = np.ones((2, 64), np.float32), matrix(np.random.default_rng(4), (24, 64), "bf16", 0)
    x[1, 5] = odd
    y = run(device, 2, lambda pipe, x: pipe.linear(x, weight, softcap=30.0), x=x)
    assert (np.abs(y[0]) <= 30).all() and np.isnan(y[1]).all()


@each("format, softcap", FORMATS, [30.0, 0.5])
def test_softcap(device, format, softcap):
    rng = np.random.default_rng(4)
    inputs = format[1] * 2 or 65
    weight, values = matrix(rng, (67, inputs), *format)
    for rows, size in ((1, 0.01), (3, 1.0), (9, 30.0)):
        x = activations(rng, rows, inputs) * np.float32(size)
        y = run(device, rows, lambda pipe, x: pipe.linear(x, weight, softcap=softcap), x=x)
        assert (np.abs(y) <= softcap).all()
        assert_close(y, projected(x, values, softcap=softcap), bound_of(device, x, weight, values, 0.0))


@each("format", FORMATS)
def test_all_that_can_be_asked_for_at_once(device, format):
    rng = np.random.default_rng(5)
    inputs = format[1] * 2 or 65
    weight, values = matrix(rng, (35, inputs), *format)
    bias = rng.normal(size=35).astype(np.float32)
    for rows in (1, 3, 4, 9):
        given = {
            "x": activations(rng, rows, inputs),
            "gate": activations(rng, rows, 1) * 3,
            "add": activations(rng, rows, 35),
        }

        def steps(pipe, x, gate, add):
            return (
                pipe.linear(x, weight, bias, "a", scale=0.25, gate=gate, add=add),
                pipe.linear(x, weight, bias, "b", scale=-2.0, softcap=5.0, gate=gate, add=add),
            )

        a, b = run(device, rows, steps, **given)
        x, gate, add = given.values()
        size = np.abs(bias) + np.abs(add)
        assert_close(
            a, projected(x, values, bias, 0.25, gate=gate, add=add), bound_of(device, x, weight, values, size * 4, 0.25)
        )
        assert_close(
            b, projected(x, values, bias, -2.0, 5.0, gate, add), bound_of(device, x, weight, values, size, 2.0)
        )
        assert_rows_alone(device, steps, **given)


def test_an_epilogue_keeps_what_is_no_number_in_its_place(processor):
    """Not on the checker, which reports it."""
    x, add = np.ones((5, 64), np.float32), np.zeros((5, 19), np.float32)
    x[1, 3], x[3, 0], add[4, 7] = np.nan, np.inf, np.nan
    bias = np.zeros(19, np.float32)
    bias[18] = np.nan
    for weight in (np.ones((19, 64), np.float32), p.quantize(np.ones((19, 64), np.float32), 4, 32)):
        y = run(
            processor, 5, lambda pipe, x, add, w=weight: pipe.linear(x, w, bias, softcap=2.0, add=add), x=x, add=add
        )
        assert np.isnan(y[1]).all() and np.isnan(y[:, 18]).all() and np.isnan(y[4, 7])
        finite = np.isfinite(y[:, :18])
        finite[1], finite[3], finite[4, 7] = True, True, True
        assert finite.all() and (y[[0, 2]][:, :18] == 2).all()
        assert np.isnan(y[3, :18]).all()  # ∞ is not capped: see above


@pytest.mark.one_processor
@each("format, scale", FORMATS, [1.0, 8.0, 0.0625, float(np.float32(33.941125))])
def test_embeddings_are_scaled(device, format, scale):
    rng = np.random.default_rng(6)
    weight, values = matrix(rng, (17, format[1] or 33), *format)
    tokens = np.array([0, 16, 8, 17, 3], np.uint32)
    y = run(device, 5, lambda pipe, tokens: pipe.embed(tokens, weight, scale), tokens=tokens)
    expected = np.where(tokens[:, None] < 17, values[np.minimum(tokens, 16)] * scale, 0)
    assert_close(y, expected, 2.0**-22 * np.abs(values).max() * scale)


X = ("x", (2, 6))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"bias": np.zeros(5, np.float32)}, ShapeError, r"linear: the bias has shape \(5,\), expected \(4,\)"),
        ({"bias": np.zeros(4, np.uint32)}, DTypeError, "linear: the bias is u32, expected f32, f16 or bf16"),
        ({"softcap": -1.0}, BuildError, "linear: softcap = -1.0 must be above 0, or 0 for none"),
        ({"softcap": np.nan}, BuildError, "linear: softcap = nan must be a number, finite in f32"),
        ({"scale": np.inf}, BuildError, "linear: scale = inf must be a number, finite in f32"),
        ({"scale": "2"}, BuildError, "linear: scale = '2' must be a number"),
        ({"add": X}, ShapeError, r"linear: x has shape \(2, 6\), expected \(2, 4\)"),
        ({"gate": X}, ShapeError, r"linear: x has shape \(2, 6\), expected \(2, 1\)"),
    ],
)
def test_what_projections_refuse(arguments, error, message):
    pipe = p.Pipeline(rows=2)
    x = pipe.input(*X)
    with pytest.raises(error, match=message):
        pipe.linear(
            x, np.zeros((4, 6), np.float32), **{name: x if value is X else value for name, value in arguments.items()}
        )


# Dense MLPs


class Dense(Layer):
    """A layer of one expert, as a dense MLP."""

    def __init__(self, rng, hidden, dim, format=("f32", 0), activation="silu", bias=None):
        super().__init__(rng, 1, hidden, dim, format, activation=activation, bias=bias)
        self.matrices = []
        for weight in (self.gate, self.up, self.down):
            if isinstance(weight, p.Quantized):
                weight = p.Quantized(
                    weight.weight[0], weight.scales.part(0), weight.biases.part(0), weight.bits, weight.group_size
                )
            else:
                weight = weight.part(0)
            self.matrices.append(weight)
        self.vectors = None if self.biases is None else tuple(part.part(0) for part in self.biases)

    def mlp(self, pipe, x):
        return pipe.mlp(x, *self.matrices, self.activation, biases=self.vectors)

    def check(self, device, y, x):
        rows = len(x)
        super().check(device, y, x, np.zeros((rows, 1), np.uint32), np.ones((rows, 1)))


@pairs("format, activation, bias", FORMATS, ACTIVATIONS, [None, "bf16"])
def test_mlp(device, format, activation, bias):
    rng = np.random.default_rng(7)
    layer = Dense(rng, 2 * format[1] or 35, 2 * format[1] or 17, format, activation, bias)
    for rows in (1, 3, Choices().grouped_rows, 9):
        x = layer.inputs(rng, rows, 1)["h"]
        made = chain(device, rows, layer.mlp, x=x)
        assert [dispatch.step for dispatch in made.plan.dispatches] == ["mlp.gate_up", "mlp.down"]
        layer.check(device, made.run(x=x), x)


@given(
    rows=st.integers(1, 9),
    hidden=st.integers(1, 50),
    dim=st.integers(1, 50),
    activation=st.sampled_from(ACTIVATIONS),
    format=st.sampled_from(PLAIN_FORMATS),
    bias=st.sampled_from([None, *PLAIN_FORMATS]),
    seed=st.integers(0, 1000),
)
def test_mlps_of_any_size(device, rows, hidden, dim, activation, format, bias, seed):
    rng = np.random.default_rng(seed)
    layer = Dense(rng, hidden, dim, (format, 0), activation, bias)
    x = layer.inputs(rng, rows, 1)["h"]
    layer.check(device, run(device, rows, layer.mlp, x=x), x)


@each("format", FORMATS)
def test_rows_of_an_mlp_do_not_depend_on_each_other(device, format):
    """Also where few rows go another way than many."""
    rng = np.random.default_rng(8)
    layer = Dense(rng, 3 * format[1] or 33, format[1] or 31, format, "gelu_tanh", "f32")
    assert_rows_alone(device, layer.mlp, x=layer.inputs(rng, 9, 1)["h"])


def test_an_mlp_of_fewer_rows(device):
    rng = np.random.default_rng(9)
    layer = Dense(rng, 33, 17)
    x = layer.inputs(rng, 9, 1)["h"]
    made = chain(device, 9, layer.mlp, x=x)
    made.view(made.plan.outputs[0])[:] = -7
    y = made.run(rows=5, x=x)
    layer.check(device, y[:5], x[:5])
    assert (y[8:] == -7).all()


@pytest.mark.parametrize("rows", [3, 9])
def test_an_mlp_stays_within_its_memory(device, rows):
    rng = np.random.default_rng(10)
    layer = Dense(rng, 33, 17, bias="bf16")
    x = layer.inputs(rng, rows, 1)["h"]
    layer.check(device, guarded_run(device, rows, layer.mlp, spare=2, x=x), x)


def test_what_an_mlp_refuses():
    pipe = p.Pipeline(rows=2)
    x, up, down = pipe.input("x", (2, 4)), np.zeros((5, 4), np.float32), np.zeros((4, 5), np.float32)
    with pytest.raises(ShapeError, match=r"mlp: mlp.up_proj.weight has shape \(1, 4, 5\), expected \(1, 5, 4\)"):
        pipe.mlp(x, up, down, down)
    with pytest.raises(BuildError, match="mlp: activation = 'tanh'; choose silu, gelu_tanh, swiglu_oai, relu"):
        pipe.mlp(x, up, up, down, "tanh")
    with pytest.raises(ShapeError, match=r"mlp.gate: the bias has shape \(4,\), expected \(5,\)"):
        pipe.mlp(x, up, up, down, biases=(np.zeros(4, np.float32),) * 3)


# Beside the experts


@pairs("format, gated, rows", FORMATS, [False, True], [1, 3, 5, 9])
def test_a_shared_expert_is_added(device, format, gated, rows):
    rng = np.random.default_rng(11)
    size = format[1] or 31
    layer, dense = Layer(rng, 4, size, 2 * size, format), Dense(rng, 3 * size, 2 * size, format)
    logit, logit_values = matrix(rng, (1, 2 * size), *format) if gated else (None, None)
    inputs = layer.inputs(rng, rows, 2)
    inputs["weights"][:] = 1
    shared = Mlp(*dense.matrices, logit)

    def steps(pipe, h, ids, weights):
        both = pipe.experts(h, ids, weights, layer.gate, layer.up, layer.down, "both", shared=shared)
        gate = pipe.linear(h, logit, name="logit") if gated else None
        routed = pipe.experts(h, ids, weights, layer.gate, layer.up, layer.down)
        return both, routed, pipe.mlp(h, *dense.matrices), *((gate,) if gated else ())

    both, routed, alone, *gates = run(device, rows, steps, **inputs)
    dense.check(device, alone, inputs["h"])
    share = ref.sigmoid(gates[0]) if gated else 1.0
    if gated:
        check_product(device, gates[0], inputs["h"], logit, logit_values)
    expected = routed.astype(np.float64) + share * alone
    assert_close(both, expected, ELEMENTARY * (np.abs(routed) + np.abs(alone)) + DOT * 1e-6)


def test_dispatches_of_a_shared_expert():
    pipe = p.Pipeline(rows=1)
    h, ids, weights = pipe.input("h", (1, 4)), pipe.input("ids", (1, 2), "u32"), pipe.input("weights", (1, 2))
    up, down = np.zeros((6, 5, 4), np.float32), np.zeros((6, 4, 5), np.float32)
    pipe.experts(h, ids, weights, up, up, down, shared=(up[0], up[0], down[0], np.zeros((1, 4), np.float32)))
    assert [dispatch.step for dispatch in pipe.dispatches] == [
        "clear_status",
        "experts.gate_up",
        "experts.down",
        "experts.shared.gate",
        "experts.shared.gate_up",
        "experts.shared.down",
    ]
    with pytest.raises(
        ShapeError, match=r"experts.shared.down: .* has shape \(1, 7\), expected \(1, 4\)|experts.shared"
    ):
        pipe.experts(h, ids, weights, up, up, down, shared=(up[0], up[0], np.zeros((7, 5), np.float32)))
