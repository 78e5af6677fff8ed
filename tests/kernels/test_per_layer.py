"""Heads that go to no cache, and inputs of single layers, against their definitions."""

import numpy as np
import pytest
from support import reference as ref
from support.kernels import activations, assert_close, assert_rows_alone, matrix, run, stored

import pipeline as p
from pipeline.errors import BuildError, ShapeError

# These steps run kernels that others run, too, and that are tested with them on each device.
pytestmark = pytest.mark.one_processor

ROUNDING = 2e-5


@pytest.mark.parametrize("dim, half, interleaved", [(16, 8, False), (18, 4, True), (7, 0, False)])
@pytest.mark.parametrize("dtype", [None, "f32", "bf16"])
def test_heads(processor, dim, half, interleaved, dtype):
    rng = np.random.default_rng(dim)
    rows, heads = 5, 3
    x, positions = activations(rng, rows, heads * dim), rng.integers(0, 50, rows).astype(np.uint32)
    norm, values = stored(rng.normal(size=dim), dtype) if dtype else (None, None)
    inv_freq = rng.random(half).astype(np.float32) + np.float32(0.01)

    def steps(pipe, x, positions):
        table = pipe.rope_table(positions, inv_freq) if half else None
        return pipe.heads(x, heads, norm, table, 1e-5, interleaved=interleaved)

    expected = x.reshape(rows, heads, dim).astype(np.float64)
    if dtype:
        expected = ref.rms_norm(expected, values, 1e-5)
    if half:
        turned = ref.rope(expected[..., : 2 * half], positions, inv_freq, interleaved)
        expected = np.concatenate([turned, expected[..., 2 * half :]], -1)
    assert_close(run(processor, rows, steps, x=x, positions=positions), expected, ROUNDING * 5)
    assert_rows_alone(processor, steps, x=x, positions=positions)


def test_inputs_of_layers(processor):
    """Each layer's part of the sum goes through its gate; rows of a run may be fewer than the chain's."""
    rng = np.random.default_rng(3)
    rows, layers, dim, hidden = 6, 3, 8, 32
    embedded, projected, x = (activations(rng, rows, n) for n in (layers * dim, layers * dim, hidden))
    norm, norm_values = stored(rng.normal(size=dim), "f32")
    gates, projections = (
        [matrix(rng, shape, "bf16") for _ in range(layers)] for shape in ((dim, hidden), (hidden, dim))
    )

    def steps(pipe, embedded, projected, x):
        inputs = pipe.layer_inputs(embedded, projected, norm, layers, 1e-6)
        return tuple(
            pipe.gated_input(x, gate, own, projection, layers, name=f"layer_input.{i}")
            for i, (gate, own, projection) in enumerate(zip((g for g, _ in gates), inputs, (w for w, _ in projections)))
        )

    normed = ref.rms_norm(projected.reshape(rows, layers, dim).astype(np.float64), norm_values, 1e-6)
    own = embedded.reshape(rows, layers, dim) + normed
    made = {"embedded": embedded, "projected": projected, "x": x}
    for i, y in enumerate(run(processor, rows, steps, **made)):
        inner = ref.activate(x @ gates[i][1].T, own[:, i], "gelu_tanh")
        assert_close(y, inner @ projections[i][1].T, 1e-4 * np.abs(inner).max() * dim)
    assert_rows_alone(processor, steps, **made)


@pytest.mark.parametrize(
    "steps, error, words",
    [
        (lambda pipe, x: pipe.heads(x, 5), ShapeError, "x has 12 numbers, which are not 5 heads"),
        (lambda pipe, x: pipe.heads(x, 2, np.ones(4, np.float32)), ShapeError, "(6,)"),
        (
            lambda pipe, x: pipe.layer_inputs(x, x, np.ones(4, np.float32), 5, 1e-6),
            ShapeError,
            "which are not of 5 layers",
        ),
        (
            lambda pipe, x: pipe.gated_input(x, np.ones((4, 12), "f4"), x, np.ones((12, 4), "f4"), 3, "mish"),
            BuildError,
            "activation = 'mish'; choose",
        ),
        (
            lambda pipe, x: pipe.gated_input(x, np.ones((4, 12), "f4"), x, np.ones((12, 4), "f4"), 3),
            ShapeError,
            "x has shape (2, 12), expected (rows that 2 rows of 3 layers take, 4)",
        ),
        (
            lambda pipe, x: pipe.gated_input(x, np.ones((4, 12), "f4"), x, np.ones((11, 4), "f4"), 3),
            ShapeError,
            "(12, 4)",
        ),
    ],
)
def test_what_is_refused(steps, error, words):
    pipe = p.Pipeline(rows=2)
    with pytest.raises(error) as refused:
        steps(pipe, pipe.input("x", (2, 12)))
    assert words in str(refused.value)
