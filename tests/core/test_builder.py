"""Composing pipelines: what is refused, what a plan says, how memory is shared. Only the last tests need a device."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

import pipeline as p
from pipeline.device.choices import Choices
from pipeline.errors import BuildError, DTypeError, ShapeError
from pipeline.graph import memory
from pipeline.graph.plan import apart
from pipeline.models.cache import CACHE_BLOCK
from pipeline.models.row_state import Rows


def array(*shape, seed=0):
    return (np.random.default_rng([seed, *shape]).normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


NORM, NORM2, GATE = array(256, seed=1), array(256, seed=2), array(16, 256)
GATE_PROJ, UP_PROJ, DOWN_PROJ = array(16, 128, 256, seed=3), array(16, 128, 256, seed=4), array(16, 256, 128)


def moe_layer(device="auto"):
    pipe = p.Pipeline(device=device, rows=4)
    x = pipe.input("x", (4, 256))
    h = pipe.rms_norm(x, weight=NORM)
    ids, weights = pipe.moe_router(h, GATE, top_k=4)
    y = pipe.experts(h, ids, weights, GATE_PROJ, UP_PROJ, DOWN_PROJ)
    return pipe, pipe.fused_residual_norm(x, y, weight=NORM2), ids


# What is refused, before any device


def refused(step):
    """step(pipe, x [4, 256]) on a device that does not exist: nothing may reach it."""
    pipe = p.Pipeline(device="no such device", rows=4)
    step(pipe, pipe.input("x", (4, 256)))


@pytest.mark.parametrize(
    "step, error, message",
    [
        (
            lambda pipe, x: pipe.rms_norm(x, NORM[:255]),
            ShapeError,
            r"rms_norm: weight has shape \(255,\), expected \(256,\)",
        ),
        (
            lambda pipe, x: pipe.linear(x, array(8, 255)),
            ShapeError,
            r"linear: x has shape \(4, 256\), expected \(4, 255\)",
        ),
        (lambda pipe, x: pipe.linear(x, array(256)), ShapeError, r"expected \[outputs, inputs\]"),
        (lambda pipe, x: pipe.linear(x, np.zeros((8, 256))), DTypeError, "float64 is not supported"),
        (
            lambda pipe, x: pipe.linear(x, np.zeros((8, 256), np.uint32)),
            DTypeError,
            "weights are f32, f16, bf16, Quantized or Blocks",
        ),
        (lambda pipe, x: pipe.embed(x, array(8, 256)), DTypeError, "embed: x is f32, expected u32"),
        (
            lambda pipe, x: pipe.moe_router(x, GATE, top_k=17),
            ShapeError,
            "top_k = 17 of 16 experts; choose an integer from 1 to 16",
        ),
        (lambda pipe, x: pipe.moe_router(x, GATE, top_k=0), ShapeError, "top_k = 0 of 16 experts"),
        (lambda pipe, x: pipe.moe_router(x, array(100, 256), top_k=65), ShapeError, "choose an integer from 1 to 64"),
        (
            lambda pipe, x: pipe.experts(x, *pipe.moe_router(x, GATE, 4), GATE_PROJ, UP_PROJ, UP_PROJ),
            ShapeError,
            r"experts.down_proj.* expected \(16, 256, 128\)",
        ),
        (
            lambda pipe, x: pipe.fused_residual_norm(x, pipe.input("y", (4, 255))),
            ShapeError,
            r"y has shape \(4, 255\), expected \(4, 256\)",
        ),
        (lambda pipe, x: pipe.input("x", (1,)), BuildError, "input called x already"),
        (
            lambda pipe, x: pipe.rms_norm(pipe.input("z", (3, 256))),
            ShapeError,
            r"z has shape \(3, 256\), expected \(4, 256\)",
        ),
        (lambda pipe, x: pipe.build(()), BuildError, "has no steps"),
    ],
)
def test_refused(step, error, message):
    with pytest.raises(error, match=message):
        refused(step)


def test_names_say_where():
    pipe = p.Pipeline(rows=2)
    with pipe.scope("layers.3"), pytest.raises(ShapeError, match="layers.3.gate: x has shape"):
        pipe.linear(pipe.input("x", (2, 5)), array(4, 6), name="gate")


def test_an_output_must_be_made():
    pipe, _, _ = moe_layer()
    with pytest.raises(BuildError, match="made by no step"):
        pipe.plan(p.Pipeline(rows=4).scratch("elsewhere", (4, 1)))


@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(bits=7), BuildError, "7 bits are not supported; use 2, 3, 4, 5, 6 or 8"),
        (dict(group_size=48), BuildError, "groups of 48"),
        (dict(scales=np.zeros((8, 3), np.float32)), ShapeError, "need scales and biases"),
        (dict(biases=np.zeros((8, 4), np.float16)), DTypeError, "share one of"),
        (dict(weight=np.zeros((8, 32), np.float32)), DTypeError, "packed words are u32"),
    ],
)
def test_quantised_weights_that_do_not_fit(change, error, message):
    made = p.quantize(array(8, 256), bits=4, group_size=64)
    with pytest.raises(error, match=message):
        refused(lambda pipe, x: pipe.linear(x, p.Quantized(**{**made.__dict__, **change})))


def test_rows():
    with pytest.raises(ShapeError, match="at least 1 row"):
        p.Pipeline(rows=0)


# What a plan says


def test_a_plan_prints_without_a_device():
    pipe, out, _ = moe_layer("no such device")
    text = str(pipe.plan(out))
    for part in (
        "experts.gate_up",
        "experts_down_grouped_f32",
        "router.ids",
        "9 dispatches",
        "1 command buffer",
        "waits for",
    ):
        assert part in text


def test_dispatches_that_share_nothing_need_no_barrier():
    pipe = p.Pipeline(rows=4)
    x = pipe.input("x", (4, 256))
    made = [pipe.linear(x, array(8, 256, seed=i), name=f"branch{i}") for i in range(3)]
    assert pipe.plan(made).barriers == (-1, -1, -1)
    total, _ = pipe.fused_residual_norm(made[0], made[1])
    assert pipe.plan(total).barriers == (-1, -1, -1, 1)


def storyteller():
    """The model's pipeline of one decode step."""
    from pipeline.checkpoints.storyteller import builtin_model

    model = p.load_model(p.open_checkpoint(builtin_model()))
    pipe = p.Pipeline(model.device, rows=1)
    return model, pipe, model.forward(pipe, Rows.zeros(1), model.cache(1, 1024))


def test_ten_dispatches_a_layer():
    model, pipe, logits = storyteller()
    counts = [
        sum(d.step.startswith(f"layers.{i}.") for d in pipe.plan(logits).dispatches) for i in range(model.config.layers)
    ]
    assert max(counts) <= 10 and model.dispatches_per_layer == counts[1]


def experts_of(rows, **keywords):
    """(kernel, threadgroups, rows of a threadgroup) of each dispatch of a step of 5 experts, 3 a row, and what each
    waits for."""
    pipe = p.Pipeline(rows=rows)
    ids, weights = pipe.input("ids", (rows, 3), "u32"), pipe.input("weights", (rows, 3))
    y = pipe.experts(
        pipe.input("h", (rows, 64)),
        ids,
        weights,
        *(array(5, *shape) for shape in ((40, 64), (40, 64), (64, 40))),
        **keywords,
    )
    plan = pipe.plan(y)
    return [(d.kernel, d.threadgroups, d.rows_per_threadgroup) for d in plan.dispatches[1:]], plan.barriers[1:]


def test_many_rows_are_grouped_by_expert():
    by_row = lambda rows: ([("experts_gate_up_f32", (3, rows, 3), 1), ("experts_down_f32", (4, rows, 1), 1)], (0, 1))
    by_expert = lambda rows: (
        [
            ("group_experts", (1, 5, 1), 0),
            ("experts_gate_up_grouped_f32", (3, 5, 1), 0),
            ("experts_down_grouped_f32", (4, 5, 1), 0),
            ("experts_combine", (1, rows, 1), 1),
        ],
        (0, 1, 2, 3),
    )
    assert experts_of(1) == experts_of(1, grouped=False) == by_row(1)
    assert experts_of(Choices().grouped_rows - 1) == by_row(Choices().grouped_rows - 1)
    assert experts_of(Choices().grouped_rows) == by_expert(Choices().grouped_rows)
    assert experts_of(100) == by_expert(100)
    assert experts_of(100, grouped=False) == by_row(100)
    assert experts_of(1, grouped=True) == by_expert(1)


def test_every_step_has_the_models_constants():
    model, pipe, _ = storyteller()
    c = model.config
    for name, wanted in (
        ("eps", c.eps),
        ("head_dim", c.head_dim),
        ("width", 1024 // CACHE_BLOCK),
        ("experts", c.experts),
        ("top_k", c.top_k),
        ("renormalise", int(c.norm_topk_prob)),
        ("scale", c.head_dim**-0.5),
        ("half_dim", c.head_dim // 2),
    ):
        own = [d for d in pipe.dispatches if name in d.constants and (name != "scale" or d.step.endswith(".attention"))]
        assert {d.constants[name] for d in own} == {wanted}, name


def overlapping(plan):
    """Pairs of scratch values that share bytes while both are alive, by phases between barriers."""
    phase, lives = 0, {}
    for dispatch, barrier in zip(plan.dispatches, plan.barriers):
        phase += barrier >= 0
        for tensor, _ in dispatch.arguments:
            if tensor.storage is None:
                first, _ = lives.get(tensor, (phase, phase))
                lives[tensor] = (first, phase)
    spans = [(t, plan.layout.offsets[id(t)], first, last) for t, (first, last) in lives.items()]
    return [
        (a[0].name, b[0].name)
        for i, a in enumerate(spans)
        for b in spans[:i]
        if a[1] < b[1] + b[0].nbytes and b[1] < a[1] + a[0].nbytes and a[2] <= b[3] and b[2] <= a[3]
    ]


def test_scratch_is_reused_but_never_while_alive():
    _, pipe, logits = storyteller()
    plan = pipe.plan(logits)
    assert overlapping(plan) == []
    assert plan.layout.nbytes < plan.layout.unshared / 3
    from pipeline._core import plan_barriers
    from pipeline.graph.plan import accesses

    def placed(tensor):
        return apart(tensor) if tensor.storage else (0, plan.layout.offsets[id(tensor)])

    barriers = plan_barriers(accesses(dispatch, placed) for dispatch in plan.dispatches)
    assert [b >= 0 for b in barriers] == [b >= 0 for b in plan.barriers]  # sharing adds none


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=30))
def test_memory_plan(items):
    lives = [memory.Life(i, size, first, first + length) for i, (size, first, length) in enumerate(items)]
    layout = memory.plan(lives)
    for i, a in enumerate(lives):
        offset = layout.offsets[i]
        assert offset % memory.ALIGNMENT == 0 and offset + a.nbytes <= layout.nbytes
        for b in lives[:i]:
            if a.first <= b.last and b.first <= a.last:
                other = layout.offsets[b.key]
                assert offset + a.nbytes <= other or other + b.nbytes <= offset
    assert layout.nbytes <= layout.unshared


# On a device


def test_a_moe_layer_in_ten_lines(device):
    pipe, out, ids = moe_layer(device)
    chain = pipe.build(outputs=(*out, ids))
    hidden = array(4, 256, seed=9)
    for _ in range(2):  # a chain is replayed
        s, n, chosen = chain.run(x=hidden)
        h = reference.rms_norm(hidden, NORM)
        want_ids, weights = reference.softmax_topk(h @ GATE.T.astype(np.float64), 4)
        total = hidden + reference.experts(
            h, want_ids, weights, *(w.astype(np.float64) for w in (GATE_PROJ, UP_PROJ, DOWN_PROJ))
        )
        np.testing.assert_array_equal(chosen, want_ids)
        np.testing.assert_allclose(s, total, atol=2e-6)
        np.testing.assert_allclose(n, reference.rms_norm(total, NORM2), atol=1e-5)
    assert str(chain) == str(chain.plan) and len(chain) == 9


@pytest.mark.one_processor
def test_outputs_made_early_are_kept(device):
    """Later values take the memory of values that nobody reads any more; an output is read after the run."""
    pipe = p.Pipeline(device, rows=4)
    value, made = pipe.input("x", (4, 256)), []
    for i in range(6):
        value = pipe.linear(value, array(256, 256, seed=i), name=f"step{i}")
        made.append(value)
    x = array(4, 256)
    chain = pipe.build((made[0], made[2], made[5]))
    assert chain.plan.layout.nbytes < chain.plan.layout.unshared
    want = [x]
    for i in range(6):
        want.append(want[-1] @ array(256, 256, seed=i).T)
    for got, expected in zip(chain.run(x=x), (want[1], want[3], want[6])):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.one_processor
def test_inputs_that_do_not_fit(device):
    pipe, out, _ = moe_layer(device)
    chain = pipe.build(outputs=out)
    hidden = array(4, 256)
    for given_, error, message in [
        ({}, BuildError, "takes the inputs x, got none"),
        ({"x": hidden, "y": hidden}, BuildError, "got x, y"),
        ({"x": hidden[:3]}, ShapeError, r"input x has shape \(3, 256\), expected \(4, 256\)"),
        ({"x": hidden.astype(np.float64)}, DTypeError, "float64"),
        ({"x": hidden.astype(np.float16)}, DTypeError, "input x is float16, expected f32"),
    ]:
        with pytest.raises(error, match=message):
            chain.run(**given_)
    with pytest.raises(ShapeError, match="has 4 rows, not 5"):
        chain.run(rows=5, x=hidden)


def test_quantize_comes_close(device):
    weight = array(24, 128)
    for bits, bound in ((4, 0.05), (8, 0.003)):
        made = p.quantize(weight, bits, 32)
        values = reference.dequantize(made.weight, made.scales, made.biases, bits, 32)
        assert np.abs(values - weight).max() < bound
        pipe = p.Pipeline(device, rows=2)
        x = array(2, 128, seed=5)
        got = pipe.build(pipe.linear(pipe.input("x", (2, 128)), made)).run(x=x)
        np.testing.assert_allclose(got, x @ values.T, atol=1e-5)
