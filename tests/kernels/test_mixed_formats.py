"""Gate and up whose formats, groups or biases differ, as mixed recipes of quantisation store them: experts and MLPs."""

import numpy as np
import pytest
from support.axes import axis, each
from support.experts import Layer, only_matrix
from support.kernels import assert_rows_alone, guarded_run, run, stored
from support.reference import NONE

from pipeline.graph.steps.experts import GROUPED_ROWS

ACTIVATIONS = ("silu", "gelu_tanh", "swiglu_oai", "relu")
# (gate, up): other bits, other groups, other scales, other blocks, other numbers.
MIXED = [
    (("q4_bf16", 64), ("q8_f16", 64)),
    (("q4_f16", 32), ("q4_f16", 64)),
    (("q6_f32", 64), ("bf16", 0)),
    (("gguf_q4_k", 256), ("gguf_q6_k", 256)),
    (("gguf_q8_0", 32), ("gguf_q4_k", 256)),
    (("gguf_iq4_xs", 256), ("gguf_q3_k", 256)),
    (("mxfp4", 32), ("q4_bf16", 32)),
    (("f32", 0), ("f16", 0)),
]


def layer_of(rng, formats, activation="silu", bias=None, experts=5):
    """Gate and up in two formats, of as many inputs as both have whole groups."""
    gate, up = formats
    size = max(gate[1], up[1]) or 33
    return Layer(rng, experts, size, size, up, ("f32", 0), activation, bias, gate)


@each(
    "formats, activation, bias, rows",
    axis(MIXED, on_checker=[MIXED[0], MIXED[-1]]),
    ACTIVATIONS,
    [None, "bf16"],
    [1, 3, GROUPED_ROWS, 9],
)
def test_experts(device, formats, activation, bias, rows):
    """Row by row and expert by expert, with the same bits."""
    rng = np.random.default_rng(21)
    layer = layer_of(rng, formats, activation, bias)
    inputs = layer.inputs(rng, rows, 3)
    results = []
    for grouped in (False, True):
        y = run(
            device, rows, lambda pipe, grouped=grouped, **given: layer.steps(pipe, **given, grouped=grouped), **inputs
        )
        layer.check(device, y, **inputs)
        results.append(y)
    np.testing.assert_array_equal(results[0].view(np.uint32), results[1].view(np.uint32))


@each(
    "formats, activation, bias, rows",
    axis(MIXED, on_checker=[MIXED[1], MIXED[-1]]),
    ACTIVATIONS,
    ["f16", None],
    [9, 1, GROUPED_ROWS],
)
def test_mlps(device, formats, activation, bias, rows):
    rng = np.random.default_rng(22)
    layer = layer_of(rng, formats, activation, bias, experts=1)
    matrices = [only_matrix(weight) for weight in (layer.gate, layer.up, layer.down)]
    biases = None if layer.biases is None else tuple(each.part(0) for each in layer.biases)
    x = layer.inputs(rng, rows, 1)["h"]

    def steps(pipe, x):
        return pipe.mlp(x, *matrices, activation, biases=biases)

    y = run(device, rows, steps, x=x)
    layer.check(device, y, x, np.zeros((rows, 1), np.uint32), np.ones((rows, 1)))
    if rows > 1:
        assert_rows_alone(device, steps, x=x)


@pytest.mark.parametrize("kinds", [("f32", "bf16"), ("f16", None), (None, "f32")])
@pytest.mark.parametrize("rows", [2, GROUPED_ROWS])
def test_biases_of_gate_and_up_may_differ(device, kinds, rows):
    """In their dtypes, or in that there is one."""
    rng = np.random.default_rng(23)
    layer = Layer(rng, 4, 17, 33)
    found = [(None, np.zeros((4, 17))) if kind is None else stored(rng.normal(size=(4, 17)), kind) for kind in kinds]
    (gate, gate_values), (up, up_values) = found
    layer.biases, layer.bias_values = (gate, up, None), (gate_values, up_values, np.zeros((4, 33)))
    inputs = layer.inputs(rng, rows, 2)
    layer.check(device, run(device, rows, layer.steps, **inputs), **inputs)


@pytest.mark.parametrize("grouped", [False, True])
def test_no_expert_adds_nothing(device, grouped):
    """Nothing reads the products that nobody made."""
    rng = np.random.default_rng(25)
    layer = layer_of(rng, MIXED[-1])
    inputs = layer.inputs(rng, 4, 3)
    inputs["ids"][0] = inputs["ids"][1, 0] = inputs["ids"][2, 1] = inputs["ids"][3, 2] = NONE
    y = run(device, 4, lambda pipe, **given: layer.steps(pipe, **given, grouped=grouped), **inputs)
    layer.check(device, y, **inputs)
    assert (y[0] == 0).all()


def test_mixed_experts_stay_within_their_memory(device):
    rng = np.random.default_rng(24)
    layer = layer_of(rng, MIXED[-1])
    for rows in (3, 7):
        inputs = layer.inputs(rng, rows, 2)
        layer.check(device, guarded_run(device, rows, layer.steps, spare=2, **inputs), **inputs)
