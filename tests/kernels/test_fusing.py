"""Norms and routing on the way into the kernels that read them: the bits of a dispatch for each."""

import numpy as np
import pytest
from support.axes import each
from support.kernels import activations, chain, matrix, stored

import pipeline as p
from pipeline.graph import builder
from pipeline.graph.builder import Pipeline

EXPERTS = 16
FUSED = ["row_squares", "row_linear", "row_gate_up", "row_down", "row_linear3", "row_linear"]
MET = [*FUSED[:2], "row_experts", *FUSED[4:]]  # where threadgroups meet

# (columns, those of the experts' middle): a simdgroup has one chunk, or several.
SIZES = [(1024, 768), (2048, 768), (768, 1024), (4096, 1024)]


@pytest.fixture
def gpu(device):
    if not device.tensor_cores:
        pytest.skip("needs a GPU whose tensor cores the kernels use")
    return device


def layer(rng, format, dtype, columns, hidden, experts=EXPERTS):
    """The weights of two halves of a layer: o_proj; norm; router and experts; norm; q, k and v."""
    made = {
        name: matrix(rng, shape, kind)[0]
        for name, shape, kind in (
            ("o", (columns, 1024), format),
            ("router", (experts, columns), f"q8_{dtype}"),
            ("gate", (experts, hidden, columns), format),
            ("up", (experts, hidden, columns), format),
            ("down", (experts, columns, hidden), format),
            ("q", (96, columns), format),
            ("k", (32, columns), format),
            ("v", (32, columns), format),
            ("head", (17008 if columns <= 1024 else 2064, columns), format),  # several tiles per threadgroup
        )
    }
    return made, [stored(1 + rng.normal(size=columns) / 8, dtype)[0] for _ in range(2)]


def steps_of(weights, norms, top_k=3, renormalise=True, offset=0.0):
    def steps(pipe, x, attended):
        o = pipe.linear(attended, weights["o"], name="o")
        x, h = pipe.fused_residual_norm(x, o, norms[0], 1e-6, name="post_norm", weight_offset=offset)
        ids, mix = pipe.moe_router(h, weights["router"], top_k, renormalise)
        y = pipe.experts(h, ids, mix, weights["gate"], weights["up"], weights["down"])
        x, h = pipe.fused_residual_norm(x, y, norms[1], 1e-6, name="input_norm", weight_offset=offset)
        return x, *pipe.linear3(h, [weights[name] for name in "qkv"], ("q", "k", "v")), pipe.linear(h, weights["head"])

    return steps


def apart(make):
    """make() with a dispatch for each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "fuse", lambda dispatches, *others: list(dispatches))
        return make()


@each(
    "format, dtype, size, rows, renormalise, offset",
    ["q4", "q8"],
    ["bf16", "f32", "f16"],
    SIZES,
    [1, 2, 3],
    [True, False],
    [0.0, 1.0],
)
def test_bits_are_those_of_a_dispatch_for_each(gpu, format, dtype, size, rows, renormalise, offset):
    rng = np.random.default_rng(rows)
    weights, norms = layer(rng, f"{format}_{dtype}", dtype, *size)
    steps = steps_of(weights, norms, renormalise=renormalise, offset=offset)
    given = {"x": activations(rng, rows, size[0]), "attended": activations(rng, rows, 1024)}

    def once():
        chained = chain(gpu, rows, steps, **given)
        return chained.run(**given), [dispatch.kernel for dispatch in chained.plan.dispatches]

    made, kernels = once()
    expected, _ = apart(once)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(made, expected))
    assert [name.rpartition("_q")[0] for name in kernels[1:]] in (FUSED, MET)


@each(
    "format, size, top_k, renormalise",
    ["q4_bf16", "q8_bf16", "q4_f32"],
    [(1024, 1536), (768, 1024)],
    [3, 4],
    [True, False],
)
def test_threadgroups_meet_between_the_halves_of_experts(gpu, format, size, top_k, renormalise):
    rng = np.random.default_rng(top_k)
    weights, norms = layer(rng, format, format[3:], *size)
    steps = steps_of(weights, norms, top_k, renormalise)
    given = {"x": activations(rng, 1, size[0]), "attended": activations(rng, 1, 1024)}
    chained = chain(gpu, 1, steps, **given)
    assert [dispatch.kernel.rpartition("_q")[0] for dispatch in chained.plan.dispatches][1:] == MET
    expected = apart(lambda: chain(gpu, 1, steps, **given).run(**given))
    for _ in range(50):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(chained.run(**given), expected))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_without_a_number_fail_as_they_do_apart(gpu, bad):
    rng = np.random.default_rng(3)
    weights, norms = layer(rng, "q4_bf16", "bf16", 1024, 768)
    given = {"x": activations(rng, 3, 1024), "attended": activations(rng, 3, 1024)}
    given["x"][1, 7] = bad

    def once():
        chained = chain(gpu, 3, steps_of(weights, norms), **given)
        with pytest.raises(p.errors.RunError) as raised:
            chained.run(**given)
        return str(raised.value), [chained.read(tensor)[::2].tobytes() for tensor in chained.plan.outputs]

    assert once() == apart(once)


# -- which dispatches there are, without a GPU -----------------------------------------------------


@pytest.fixture
def tensor_cores(monkeypatch):
    monkeypatch.setattr(Pipeline, "tensor_cores", property(lambda self: True))


def kernels_of(steps, rows=1, outputs=slice(None)):
    pipe = p.Pipeline(rows=rows)
    made = steps(pipe, pipe.input("x", (rows, 1024)), pipe.input("attended", (rows, 1024)))
    kernels = [dispatch.kernel for dispatch in pipe.plan(made[outputs]).dispatches]
    return [name.rpartition("_q")[0] if name.startswith("row_") else name for name in kernels if name != "clear_status"]


APART = [
    *("linear_q4_bf16", "fused_residual_norm_f32_bf16", "linear_q8_bf16", "moe_routing_f32", "experts_gate_up_q4_bf16"),
    *("experts_down_q4_bf16", "fused_residual_norm_f32_bf16", "linear3_q4_bf16", "linear_q4_bf16"),
]


def test_a_layer_is_five_dispatches_besides_attention(tensor_cores):
    weights, norms = layer(np.random.default_rng(1), "q4_bf16", "bf16", 1024, 768)
    assert kernels_of(steps_of(weights, norms)) == FUSED


def test_without_tensor_cores_a_layer_has_a_dispatch_for_each_step():
    weights, norms = layer(np.random.default_rng(1), "q4_bf16", "bf16", 1024, 768)
    assert kernels_of(steps_of(weights, norms)) == APART


def wide(weights, norms):
    weights["router"] = matrix(np.random.default_rng(2), (144, 1024), "q8_bf16")[0]
    for name, shape in (("gate", (144, 768, 1024)), ("up", (144, 768, 1024)), ("down", (144, 1024, 768))):
        weights[name] = matrix(np.random.default_rng(2), shape, "q4_bf16")[0]


def other_norm(weights, norms):
    norms[0] = np.ones(1024, np.float32)


def other_format(weights, norms):
    weights["o"] = matrix(np.random.default_rng(2), (1024, 1024), "q6_bf16")[0]


@pytest.mark.parametrize("change", [wide, other_norm, other_format], ids=["experts", "dtype of a norm", "format"])
def test_a_norm_stays_where_one_of_its_neighbours_must(tensor_cores, change):
    weights, norms = layer(np.random.default_rng(1), "q4_bf16", "bf16", 1024, 768)
    change(weights, norms)
    kernels = kernels_of(steps_of(weights, norms))
    assert kernels[1].startswith("fused_residual_norm_f32") and not set(kernels) & set(FUSED)


def test_a_value_that_is_read_later_stays(tensor_cores):
    weights, norms = layer(np.random.default_rng(1), "q4_bf16", "bf16", 1024, 768)

    def steps(pipe, x, attended):
        o = pipe.linear(attended, weights["o"], name="o")
        x, h = pipe.fused_residual_norm(x, o, norms[0], 1e-6, name="post_norm")
        return h, *pipe.linear3(h, [weights[name] for name in "qkv"], ("q", "k", "v"))

    apart_kernels = ["linear_q4_bf16", "fused_residual_norm_f32_bf16", "linear3_q4_bf16"]
    assert kernels_of(steps) == apart_kernels
    assert kernels_of(steps, outputs=slice(1, None)) == ["row_squares", "row_linear3"]
