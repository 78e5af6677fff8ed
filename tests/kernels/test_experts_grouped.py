"""Experts of many rows, expert by expert: the order of the pairs, and the same bits as row by row."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import axis, each, pairs
from support.experts import Layer
from support.kernels import (
    FORMATS,
    PLAIN_FORMATS,
    alone,
    assert_rows_alone,
    chain,
    guarded_chain,
    guarded_run,
    run,
    with_one_thread,
)

from pipeline.errors import RunError

NONE = ref.NONE
KEPT = 0xABABABAB  # what stands where nothing is to be written


def steps(layer, grouped):
    def add(pipe, h, ids, weights):
        return layer.steps(pipe, h, ids, weights, grouped)

    return add


def assert_same(device, layer, inputs):
    """The outputs of both forms, which are the same bits; checked against the oracle."""
    rows = len(inputs["h"])
    by_row, by_expert = (run(device, rows, steps(layer, grouped), **inputs) for grouped in (False, True))
    layer.check(device, by_expert, **inputs)
    assert by_row.tobytes() == by_expert.tobytes()
    return by_expert


# The order of the pairs: the same code with one thread and with two


def group(device, ids, experts, spare=0):
    """(pairs, offsets, failed rows) of group_experts."""
    rows, top_k = ids.shape

    def add(pipe, ids):
        pairs, offsets = (
            pipe.scratch("pairs", (ids.shape[0] * top_k,), "u32"),
            pipe.scratch("offsets", (experts + 1,), "u32"),
        )
        pipe.add(
            "group",
            "group_experts",
            (ids,),
            (pairs, offsets, pipe.status()),
            {
                "rows": rows,
                "experts": experts,
                "top_k": top_k,
                "inputs": 1,
                "outputs": 1,
                "group_size": 0,
                "dense": 0,
                "activation": 0,
                "bias": 0,
                "expert_rows": 1,
                "row_step": 1,
                "step": pipe.failing_step("group"),
            },
            height=experts,
        )
        return pairs, offsets

    made = guarded_chain(device, rows, add, spare, ids=ids)
    for output in made.plan.outputs:
        made.view(output)[:] = KEPT
    made.view(made.plan.inputs["ids"])[:] = ids
    made.commit(rows).wait()
    made.check_guards()
    failed = [row for row in range(rows) if made.view(made.plan.status)[row]]
    return *(made.view(output).copy() for output in made.plan.outputs), failed


def assert_grouped(device, ids, experts, spare=0):
    pairs, offsets, failed = group(device, ids, experts, spare)
    flat = ids.reshape(-1).astype(np.int64)
    order = np.argsort(flat, kind="stable")
    order = order[flat[order] < experts]
    assert offsets.tolist() == [int((flat < expert).sum()) for expert in range(experts)] + [len(order)]
    assert pairs[: len(order)].tolist() == order.tolist()
    assert (pairs[len(order) :] == KEPT).all()
    assert failed == [row for row in range(len(ids)) if ((ids[row] >= experts) & (ids[row] != NONE)).any()]


def chosen(rng, rows, experts, top_k):
    """ids [rows, top_k] that differ within a row."""
    return np.array([rng.permutation(experts)[:top_k] for _ in range(rows)], np.uint32)


@pytest.mark.one_processor
@each("experts, rows", [6, 1, 257, 60, 128], [1, 2, 13, 33, 70])
def test_pairs_come_by_expert_then_by_row(device, experts, rows):
    rng = np.random.default_rng(experts + rows)
    for top_k in {1, min(experts, 3), min(experts, 8)}:
        assert_grouped(device, chosen(rng, rows, experts, top_k), experts)


@pytest.mark.one_processor
@given(experts=st.integers(1, 40), rows=st.integers(1, 70), top_k=st.integers(1, 8), seed=st.integers(0, 1000))
def test_any_ids_are_grouped(device, experts, rows, top_k, seed):
    """Also ids that a row has twice, and such as are no experts."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, experts, (rows, top_k), np.uint32)
    ids[rng.random(ids.shape) < 0.1] = NONE
    ids[rng.random(ids.shape) < 0.05] = experts
    ids[rng.random(ids.shape) < 0.05] = NONE - 1
    assert_grouped(device, ids, experts, spare=int(rng.integers(0, 3)))


@pytest.mark.one_processor
@pytest.mark.parametrize("pick", [0, 5, 11], ids=["first", "middle", "last"])
def test_one_expert_may_have_all_pairs(device, pick):
    assert_grouped(device, np.full((70, 8), pick, np.uint32), 12)


@pytest.mark.one_processor
def test_no_pair_may_have_an_expert(device):
    assert_grouped(device, np.full((5, 4), NONE, np.uint32), 6)


@pytest.mark.parametrize("threads", [1, 32, 40, 256, 1024])
def test_threadgroups_of_any_size_group(threads):
    """Fewer threads than pairs, more of them, and a simdgroup that is not full."""
    import pipeline

    checker = pipeline.open_device("checker", threads=threads, schedules=4)
    rng = np.random.default_rng(threads)
    for rows, experts, top_k in ((1, 1, 1), (40, 6, 5), (70, 3, 2)):
        assert_grouped(checker, chosen(rng, rows, experts, min(top_k, experts)), experts)
    assert [str(finding) for finding in checker.findings] == []


@pytest.mark.one_processor
def test_a_long_prompts_pairs(processor):
    assert_grouped(processor, chosen(np.random.default_rng(0), 3000, 128, 8), 128)


# The same bits


@pairs("format", FORMATS)
def test_every_format(device, format):
    rng = np.random.default_rng(1)
    size = format[1] or 33
    layer = Layer(rng, 2, size, size, format)
    inputs = layer.inputs(rng, 4, 1)
    inputs["ids"][:, 0] = 1, 0, 1, 1  # an expert of one row, and one of several
    assert_same(device, layer, inputs)


@pairs(
    "format, activation, bias",
    [("bf16", 0), ("q4_bf16", 32), ("q8_f16", 32)],
    ["silu", "gelu_tanh", "swiglu_oai", "relu"],
    [None, "f32", "bf16"],
)
def test_activations_and_biases(device, format, activation, bias):
    rng = np.random.default_rng(12)
    size = format[1] or 33
    layer = Layer(rng, 4, 2 * size, size, format, activation=activation, bias=bias)
    inputs = layer.inputs(rng, 7, 3, scale=4.0)
    inputs["ids"][3, 2] = NONE
    assert_same(device, layer, inputs)


@each("experts, sizes", axis([1, 6, 60, 128, 257], daily=[1, 6, 60, 257]), [(1, 1), (31, 17), (7, 257)])
def test_every_size(device, experts, sizes):
    hidden, dim = sizes
    rng = np.random.default_rng(experts)
    layer = Layer(rng, experts, hidden, dim)
    assert_same(device, layer, layer.inputs(rng, 7, min(experts, 8)))


@given(
    experts=st.integers(1, 12),
    rows=st.integers(1, 30),
    hidden=st.integers(1, 40),
    dim=st.integers(1, 40),
    format=st.sampled_from(PLAIN_FORMATS),
    seed=st.integers(0, 1000),
)
def test_experts_of_any_size(device, experts, rows, hidden, dim, format, seed):
    rng = np.random.default_rng(seed)
    if device.name == "checker":
        rows, hidden, dim = min(rows, 9), min(hidden, 20), min(dim, 20)
    layer = Layer(rng, experts, hidden, dim, (format, 0))
    inputs = layer.inputs(rng, rows, rng.integers(1, min(experts, 8) + 1))
    inputs["ids"][rng.random(inputs["ids"].shape) < 0.1] = NONE
    assert_same(device, layer, inputs)


def test_down_may_have_a_format_of_its_own(device):
    rng = np.random.default_rng(2)
    layer = Layer(rng, 6, 64, 128, ("q4_bf16", 128), ("q8_f16", 64))
    assert_same(device, layer, layer.inputs(rng, 5, 4))


@each("rows", axis([1, 2, 3, 4, 5, 11], daily=[1, 4, 5, 11]))  # around a tile
def test_one_expert_may_have_all_rows(device, rows):
    rng = np.random.default_rng(rows)
    layer = Layer(rng, 9, 33, 17)
    inputs = layer.inputs(rng, rows, 1)
    inputs["ids"][:] = 4
    assert_same(device, layer, inputs)


def test_a_row_may_have_one_expert_twice(device):
    rng = np.random.default_rng(3)
    layer = Layer(rng, 4, 32, 32, ("q4_bf16", 32))
    inputs = layer.inputs(rng, 6, 3)
    inputs["ids"][2] = inputs["ids"][4] = [1, 1, 1]
    assert_same(device, layer, inputs)


def test_rows_do_not_depend_on_each_other(device):
    rng = np.random.default_rng(4)
    for format in (("bf16", 0), ("q4_bf16", 32)):
        layer = Layer(rng, 9, 32, 32, format)
        assert_rows_alone(device, steps(layer, True), **layer.inputs(rng, 6, 3))


def assert_stays_alone(device, format, bad):
    """Two rows of 9 have `bad` in them; those that share their experts get the bits that they get alone."""
    rng = np.random.default_rng(5)
    layer = Layer(rng, 6, 32, 32, format)
    inputs = layer.inputs(rng, 9, 4)
    inputs["h"][2, 7] = inputs["h"][8, 31] = bad
    inputs["weights"][4, 1] = bad
    by_row, by_expert = (run(device, 9, steps(layer, grouped), **inputs) for grouped in (False, True))
    assert not np.isfinite(by_expert[[2, 8]]).any()
    for row in range(9):
        assert (row in (2, 4, 8)) or np.isfinite(by_expert[row]).all()
        single = alone(device, steps(layer, True), row, **inputs)
        assert same_bits(by_row[row], by_expert[row]) and same_bits(single[0], by_expert[row])


@pairs(
    "format, bad", axis([("f32", 0), ("q4_bf16", 32), ("q8_f16", 32)], [("f32", 0), ("q4_bf16", 32)]), [np.nan, np.inf]
)
def test_a_row_that_is_no_number_stays_alone(device, format, bad):
    assert_stays_alone(device, format, bad)


@pytest.mark.parametrize("format", [("f32", 0), ("q4_bf16", 32), ("q8_f16", 32)], ids=["f32", "q4", "q8"])
def test_a_row_that_overflows_stays_alone(processor, format):
    """Not on the checker, which reports it."""
    assert_stays_alone(processor, format, 1e38)


def same_bits(a, b):
    """The same bits but for those of NaN, whose sign and payload are the processor's affair."""
    return (
        np.where(np.isnan(a), np.float32(np.nan), a).tobytes() == np.where(np.isnan(b), np.float32(np.nan), b).tobytes()
    )


def test_no_expert_adds_nothing(device):
    rng = np.random.default_rng(6)
    layer = Layer(rng, 6, 33, 17)
    inputs = layer.inputs(rng, 5, 3)
    inputs["ids"][0] = NONE
    inputs["ids"][1, 0] = inputs["ids"][2, 1] = inputs["ids"][3, 2] = NONE
    inputs["weights"][1, 0] = np.nan  # not even this
    y = run(device, 5, steps(layer, True), **inputs)
    inputs["weights"][1, 0] = 0
    assert y.tobytes() == assert_same(device, layer, inputs).tobytes()
    assert (y[0] == 0).all()


@each("bad, format", axis([6, 7, 1000, NONE - 1, NONE], daily=[6, NONE - 1, NONE]), [("q4_bf16", 32), ("f32", 0)])
def test_ids_that_are_no_experts_read_no_weights(device, bad, format):
    """Behind the last expert's weights there is NaN. The row fails, and the others do not notice."""
    rng = np.random.default_rng(7)
    layer = Layer(rng, 6, 32, 32, format)
    inputs = layer.inputs(rng, 3, 4)
    inputs["ids"][1, 2] = bad
    made = guarded_chain(device, 3, steps(layer, True), **inputs)
    with contextlib.nullcontext() if bad == NONE else pytest.raises(RunError, match="row 1: experts"):
        made.run(**inputs)
    made.check_guards()
    inputs["ids"][1, 2] = NONE
    layer.check(device, made.view(made.plan.outputs[0]), **inputs)


def test_spare_threadgroups_touch_nothing(device):
    rng = np.random.default_rng(8)
    layer = Layer(rng, 5, 33, 17)
    inputs = layer.inputs(rng, 7, 3)
    layer.check(device, guarded_run(device, 7, steps(layer, True), spare=2, **inputs), **inputs)


@pytest.mark.parametrize("used", [1, 4, 6])
def test_fewer_rows_leave_the_others_alone(device, used):
    """The ids of rows that do not run are in no group, even where they are no experts."""
    rng = np.random.default_rng(11)
    layer = Layer(rng, 6, 33, 17)
    inputs = layer.inputs(rng, 9, 3)
    inputs["ids"][used:] = 77
    made = guarded_chain(device, 9, steps(layer, True), **inputs)
    made.view(made.plan.outputs[0])[:] = -7
    y = made.run(rows=used, **inputs)
    made.check_guards()
    layer.check(device, y[:used], **{name: value[:used] for name, value in inputs.items()})
    assert (y[used:] == -7).all()
    (pairs, offsets) = (made.view(tensor) for tensor in made.plan.dispatches[1].writes[:2])
    assert offsets[6] == 3 * used and sorted(pairs[: 3 * used]) == list(range(3 * used))


def test_the_same_chain_again(device):
    """What an earlier run left in scratch has no say."""
    rng = np.random.default_rng(9)
    layer = Layer(rng, 6, 33, 17)
    made = chain(device, 6, steps(layer, True), **layer.inputs(rng, 6, 4))
    for _ in range(3):
        inputs = layer.inputs(rng, 6, 4)
        inputs["ids"][rng.random((6, 4)) < 0.3] = NONE
        layer.check(device, made.run(**inputs), **inputs)


@pytest.mark.one_processor
def test_one_thread_and_two_give_the_same(processor):
    rng = np.random.default_rng(10)
    layer = Layer(rng, 60, 64, 64, ("q4_bf16", 64))
    inputs = layer.inputs(rng, 70, 8)
    one = run(with_one_thread(processor), 70, steps(layer, True), **inputs)
    assert one.tobytes() == assert_same(processor, layer, inputs).tobytes()
