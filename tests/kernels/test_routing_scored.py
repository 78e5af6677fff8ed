"""Routing by sigmoid or softmax scores, with corrections and groups of experts, and the options of `moe_router`."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import each
from support.kernels import (
    DOT,
    ELEMENTARY,
    PLAIN_FORMATS,
    TINY,
    activations,
    assert_close,
    assert_rows_alone,
    chain,
    guarded_run,
    matrix,
    run,
    stored,
)

import pipeline as p
from pipeline.errors import BuildError, DTypeError, RunError, ShapeError
from pipeline.graph.tensors import Storage

pytestmark = pytest.mark.one_processor  # only the projections of routers have native kernels

NONE, NAN, INF = ref.NONE, np.nan, np.inf

# (experts, top_k, groups, top_groups, by): DeepSeek-V3, V2, V2-Lite, GLM-4.5, small ones and odd ones.
SHAPES = [
    (256, 8, 8, 4, "top2"),
    (160, 6, 8, 3, "max"),
    (64, 6, 1, 1, "max"),
    (128, 8, 1, 1, "top2"),
    (6, 2, 3, 2, "top2"),
    (6, 2, 6, 2, "max"),
    (60, 4, 5, 2, "top2"),
    (60, 12, 15, 3, "max"),
    (1, 1, 1, 1, "max"),
    (96, 64, 3, 2, "top2"),
    (300, 7, 100, 9, "max"),
]


def scored(top_k, norm_topk_prob=True, **options):
    return lambda pipe, logits: pipe.scored_moe_routing(logits, top_k, norm_topk_prob, **options)


def check(device, logits, top_k, norm_topk_prob=True, correction_values=None, **options):
    ids, weights = run(device, len(logits), scored(top_k, norm_topk_prob, **options), logits=logits)
    wanted = {**options, "correction": correction_values}
    wanted_ids, wanted, margin = ref.scored_topk(logits, top_k, norm_topk_prob, **wanted)
    assume(margin > 1e-5)  # f32 tells such scores apart
    np.testing.assert_array_equal(ids, wanted_ids)
    assert_close(weights, wanted, 4 * ELEMENTARY * wanted + TINY)


WEIGHTS = [("sigmoid", True), ("softmax", False), ("sigmoid", False), ("softmax", True)]  # scores, and their sum


@each("shape, weights", SHAPES, WEIGHTS)
def test_gates(device, shape, weights):
    """Scores lie in steps that f32 tells apart, softmax's by factors."""
    (experts, top_k, groups, top_groups, by), (scoring, norm_topk_prob) = shape, weights
    rng = np.random.default_rng(experts)
    steps = rng.permuted(np.tile(np.arange(experts), (5, 1)), axis=1) / experts
    logits = (np.log(1 + steps) if scoring == "softmax" else 4 * steps - 2).astype(np.float32)
    correction, values = stored(rng.permutation(experts) / (8 * experts), "f32")
    options = dict(scoring=scoring, groups=groups, top_groups=top_groups, group_score=by, scale=2.5)
    for corrected in (False, True):
        ids, found = run(
            device,
            5,
            scored(top_k, norm_topk_prob, correction=correction if corrected else None, **options),
            logits=logits,
        )
        wanted_ids, _, margin = ref.scored_topk(
            logits, top_k, norm_topk_prob, correction=values if corrected else None, **options
        )
        expected = plain_weights(logits, ids, norm_topk_prob, scoring) * 2.5
        assert_close(found, expected, 8 * ELEMENTARY * expected + TINY)
        if margin > 1e-6:
            np.testing.assert_array_equal(ids, wanted_ids)


def plain_weights(logits, ids, norm_topk_prob, scoring):
    """The weights that these ids have."""
    scores = ref.sigmoid(logits) if scoring == "sigmoid" else ref.softmax(logits)
    weights = np.take_along_axis(scores, ids.astype(np.int64), -1)
    return weights / (weights.sum(-1, keepdims=True) + 1e-20) if norm_topk_prob else weights


@given(
    groups=st.integers(1, 12),
    size=st.integers(2, 20),
    share=st.floats(0, 1),
    part=st.floats(0, 1),
    rows=st.integers(1, 6),
    scoring=st.sampled_from(["sigmoid", "softmax"]),
    by=st.sampled_from(["max", "top2"]),
    norm_topk_prob=st.booleans(),
    dtype=st.sampled_from([None, *PLAIN_FORMATS]),
    seed=st.integers(0, 1000),
)
def test_gates_of_any_size(device, groups, size, share, part, rows, scoring, by, norm_topk_prob, dtype, seed):
    rng = np.random.default_rng(seed)
    top_groups = max(1, round(part * groups))
    top_k = max(1, round(share * min(top_groups * size, 64)))
    correction, values = (None, None) if dtype is None else stored(rng.normal(size=groups * size) * 0.2, dtype)
    check(
        device,
        activations(rng, rows, groups * size),
        top_k,
        norm_topk_prob,
        values,
        correction=correction,
        scoring=scoring,
        groups=groups,
        top_groups=top_groups,
        group_score=by,
        scale=1.5,
    )


def test_the_correction_chooses_and_does_not_weigh(device):
    logits = np.log(np.array([[3, 1, 1 / 3, 1]], np.float32))  # scores of ¾, ½, ¼, ½
    correction = np.array([-1, 0, 0.5, 0], np.float32)  # corrected -¼, ½, ¾, ½
    ids, weights = run(device, 1, scored(4, False, correction=correction), logits=logits)
    assert ids[0].tolist() == [2, 1, 3, 0]
    np.testing.assert_allclose(weights[0], [0.25, 0.5, 0.5, 0.75], rtol=1e-6)


def test_experts_of_other_groups_are_never_chosen(device):
    """Also where what is left has negative scores."""
    correction = np.array([-5, -5, -6, 0.1, -9, -9], np.float32)
    ids, _ = run(
        device,
        1,
        scored(2, correction=correction, groups=3, top_groups=1, group_score="top2"),
        logits=np.zeros((1, 6), np.float32),
    )
    assert ids[0].tolist() == [3, 2]


def test_an_expert_may_be_switched_off(device):
    correction = np.array([0, -INF, 0, -INF], np.float32)
    ids, weights = run(device, 1, scored(3, correction=correction), logits=np.array([[0, 9, 1, 9]], np.float32))
    assert ids[0].tolist() == [2, 0, NONE] and weights[0, 2] == 0
    ids, _ = run(
        device, 1, scored(3, correction=correction, groups=2, top_groups=2), logits=np.array([[0, 9, 1, 9]], np.float32)
    )
    assert ids[0].tolist() == [2, 0, NONE]


def test_ties_go_to_the_lower_index(device):
    logits = np.zeros((1, 60), np.float32)
    for by in ("max", "top2"):
        ids, weights = run(device, 1, scored(6, groups=5, top_groups=2, group_score=by), logits=logits)
        assert ids[0].tolist() == list(range(6)) and len(set(weights[0].tolist())) == 1
    logits[0, [20, 47, 50, 51]] = 1
    assert run(device, 1, scored(5, groups=5, top_groups=2, group_score="max"), logits=logits)[0][0].tolist() == [
        20,
        47,
        12,
        13,
        14,
    ]
    assert run(device, 1, scored(5, groups=5, top_groups=2, group_score="top2"), logits=logits)[0][0].tolist() == [
        20,
        50,
        51,
        12,
        13,
    ]


def test_small_scores_do_not_divide_by_zero(processor):
    """Scores whose sum the 10⁻²⁰ outweighs, and such as are 0 in f32; below f32's normal numbers, so not on the
    checker."""
    ids, weights = run(processor, 2, scored(2), logits=np.array([[-60, -60, -90], [-200, -3e38, -200]], np.float32))
    assert ids.tolist() == [[0, 1], [0, 1]] or ids.tolist() == [[0, 1], [0, 2]]
    np.testing.assert_allclose(weights[0], np.exp(-60) / (2 * np.exp(-60) + 1e-20), rtol=1e-5)
    assert (weights[1] == 0).all()


@pytest.mark.parametrize("scoring", ["sigmoid", "softmax"])
def test_what_is_no_number(device, scoring):
    logits = np.array(
        [[NAN, 1, 2, NAN, 0, -1], [NAN, NAN, NAN, NAN, NAN, 3], [-INF, 1, -INF, -INF, -INF, 0]], np.float32
    )
    ids, weights = run(device, 3, scored(3, scoring=scoring), logits=logits)
    assert ids.tolist() == [[2, 1, 4], [5, NONE, NONE], [1, 5, 0]]
    assert weights[1].tolist() == [1, 0, 0] and weights[2, 2] == 0
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    ids, _ = run(device, 3, scored(2, scoring=scoring, groups=3, top_groups=2, group_score="top2"), logits=logits)
    # σ(0) + σ(-1) is more than σ(1); of a softmax it is not.
    assert ids.tolist() == [[2, 4] if scoring == "sigmoid" else [2, 1], [5, NONE], [1, 5]]


def test_infinity_takes_all_the_weight_of_a_softmax(device):
    logits = np.array([[1, INF, 2, INF], [1, 2, INF, 0]], np.float32)
    ids, weights = run(device, 2, scored(3, scoring="softmax"), logits=logits)
    assert ids.tolist() == [[1, 3, 0], [2, 0, 1]] and weights.tolist() == [[0.5, 0.5, 0], [1, 0, 0]]
    ids, weights = run(device, 2, scored(1, False), logits=logits)
    assert ids.tolist() == [[1], [2]] and weights.tolist() == [[1], [1]]


@pytest.mark.parametrize("nothing", [NAN, -INF])
@pytest.mark.parametrize("scoring", ["sigmoid", "softmax"])
def test_nothing_to_choose_from(device, scoring, nothing):
    logits = np.zeros((3, 6), np.float32)
    logits[1] = nothing
    made = chain(device, 3, scored(2, scoring=scoring, groups=3, top_groups=2), logits=logits)
    with pytest.raises(RunError, match="row 1: scored_moe_routing had nothing to choose from"):
        made.run(logits=logits)
    ids, weights = (made.view(output) for output in made.plan.outputs)
    assert ids.tolist() == [[0, 1], [NONE, NONE], [0, 1]] and weights[1].tolist() == [0, 0]


def test_counts_and_fewer_rows(device):
    logits = activations(np.random.default_rng(3), 5, 16)
    counts = Storage.zeros((16,), "u32")
    made = chain(
        device,
        5,
        lambda pipe, logits: pipe.scored_moe_routing(logits, 4, counts=pipe.state("counts", counts)),
        logits=logits,
    )
    ids, weights = made.run(logits=logits)
    np.testing.assert_array_equal(counts.read(device), np.bincount(ids.reshape(-1), minlength=16))
    for output in made.plan.outputs:
        made.view(output)[:] = 99
    ids, weights = made.run(rows=3, logits=logits)
    assert (ids[3:] == 99).all() and (weights[3:] == 99).all() and (ids[:3] < 16).all()


def test_rows_stay_within_their_memory_and_do_not_depend_on_each_other(device):
    rng = np.random.default_rng(4)
    correction = rng.normal(size=60).astype(np.float32)
    steps = scored(7, correction=correction, groups=5, top_groups=3, group_score="top2")
    logits = activations(rng, 9, 60)
    assert_rows_alone(device, steps, logits=logits)
    ids, _ = guarded_run(device, 9, steps, spare=2, logits=logits)
    np.testing.assert_array_equal(ids, run(device, 9, steps, logits=logits)[0])


# moe_router


@each("scoring, format", ["softmax", "softmax_after", "sigmoid"], [("bf16", 0), ("q8_bf16", 64)])
def test_a_router_with_a_bias_and_a_scale(device, format, scoring):
    format, group = format
    rng = np.random.default_rng(5)
    gate, values = matrix(rng, (16, 128), format, group)
    bias, h = np.linspace(-40, 40, 16, dtype=np.float32), activations(rng, 5, 128) / 64
    after = scoring == "softmax_after"
    options = {"scoring": "softmax", "softmax_after_topk": True} if after else {"scoring": scoring}
    ids, weights = run(
        device, 5, lambda pipe, h: pipe.moe_router(h, gate, 4, False, bias=bias, scale=3.0, **options), h=h
    )
    logits = h.astype(np.float64) @ values.T + bias
    if scoring == "sigmoid":
        wanted_ids, wanted, _ = ref.scored_topk(logits, 4, False, scale=3.0)
        np.testing.assert_allclose(np.sort(weights), np.sort(wanted), rtol=1e-4)  # the largest are all near 1
    else:
        wanted_ids, wanted = ref.softmax_topk(logits, 4, after)
        np.testing.assert_array_equal(ids, wanted_ids)
        assert_close(weights, 3 * wanted, 3 * 4 * DOT * (np.abs(h) @ np.abs(values).T + 40).max())


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"scoring": "tanh"}, BuildError, "router: scoring = 'tanh'; choose softmax or sigmoid"),
        ({"scoring": "sigmoid", "group_score": "sum"}, BuildError, "router: group_score = 'sum'; choose max or top2"),
        ({"groups": 4}, ShapeError, "router: the best 1 of 4 groups of 6 experts; groups must be equal"),
        ({"groups": 3, "top_groups": 4}, ShapeError, "router: the best 4 of 3 groups of 6 experts"),
        ({"groups": 3, "top_groups": 0}, ShapeError, "and at least one chosen"),
        (
            {"groups": 3, "top_groups": 1},
            ShapeError,
            "router: groups of 2 experts are too small for top_k = 3 of 1 groups",
        ),
        (
            {"groups": 6, "top_groups": 6, "group_score": "top2"},
            ShapeError,
            "too small for top_k = 3 of 6 groups by the sum of their top 2",
        ),
        (
            {"scoring": "sigmoid", "correction": np.zeros(5, np.float32)},
            ShapeError,
            r"router.correction: the bias has shape \(5,\), expected \(6,\)",
        ),
        (
            {"scoring": "sigmoid", "correction": np.zeros(6, np.uint32)},
            DTypeError,
            "router.correction: the bias is u32",
        ),
        (
            {"scoring": "sigmoid", "per_expert_scale": np.ones(6, np.float32)},
            BuildError,
            "per_expert_scale and softmax_after_topk go with plain softmax",
        ),
        (
            {"softmax_after_topk": True, "groups": 3},
            BuildError,
            "per_expert_scale and softmax_after_topk go with plain softmax",
        ),
        ({"scale": NAN}, BuildError, "router: scale = nan must be a number"),
        ({"bias": np.zeros(5, np.float32)}, ShapeError, r"router.logits: the bias has shape \(5,\), expected \(6,\)"),
    ],
)
def test_what_a_router_refuses(options, error, message):
    pipe = p.Pipeline(rows=2)
    with pytest.raises(error, match=message):
        pipe.moe_router(pipe.input("h", (2, 4)), np.zeros((6, 4), np.float32), 3, **options)
