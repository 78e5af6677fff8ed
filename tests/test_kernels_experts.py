"""Expert matrices chosen by ids on the device."""

import contextlib

import numpy as np
import pytest
import reference as ref
from hypothesis import given
from hypothesis import strategies as st
from support import (
    DOT,
    FORMATS_AND_GROUPS,
    PLAIN_FORMATS,
    activations,
    assert_close,
    assert_rows_alone,
    guarded_chain,
    matrix,
    run,
    stored_activations,
)

from pipeline.errors import RunError


class Layer:
    """Random experts: gate and up [experts, hidden, dim], down [experts, dim, hidden]."""

    def __init__(self, rng, experts, hidden, dim, up_format=("f32", 0), down_format=None):
        down_format = down_format or up_format
        self.gate, self.gate_values = matrix(rng, (experts, hidden, dim), *up_format)
        self.up, self.up_values = matrix(rng, (experts, hidden, dim), *up_format)
        self.down, self.down_values = matrix(rng, (experts, dim, hidden), *down_format)
        self.size = experts

    def steps(self, pipe, h, ids, weights):
        return pipe.experts(h, ids, weights, self.gate, self.up, self.down, grouped=False)

    def inputs(self, rng, rows, top_k, scale=1.0):
        dim = self.gate_values.shape[2]
        ids = np.array([rng.permutation(self.size)[:top_k] for _ in range(rows)], np.uint32)
        weights = rng.random((rows, top_k)).astype(np.float32)
        return {"h": activations(rng, rows, dim) * np.float32(scale / dim**0.5), "ids": ids, "weights": weights}

    def check(self, device, y, h, ids, weights):
        expected = ref.experts(h, ids, weights, self.gate_values, self.up_values, self.down_values)
        # Each product's error follows its sum of absolute values; silu(g) grows with a slope of 1.1 at most.
        bound, x = np.zeros_like(expected), np.abs(h.astype(np.float64))
        for row in range(len(h)):
            for expert, weight in zip(ids[row], weights[row]):
                if expert != ref.NONE:
                    gate, up = np.abs(self.gate_values[expert]) @ x[row], np.abs(self.up_values[expert]) @ x[row]
                    bound[row] += 2 * DOT * np.abs(weight) * (np.abs(self.down_values[expert]) @ (gate * up))
                    bound[row] += np.abs(weight) * self.rounded(device, h[row].astype(np.float64), expert)
        assert_close(y, expected, bound)

    def rounded(self, device, x, expert):
        """What 16-bit activations may cost of one expert's output."""
        gate, up, down = self.gate_values[expert], self.up_values[expert], self.down_values[expert]
        g, u = gate @ x, up @ x
        dg = stored_activations(device, x, self.gate, gate) + DOT * np.abs(g)
        du = stored_activations(device, x, self.up, up) + DOT * np.abs(u)
        inner = ref.silu(g) * u
        return (np.abs(down) @ (1.1 * dg * (np.abs(u) + du) + du * np.abs(ref.silu(g))) * device.native
                + stored_activations(device, inner * (1 + DOT), self.down, down))


@pytest.mark.parametrize("format", FORMATS_AND_GROUPS, ids=lambda f: f"{f[0]}-{f[1]}")
def test_every_format(device, format):
    rng = np.random.default_rng(1)
    size = format[1] or 33
    layer = Layer(rng, 6, 2 * size, size, format)
    for rows, top_k in ((1, 1), (3, 4), (5, 6)):
        inputs = layer.inputs(rng, rows, top_k)
        layer.check(device, run(device, rows, layer.steps, **inputs), **inputs)


@pytest.mark.parametrize("experts", [1, 6, 48, 60, 96, 257])
@pytest.mark.parametrize("hidden, dim", [(1, 1), (31, 17), (7, 257)])
def test_every_size(device, experts, hidden, dim):
    rng = np.random.default_rng(experts)
    layer = Layer(rng, experts, hidden, dim)
    inputs = layer.inputs(rng, 3, min(experts, 8))
    layer.check(device, run(device, 3, layer.steps, **inputs), **inputs)


@given(experts=st.integers(1, 12), rows=st.integers(1, 9), hidden=st.integers(1, 70), dim=st.integers(1, 70),
       format=st.sampled_from(PLAIN_FORMATS), seed=st.integers(0, 1000))
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
        y = run(device, 1, lambda pipe, h, ids, weights: pipe.experts(h, ids, weights, gate, one, one),
                h=np.ones((1, 1), np.float32), ids=np.zeros((1, 1), np.uint32), weights=np.ones((1, 1), np.float32))
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


@pytest.mark.parametrize("bad", [6, 7, 1000, ref.NONE])
@pytest.mark.parametrize("format", [("f32", 0), ("q4_bf16", 32)], ids=["f32", "q4"])
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
