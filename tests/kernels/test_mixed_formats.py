"""Weights of one step whose formats differ, as mixed recipes of quantisation store them: gate and up of experts and of
MLPs, in formats, groups or biases, and experts of one stack."""

import numpy as np
import pytest
from support import reference as ref
from support.axes import axis, each
from support.experts import Layer, only_matrix
from support.kernels import assert_rows_alone, guarded_run, run, stored
from support.reference import NONE

from pipeline.device.choices import Choices
from pipeline.errors import BuildError, RunError
from pipeline.graph.weights import MixedStack

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
    [1, 3, Choices().grouped_rows, 9],
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
    [9, 1, Choices().grouped_rows],
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
@pytest.mark.parametrize("rows", [2, Choices().grouped_rows])
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


MEMBERS = ((0, 3, 4), (1,), (2, 5))


def mixed_stacks(rng, formats, size=64):
    """(stacks as MixedStack, their values [experts, outputs, inputs]): each part's gate, up and down in formats of its
    own."""
    layers = [Layer(rng, len(experts), size, size, *part) for experts, part in zip(MEMBERS, formats, strict=True)]
    stacks, values = [], []
    for name in ("gate", "up", "down"):
        stacks.append(MixedStack(MEMBERS, tuple(getattr(layer, name) for layer in layers)))
        whole = np.empty((6, size, size))
        for experts, layer in zip(MEMBERS, layers):
            whole[list(experts)] = getattr(layer, f"{name}_values")
        values.append(whole)
    return stacks, values


@each("rows, activation, scaled", [1, 3, 9], ["silu", "swiglu_oai", "relu"], [False, True])
def test_experts_of_one_stack(device, rows, activation, scaled):
    """Parts whose formats differ, one of which has gate and up apart, too; NONE, and an expert twice."""
    rng = np.random.default_rng(26)
    formats = [(("f32", 0), ("f16", 0)), (("bf16", 0), ("f32", 0)), (("f16", 0), ("f32", 0), "silu", None, ("f32", 0))]
    stacks, values = mixed_stacks(rng, formats)
    h = rng.normal(size=(rows, 64)).astype(np.float32) / 8
    ids = rng.integers(0, 6, (rows, 4)).astype(np.uint32)
    ids[0, 1], ids[-1, 2] = ids[0, 0], NONE
    weights = rng.random((rows, 4)).astype(np.float32)

    def steps(pipe, h, ids, weights):
        return pipe.experts(h, ids, weights, *stacks, activation=activation, scales_inputs=scaled)

    y = run(device, rows, steps, h=h, ids=ids, weights=weights)
    if scaled:
        pairs = [(row, k) for row in range(rows) for k in range(4)]
        expected = np.zeros((rows, 64))
        for row, k in pairs:
            one = ref.experts(
                weights[row, k] * h[row : row + 1], ids[row : row + 1, k : k + 1], [[1]], *values, activation
            )
            expected[row] += one[0]
    else:
        expected = ref.experts(h, ids, weights, *values, activation)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert_rows_alone(device, steps, h=h, ids=ids, weights=weights)


def test_an_expert_of_a_mixed_stack_is_the_same_in_a_stack_alone(device):
    """To the bit; and stacks of blocks, whose native kernels round activations."""
    rng = np.random.default_rng(27)
    formats = [[("gguf_q4_k", 256)] * 2, [("gguf_iq3_s", 256)] * 2, [("gguf_nvfp4", 64)] * 2]
    stacks, _ = mixed_stacks(rng, formats, 256)
    rows = 2 if device.name == "checker" else 5  # where each weight that a row reads takes long
    inputs = {"h": rng.normal(size=(rows, 256)).astype(np.float32), "weights": rng.random((rows, 2)).astype(np.float32)}
    for part, experts in enumerate(MEMBERS):
        chosen = rng.integers(0, len(experts), (rows, 2)).astype(np.uint32)
        own = [stack.parts[part] for stack in stacks]
        alone = run(
            device,
            rows,
            lambda pipe, h, weights, ids, own=own: pipe.experts(h, ids, weights, *own),
            ids=chosen,
            **inputs,
        )
        ids = np.array(experts, np.uint32)[chosen]
        mixed = run(
            device, rows, lambda pipe, h, weights, ids: pipe.experts(h, ids, weights, *stacks), ids=ids, **inputs
        )
        assert mixed.tobytes() == alone.tobytes()


def test_what_is_no_expert_of_a_mixed_stack_fails_its_row(device):
    stacks, _ = mixed_stacks(np.random.default_rng(28), [[("f32", 0)] * 2, [("f16", 0)] * 2, [("f32", 0)] * 2])
    inputs = {"h": np.ones((2, 64), np.float32), "weights": np.ones((2, 2), np.float32)}
    for wrong in (6, NONE - 1):
        ids = np.array([[0, 1], [2, wrong]], np.uint32)
        with pytest.raises(RunError, match="row 1: experts.part0 .*an id that is no expert"):
            run(device, 2, lambda pipe, h, weights, ids: pipe.experts(h, ids, weights, *stacks), ids=ids, **inputs)


def test_stacks_that_are_mixed_in_other_ways_are_refused(device):
    stacks, _ = mixed_stacks(np.random.default_rng(29), [[("f32", 0)] * 2, [("f16", 0)] * 2, [("f32", 0)] * 2])
    other = MixedStack((MEMBERS[1], MEMBERS[0], MEMBERS[2]), stacks[2].parts)
    inputs = {"h": np.ones((1, 64), np.float32), "weights": np.ones((1, 2), np.float32)}
    for down in (other, np.ones((6, 64, 64), np.float32)):
        with pytest.raises(BuildError, match="mixed stacks have the same parts"):
            run(
                device,
                1,
                lambda pipe, h, weights, ids, down=down: pipe.experts(h, ids, weights, *stacks[:2], down),
                ids=np.zeros((1, 2), np.uint32),
                **inputs,
            )
