"""Softmax over the experts, the top K of them, and what happens where there is nothing to choose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import axis, each
from support.kernels import (
    DOT,
    ELEMENTARY,
    TINY,
    activations,
    assert_close,
    assert_rows_alone,
    chain,
    matrix,
    run,
    stored,
)

from pipeline.errors import RunError
from pipeline.graph.tensors import Storage

pytestmark = pytest.mark.one_processor  # only the projection of test_route_is_logits_then_topk has native kernels

EXPERTS = (1, 6, 16, 48, 60, 96, 160, 257)
MAX_TOP_K = 64
NAN = np.nan


def topk(top_k, norm_topk_prob=True):
    return lambda pipe, logits: pipe.fused_moe_routing(logits, top_k, norm_topk_prob)


def route(device, logits, top_k, norm_topk_prob=True):
    logits = np.atleast_2d(np.asarray(logits, np.float32))
    return run(device, len(logits), topk(top_k, norm_topk_prob), logits=logits)


def check(device, logits, top_k, norm_topk_prob=True):
    ids, weights = route(device, logits, top_k, norm_topk_prob)
    wanted_ids, wanted = ref.softmax_topk(np.atleast_2d(logits), top_k, norm_topk_prob)
    np.testing.assert_array_equal(ids, wanted_ids)
    # Logits differ by up to 100 here: exp of a rounded difference is off by that many roundings.
    assert_close(weights, wanted, ELEMENTARY * wanted * 16 + TINY)


@each("experts, norm_topk_prob", axis(EXPERTS, daily=(1, 6, 16, 60, 257)), [True, False])
def test_softmax_topk(device, experts, norm_topk_prob):
    rng = np.random.default_rng(experts)
    for top_k in {1, 2, 4, 8, 63, 64, experts}:
        if top_k <= min(experts, MAX_TOP_K):
            check(device, activations(rng, 5, experts) * 3, top_k, norm_topk_prob)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_a_scale_per_expert(device, dtype):
    rng = np.random.default_rng(3)
    logits, (scales, values) = activations(rng, 5, 60), stored(rng.uniform(0.5, 2, 60), dtype)
    ids, weights = run(
        device,
        5,
        lambda pipe, logits: pipe.fused_moe_routing(logits, 8, per_expert_scale=scales, scale=1.5),
        logits=logits,
    )
    wanted_ids, wanted = ref.softmax_topk(logits, 8, True)
    np.testing.assert_array_equal(ids, wanted_ids)
    wanted = wanted * values[wanted_ids] * 1.5
    assert_close(weights, wanted, ELEMENTARY * wanted * 16 + TINY)


@given(
    experts=st.integers(1, 300),
    share=st.floats(0, 1),
    rows=st.integers(1, 9),
    size=st.sampled_from([0.1, 3.0, 30.0]),
    levels=st.sampled_from([0, 2, 5]),
    norm_topk_prob=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_routing_of_any_size(device, experts, share, rows, size, levels, norm_topk_prob, seed):
    rng = np.random.default_rng(seed)
    top_k = max(1, round(share * min(experts, MAX_TOP_K)))
    logits = activations(rng, rows, experts) * np.float32(size)
    if levels:  # many ties: the lower index goes first
        logits = np.round(logits / size * levels).astype(np.float32)
    check(device, logits, top_k, norm_topk_prob)


def test_ties_go_to_the_lower_index(device):
    logits = np.zeros((1, 257), np.float32)
    ids, weights = route(device, logits, 64)
    np.testing.assert_array_equal(ids[0], np.arange(64))
    np.testing.assert_array_equal(weights[0], np.float32(1 / 64))
    logits[0, [200, 3, 77]] = 1
    assert route(device, logits, 4)[0][0].tolist() == [3, 77, 200, 0]


def test_rows_do_not_depend_on_each_other(device):
    rng = np.random.default_rng(1)
    gate, _ = matrix(rng, (60, 96), "q8_bf16", 32)
    assert_rows_alone(device, lambda pipe, h: pipe.moe_router(h, gate, 4), h=activations(rng, 9, 96))


@pytest.mark.parametrize("format, group", [("bf16", 0), ("q8_bf16", 64)])
def test_route_is_logits_then_topk(device, format, group):
    rng = np.random.default_rng(2)
    gate, values = matrix(rng, (16, 128), format, group)
    h = activations(rng, 5, 128)
    ids, weights = run(device, 5, lambda pipe, h: pipe.moe_router(h, gate, 4), h=h)
    logits = h.astype(np.float64) @ values.T
    wanted_ids, wanted = ref.softmax_topk(logits, 4)
    np.testing.assert_array_equal(ids, wanted_ids)
    assert_close(weights, wanted, DOT * (np.abs(h) @ np.abs(values).T).max())


def test_counts_add_up_over_runs(device):
    logits = activations(np.random.default_rng(3), 5, 16)
    counts = Storage.zeros((16,), "u32")
    made = chain(
        device,
        5,
        lambda pipe, logits: pipe.fused_moe_routing(logits, 4, counts=pipe.state("counts", counts)),
        logits=logits,
    )
    ids, _ = made.run(logits=logits)
    once = np.bincount(ids.reshape(-1), minlength=16)
    np.testing.assert_array_equal(counts.read(device), once)
    made.run(logits=logits)
    np.testing.assert_array_equal(counts.read(device), 2 * once)
    made.run(logits=logits, rows=2)
    np.testing.assert_array_equal(counts.read(device), 2 * once + np.bincount(ids[:2].reshape(-1), minlength=16))


def test_fewer_rows_leave_the_others_alone(device):
    logits = activations(np.random.default_rng(4), 5, 16)
    made = chain(device, 5, topk(4), logits=logits)
    for output in made.plan.outputs:
        made.view(output)[:] = 99
    ids, weights = made.run(rows=3, logits=logits)
    np.testing.assert_array_equal(ids[:3], ref.softmax_topk(logits[:3], 4)[0])
    assert (ids[3:] == 99).all() and (weights[3:] == 99).all()


def test_a_failure_names_the_step_within_its_layer(device):
    with pytest.raises(RunError, match=r"row 0: layers\.3\.router"):

        def steps(pipe, h):
            with pipe.scope("layers.3"):
                return pipe.moe_router(h, np.ones((6, 4), np.float32), 2)

        run(device, 1, steps, h=np.full((1, 4), NAN, np.float32))


def test_a_failure_is_forgotten_at_the_next_run(device):
    logits = np.full((2, 6), NAN, np.float32)
    made = chain(device, 2, topk(4), logits=logits)
    with pytest.raises(RunError):
        made.run(logits=logits)
    logits[:] = 1
    assert made.run(logits=logits)[0].tolist() == [[0, 1, 2, 3]] * 2
    logits[1] = NAN
    assert made.run(rows=1, logits=logits)[0][0].tolist() == [0, 1, 2, 3]  # row 1 was not asked for
