"""Activations staged once for all projections that read them: the bits of a row alone, whose threadgroups stage it."""

import numpy as np
import pytest
from support.axes import each
from support.kernels import activations, assert_rows_alone, chain, matrix

import pipeline as p
from pipeline.device.choices import Choices
from pipeline.graph.builder import Pipeline

STAGED_ROWS = Choices().staged_rows
ROWS = STAGED_ROWS + 3


@pytest.fixture
def gpu(device):
    if not device.tensor_cores:
        pytest.skip("needs a GPU whose tensor cores the kernels use")
    return device


def kernels_of(device, steps, **inputs):
    return [dispatch.kernel for dispatch in chain(device, ROWS, steps, **inputs).plan.dispatches]


@each("format, inputs", ["q4_bf16", "q8_bf16", "q4_f32", "q8_f16"], [768, 1024, 2304])
def test_projections(gpu, format, inputs):
    rng = np.random.default_rng(inputs)
    weights = [matrix(rng, (outputs, inputs), format)[0] for outputs in (33, 16, 40, 20)]

    def steps(pipe, x, add):
        return *pipe.linear3(x, weights[:3], ("q", "k", "v")), pipe.linear(x, weights[3], add=add)

    given = {"x": activations(rng, ROWS, inputs), "add": activations(rng, ROWS, 20)}
    assert_rows_alone(gpu, steps, **given)
    made = kernels_of(gpu, steps, **given)
    assert [name for name in made if "stag" in name] == [
        f"stage_activations_{format[:2]}",
        f"staged_linear3_{format}",
        f"staged_linear_{format}",
    ]


@each("format", ["q4_bf16", "q8_f32"])
def test_experts(gpu, format):
    rng = np.random.default_rng(5)
    gate, up, down = (matrix(rng, shape, format)[0] for shape in ((6, 768, 1024), (6, 768, 1024), (6, 1024, 768)))
    dense = [matrix(rng, shape, format)[0] for shape in ((768, 1024), (768, 1024), (1024, 768))]

    def steps(pipe, x, ids, mix):
        return pipe.experts(x, ids, mix, gate, up, down), pipe.mlp(x, *dense)

    ids = np.stack([rng.permutation(6)[:3] for _ in range(ROWS)]).astype(np.uint32)
    ids[1, 2] = ids[4, 0] = 0xFFFFFFFF  # no expert
    mix = np.abs(activations(rng, ROWS, 3))
    given = {"x": activations(rng, ROWS, 1024), "ids": ids, "mix": mix}
    assert_rows_alone(gpu, steps, **given)
    made = kernels_of(gpu, steps, **given)
    assert {f"staged_experts_gate_up_grouped_{format}", f"staged_experts_down_grouped_{format}"} <= set(made)
    assert not any(name.startswith(("experts_gate_up_grouped", "experts_down_grouped")) for name in made)


@pytest.mark.parametrize("rows, stages", [(STAGED_ROWS, 2), (STAGED_ROWS - 1, 0)])
def test_a_value_is_staged_once_until_something_writes_it(monkeypatch, rows, stages):
    monkeypatch.setattr(Pipeline, "tensor_cores", property(lambda self: True))
    weights = [matrix(np.random.default_rng(i), (16, 768), "q4_bf16")[0] for i in range(3)]
    pipe = p.Pipeline(rows=rows)
    x, other = (pipe.rms_norm(pipe.input(name, (rows, 768)), name=f"norm.{name}") for name in ("x", "other"))
    for i in range(2):
        pipe.linear(x, weights[i], name=f"before.{i}")
    pipe.fused_residual_norm(x, other, out_sum=x)
    pipe.linear(x, weights[2], name="after")
    staged = [dispatch.step for dispatch in pipe.dispatches if dispatch.kernel == "stage_activations_q4"]
    assert staged == ["before.0.staged", "after.staged"][:stages]
