"""The routing functions against float64, over numbers of experts that are multiples of nothing; the
cache of chains that all functions share."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference

import pipeline as p
from pipeline import ops
from pipeline.errors import BuildError, DTypeError, RunError, ShapeError
from pipeline.ops import call

pytestmark = pytest.mark.one_processor  # no step here has native kernels

WEIGHT = 1e-6  # absolute, of weights of which the largest possible is 1

EXPERTS = st.sampled_from([1, 6, 16, 31, 48, 60, 96, 160, 256, 257, 1024, 1031]) | st.integers(1, 300)


@st.composite
def routings(draw):
    """(logits, top_k), often with ties, over logits from nearly equal to far apart."""
    rows, experts = draw(st.integers(1, 6)), draw(EXPERTS)
    top_k = draw(st.integers(1, min(experts, 64)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.normal(size=(rows, experts)) * draw(st.sampled_from([1e-3, 1.0, 10.0, 1000.0]))
    if draw(st.booleans()):
        logits = np.round(logits)
    return logits.astype(np.float32), top_k


def check(got, want, size=1.0):
    ids, weights = got
    want_ids, want_weights = want
    assert ids.dtype == np.uint32 and weights.dtype == np.float32
    np.testing.assert_array_equal(ids, want_ids)
    assert (np.abs(weights - want_weights) <= WEIGHT * size).all(), np.abs(weights - want_weights).max()


@settings(max_examples=60, deadline=None)
@given(routings(), st.booleans())
def test_moe_softmax_topk(device, case, norm_topk_prob):
    logits, top_k = case
    got = ops.moe_softmax_topk(logits, top_k, norm_topk_prob=norm_topk_prob, device=device)
    check(got, reference.softmax_topk(logits, top_k, norm_topk_prob))


@settings(max_examples=60, deadline=None)
@given(routings(), st.sampled_from(["f32", "f16", "bf16"]), st.booleans(), st.randoms())
def test_fused_moe_routing(device, case, dtype, norm_topk_prob, random):
    logits, top_k = case
    scale = np.random.default_rng(random.getrandbits(32)).normal(size=logits.shape[1]).astype(np.float32)
    array = {"f32": lambda a: a, "f16": lambda a: a.astype(np.float16), "bf16": reference.bf16_bits}[dtype](scale)
    values = reference.from_bf16(array) if dtype == "bf16" else array.astype(np.float64)
    got = ops.fused_moe_routing(logits, top_k, array, norm_topk_prob=norm_topk_prob, bits="bf16", device=device)
    check(got, reference.softmax_topk(logits, top_k, norm_topk_prob, values), np.abs(values).max())


def test_the_scale_is_not_renormalised(device):
    scale = np.array([3, 5, 7], np.float32)
    ids, weights = ops.fused_moe_routing(np.zeros((1, 3), np.float32), 2, scale, device=device)
    np.testing.assert_array_equal(ids, [[0, 1]])
    np.testing.assert_array_equal(weights, [[1.5, 2.5]])
    same = ops.moe_softmax_topk(np.zeros((1, 3), np.float32), 2, device=device)
    np.testing.assert_array_equal(ops.fused_moe_routing(np.zeros((1, 3), np.float32), 2, device=device), same)


def test_softmax_after_topk_is_the_softmax_of_the_chosen(device):
    logits = np.random.default_rng(1).normal(size=(5, 33)).astype(np.float32)
    for norm_topk_prob in (True, False):
        ids, weights = ops.moe_softmax_topk(
            logits, 6, softmax_after_topk=True, norm_topk_prob=norm_topk_prob, device=device
        )
        np.testing.assert_allclose(
            weights, reference.softmax(np.take_along_axis(logits, ids.astype(int), -1)), atol=WEIGHT
        )


@pytest.mark.parametrize("experts", [4096, 40000])
def test_more_experts_than_any_threadgroup_holds(device, experts):
    logits = np.random.default_rng(2).normal(size=(2, experts)).astype(np.float32)
    for norm_topk_prob in (True, False):
        got = ops.moe_softmax_topk(logits, 64, norm_topk_prob=norm_topk_prob, device=device)
        check(got, reference.softmax_topk(logits, 64, norm_topk_prob))


def test_a_row_is_the_same_alone_and_in_a_batch(device):
    logits = np.random.default_rng(3).normal(size=(9, 100)).astype(np.float32)
    together = ops.moe_softmax_topk(logits, 8, norm_topk_prob=False, device=device)
    for row in range(9):
        alone = ops.moe_softmax_topk(logits[row : row + 1], 8, norm_topk_prob=False, device=device)
        for a, b in zip(alone, together):
            np.testing.assert_array_equal(a[0], b[row])


def test_counts_add_up_over_runs(device):
    logits = np.random.default_rng(4).normal(size=(5, 12)).astype(np.float32)
    logits[0, 1:] = np.nan  # one expert is left
    pipe = p.Pipeline(device, rows=5)
    counts = p.Storage.zeros((12,), "u32")
    chain = pipe.build(pipe.fused_moe_routing(pipe.input("x", (5, 12)), 3, counts=pipe.state("counts", counts)))
    for _ in range(2):
        ids, _ = chain.run(x=logits)
    np.testing.assert_array_equal(counts.read(device), 2 * np.bincount(ids[ids != reference.NONE], minlength=12))


A = np.zeros((2, 4), np.float32)
S = np.ones(4, np.float32)


@pytest.mark.parametrize(
    "error, message, call",
    [
        (
            ShapeError,
            r"moe_softmax_topk: top_k = 5 of 4 experts; choose an integer from 1 to 4",
            lambda: ops.moe_softmax_topk(A, 5),
        ),
        (ShapeError, r"top_k = -1 of 4 experts", lambda: ops.fused_moe_routing(A, -1, S)),
        (BuildError, r"top_k = 2.0 must be an integer", lambda: ops.moe_softmax_topk(A, 2.0)),
        (BuildError, r"top_k = True must be an integer", lambda: ops.moe_softmax_topk(A, True)),
        (BuildError, r"top_k = None must be an integer", lambda: ops.moe_softmax_topk(A, None)),
        (
            ShapeError,
            r"logits has shape \(4,\), expected two dimensions, rows first",
            lambda: ops.moe_softmax_topk(A[0], 2),
        ),
        (ShapeError, r"logits has shape \(0, 4\)", lambda: ops.moe_softmax_topk(A[:0], 2)),
        (ShapeError, r"logits has shape \(2, 0\)", lambda: ops.moe_softmax_topk(A[:, :0], 1)),
        (DTypeError, r"logits: .*float64 is not supported", lambda: ops.moe_softmax_topk(A.astype(float), 2)),
        (DTypeError, r"logits is f16, expected f32", lambda: ops.moe_softmax_topk(A.astype(np.float16), 2)),
        (DTypeError, r"logits: an array of int64", lambda: ops.moe_softmax_topk(A.astype(int), 2)),
        (ShapeError, r"per_expert_scale has shape \(3,\), expected \(4,\)", lambda: ops.fused_moe_routing(A, 2, S[:3])),
        (ShapeError, r"per_expert_scale has shape \(2, 4\), expected \(4,\)", lambda: ops.fused_moe_routing(A, 2, A)),
        (
            DTypeError,
            r"per_expert_scale is u32, expected f32, f16 or bf16",
            lambda: ops.fused_moe_routing(A, 2, S.astype(np.uint32)),
        ),
        (
            DTypeError,
            r'per_expert_scale is uint16; say bits="bf16"',
            lambda: ops.fused_moe_routing(A, 2, S.astype(np.uint16)),
        ),
    ],
)
def test_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_the_step_refuses_counts_that_do_not_fit():
    pipe = p.Pipeline(rows=2)
    logits = pipe.input("logits", (2, 4))
    with pytest.raises(DTypeError, match="counts is f32, expected u32"):
        pipe.fused_moe_routing(logits, 2, counts=pipe.state("counts", p.Storage.zeros((4,))))
    with pytest.raises(ShapeError, match=r"counts has shape \(5,\), expected \(4,\)"):
        pipe.fused_moe_routing(logits, 2, counts=pipe.state("counts", p.Storage.zeros((5,), "u32")))
    with pytest.raises(BuildError, match="top_k = 2.5 of 4 experts; choose an integer from 1 to 4"):
        pipe.fused_moe_routing(logits, 2.5)
    with pytest.raises(ShapeError, match=r"flat has shape \(2,\), expected \[rows, experts\]"):
        pipe.fused_moe_routing(pipe.input("flat", (2,)), 1)


# The cache of chains


def test_a_repeated_call_builds_nothing_and_is_one_command_buffer(device, monkeypatch):
    logits = np.random.default_rng(5).normal(size=(3, 21)).astype(np.float32)
    first = ops.moe_softmax_topk(logits, 4, device=device)
    before = device.command_buffers
    monkeypatch.setattr(p.Pipeline, "build", None)
    np.testing.assert_array_equal(ops.moe_softmax_topk(logits, 4, device=device), first)
    assert device.command_buffers == before + 1


def test_a_failed_row_does_no_harm_to_the_next_call(device):
    logits = np.random.default_rng(6).normal(size=(2, 5)).astype(np.float32)
    with pytest.raises(RunError, match="moe_softmax_topk, row 1: "):
        ops.moe_softmax_topk(np.stack([logits[0], np.full(5, np.nan, np.float32)]), 2, device=device)
    check(ops.moe_softmax_topk(logits, 2, device=device), reference.softmax_topk(logits, 2))


def test_calls_from_many_threads(device):
    cases = [np.random.default_rng(seed).normal(size=(2, 19)).astype(np.float32) for seed in range(6)]
    wrong = []

    def work(logits):
        want = reference.softmax_topk(logits, 3)[0]
        for _ in range(40):
            if (ops.moe_softmax_topk(logits, 3, device=device)[0] != want).any():
                wrong.append(logits)

    threads = [threading.Thread(target=work, args=(logits,)) for logits in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_chains_are_kept_up_to_a_count_and_a_size(device):
    def make(dim):
        pipe = p.Pipeline(device, rows=1)
        return lambda: pipe.build(pipe.rms_norm(pipe.input("x", (1, dim))))

    chains = call.Chains(count=2, nbytes=10_000)
    first, lock = chains.get("a", make(8))
    assert chains.get("a", None) == (first, lock)
    chains.get("b", make(8))
    chains.get("a", None)
    chains.get("c", make(8))
    assert len(chains) == 2 and chains.get("a", None)[0] is first  # b was used longest ago
    large, _ = chains.get("d", make(4096))
    assert len(chains) == 0 and large.run(x=np.ones((1, 4096), np.float32)).shape == (1, 4096)


def test_one_device_for_its_name_and_for_auto():
    assert call._opened(call._opened("auto").name) is call._opened("auto")
