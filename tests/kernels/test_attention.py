"""Attention over the KV cache."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import caches
from support.attention import CACHES, attend, cached, check_attention
from support.axes import axis, each, pairs
from support.kernels import activations, chain, some_rows

import pipeline as p
from pipeline.errors import DTypeError, ShapeError
from pipeline.models.cache import CACHE_BLOCK

HEAD_DIMS = (2, 18, 32, 80, 128)
BLOCK = 256  # positions that attention weighs at a time (OB_ATTENTION_BLOCK)
COUNTS = [1, 2, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 700]


@each("count, dim, cache", COUNTS, HEAD_DIMS, CACHES)
def test_attention(device, count, dim, cache):
    rng = np.random.default_rng(count)
    keys, values = cached(rng, 2, 2, 700, dim, cache=cache), cached(rng, 2, 2, 700, dim, cache=cache)
    q = activations(rng, 3, 4, dim)
    slots, positions = [1, 0, 1], [count - 1, count // 2, 699]
    y = attend(device, q, keys, values, slots, positions)
    check_attention(y, q, keys, values, slots, positions, dim**-0.5)


@each("heads, cache", [(1, 1), (6, 6), (7, 1), (12, 4), (32, 4), (16, 1), (17, 1), (70, 2)], CACHES)
def test_grouped_queries(device, heads, cache):
    heads, kv_heads = heads
    rng = np.random.default_rng(heads)
    keys, values = cached(rng, 1, kv_heads, 40, 32, cache=cache), cached(rng, 1, kv_heads, 40, 32, cache=cache)
    q = activations(rng, 2, heads, 32)
    y = attend(device, q, keys, values, [0, 0], [39, 5], scale=0.3)
    check_attention(y, q, keys, values, [0, 0], [39, 5], 0.3)


@given(
    dim=st.integers(1, 140),
    heads=st.integers(1, 5),
    group=st.integers(1, 3),
    context=st.integers(1, 600),
    size=st.sampled_from([0.01, 1.0, 5.0]),
    seed=st.integers(0, 1000),
    cache=st.sampled_from(sorted(CACHES)),
)
def test_attention_of_any_size(device, dim, heads, group, context, size, seed, cache):
    rng = np.random.default_rng(seed)
    keys, values = (cached(rng, 2, heads, context, dim, cache=cache) for _ in range(2))
    q = activations(rng, 2, heads * group, dim) * np.float32(size)
    slots, positions = rng.integers(0, 2, 2), rng.integers(0, context, 2)
    y = attend(device, q, keys, values, slots, positions)
    check_attention(y, q, keys, values, slots, positions, dim**-0.5)


@pytest.mark.parametrize("cache", CACHES)
def test_what_lies_behind_the_position_is_never_read(device, cache):
    rng = np.random.default_rng(1)
    keys, values = cached(rng, 1, 1, 300, 18, cache=cache), cached(rng, 1, 1, 300, 18, cache=cache)
    q = activations(rng, 3, 1, 18)
    positions = [0, 254, 257]
    clean = attend(device, q, keys, values, [0] * 3, positions)
    for row, position in enumerate(positions):
        spoiled = [cache.copy() for cache in (keys, values)]
        for cache in spoiled:
            cache[:, :, position + 1 :] = np.nan
        y = attend(device, q, *spoiled, [0] * 3, positions)
        assert y[row].tobytes() == clean[row].tobytes()


@pytest.mark.parametrize("first", [0, 255, 256, 299])
def test_one_score_far_above_the_others_takes_its_value(device, first):
    """Scores of ±3,000: exp would overflow unless the largest is subtracted, in whichever block it is."""
    keys = np.full((1, 1, 300, 16), -1, np.float32)
    keys[0, 0, first] = 1
    values = activations(np.random.default_rng(2), 1, 1, 300, 16)
    y = attend(device, np.full((1, 1, 16), 750, np.float32), keys, values, [0], [299])
    np.testing.assert_array_equal(y[0], values[0, 0, first])


@pytest.mark.parametrize("first", [0, 255, 256, 511])
def test_the_largest_score_so_far_changes_from_block_to_block(device, first):
    """Scores that rise by 40 from one block to the next, or fall: weights of e^-40 are lost, those of e^-1 are not."""
    rng = np.random.default_rng(first)
    size = np.where(np.arange(700) < first, -40, 0) + np.where(np.arange(700) >= 600, 40, 0) + rng.random(700)
    keys = np.zeros((1, 1, 700, 16), np.float32)
    keys[0, 0, :, 3] = size
    values = activations(rng, 1, 1, 700, 16)
    q = np.zeros((1, 2, 16), np.float32)
    q[0, :, 3] = 1, -1
    y = attend(device, q, keys, values, [0], [699], scale=1.0)
    check_attention(y, q, keys, values, [0], [699], 1.0)


def test_a_long_context(processor):
    rng = np.random.default_rng(9)
    keys, values = (cached(rng, 1, 1, 20_000, 64, cache="f16") for _ in range(2))
    q = activations(rng, 2, 8, 64) * 3
    y = attend(processor, q, keys, values, [0, 0], [19_999, 12_345])
    check_attention(y, q, keys, values, [0, 0], [19_999, 12_345], 64**-0.5)


# Scores of -inf and what is no number


INFINITE = [slice(0, 1), slice(0, 256), slice(0, 299), slice(256, 300), slice(3, 290)]


@pytest.mark.parametrize("hidden", INFINITE, ids=lambda each: f"{each.start}-{each.stop}")
def test_scores_of_minus_infinity_have_no_weight(device, hidden):
    """Where they fill a block too, first or last; their values are finite."""
    rng = np.random.default_rng(7)
    keys, values, q = (
        activations(rng, 1, 1, 300, 16),
        activations(rng, 1, 1, 300, 16),
        np.abs(activations(rng, 1, 3, 16)),
    )
    keys[0, 0, hidden] = -np.inf
    y = attend(device, q, keys, values, [0], [299])
    seen = np.ones(300, bool)
    seen[hidden] = False
    check_attention(y, q, keys[:, :, seen], values[:, :, seen], [0], [seen.sum() - 1], 0.25)


def test_a_row_that_sees_nothing_is_nan(device):
    """As a softmax of -inf alone is; a row that sees something is none the worse for it."""
    rng = np.random.default_rng(8)
    keys, values, q = (
        activations(rng, 1, 1, 300, 16),
        activations(rng, 1, 1, 300, 16),
        np.abs(activations(rng, 2, 3, 16)),
    )
    keys[0, 0, :280] = -np.inf
    y = attend(device, q, keys, values, [0, 0], [279, 299])
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()


@each("at, cache", [0, 100, 255, 256, 298], CACHES)
def test_nan_in_a_key_spoils_its_head_and_in_a_value_its_column(device, at, cache):
    rng = np.random.default_rng(at)
    keys, values = cached(rng, 1, 2, 300, 32, cache=cache), cached(rng, 1, 2, 300, 32, cache=cache)
    q = activations(rng, 2, 4, 32)
    clean = attend(device, q, keys, values, [0, 0], [298, 299]).reshape(2, 4, 32)
    keys[0, 0, at, 7] = np.nan
    y = attend(device, q, keys, values, [0, 0], [298, 299]).reshape(2, 4, 32)
    assert np.isnan(y[:, :2]).all() and y[:, 2:].tobytes() == clean[:, 2:].tobytes()
    keys[0, 0, at, 7], values[0, 1, at, 5] = 0, np.nan
    y = attend(device, q, keys, values, [0, 0], [298, 299]).reshape(2, 4, 32)
    assert np.isnan(y[:, 2:, 5]).all() and np.isfinite(np.delete(y, 5, -1)).all() and np.isfinite(y[:, :2]).all()


def test_nan_in_a_query_spoils_that_head_alone(device):
    rng = np.random.default_rng(5)
    keys, values, q = activations(rng, 1, 1, 20, 32), activations(rng, 1, 1, 20, 32), activations(rng, 2, 5, 32)
    clean = attend(device, q, keys, values, [0, 0], [19, 18]).reshape(2, 5, 32)
    q[0, 2, 31] = np.nan
    y = attend(device, q, keys, values, [0, 0], [19, 18]).reshape(2, 5, 32)
    assert np.isnan(y[0, 2]).all()
    y[0, 2] = clean[0, 2]
    assert y.tobytes() == clean.tobytes()


@each("threads", axis([1, 2, 17, 32, 64, 160, 1024], daily=[1, 17, 64, 160, 1024]))
def test_threadgroups_of_any_size(threads):
    checker = p.open_device("checker", threads=threads, schedules=2)
    rng = np.random.default_rng(threads)
    keys, values = cached(rng, 2, 2, 300, 40, cache="f16"), cached(rng, 2, 2, 300, 40, cache="f16")
    q = activations(rng, 2, 10, 40)
    y = attend(checker, q, keys, values, [1, 0], [299, 17])
    check_attention(y, q, keys, values, [1, 0], [299, 17], 40**-0.5)
    assert not checker.findings


@pytest.mark.parametrize("cache", CACHES)
def test_rows_do_not_depend_on_each_other(device, cache):
    rng = np.random.default_rng(3)
    keys, values = cached(rng, 3, 2, 300, 18, cache=cache), cached(rng, 3, 2, 300, 18, cache=cache)
    q = activations(rng, 9, 4, 18)
    slots, positions = rng.integers(0, 3, 9), rng.integers(0, 300, 9)
    batch = attend(device, q, keys, values, slots, positions)
    for row in some_rows(device, 9):
        single = attend(device, q[row : row + 1], keys, values, slots[row : row + 1], positions[row : row + 1])
        assert batch[row].tobytes() == single[0].tobytes()


SEQUENCES = ([1] * 10 + [0] * 6, [*range(90, 100), *range(253, 259)])  # slots and positions of rows


SHARING = axis([(1, 1), (4, 2), (3, 1), (7, 1), (16, 2), (20, 1)], on_checker=[(4, 2), (3, 1)])


@pairs("heads, cache", SHARING, CACHES)
def test_rows_of_one_sequence(device, heads, cache):
    """As in a prompt, where rows may be worked on together; none sees the positions of those behind it."""
    heads, kv_heads = heads
    rng = np.random.default_rng(heads)
    keys, values = (cached(rng, 2, kv_heads, 300, 32, cache=cache) for _ in range(2))
    q = activations(rng, 16, heads, 32)
    together = attend(device, q, keys, values, *SEQUENCES)
    check_attention(together, q, keys, values, *SEQUENCES, 32**-0.5)
    for row in some_rows(device, 16):
        slot, position = (column[row] for column in SEQUENCES)
        assert (
            attend(device, q[row : row + 1], keys, values, [slot], [position])[0].tobytes() == together[row].tobytes()
        )
    keys[1, :, 97], values[0, :, 256] = np.nan, np.inf
    spoiled = attend(device, q, keys, values, *SEQUENCES)
    for row, (slot, position) in enumerate(zip(*SEQUENCES)):
        if position < (256, 97)[slot]:
            assert spoiled[row].tobytes() == together[row].tobytes()
        else:
            assert not np.isfinite(spoiled[row]).any()


def test_fewer_rows_leave_the_others_alone(device):
    rng = np.random.default_rng(4)
    keys, values = activations(rng, 1, 1, 9, 18), activations(rng, 1, 1, 9, 18)
    q = activations(rng, 5, 1, 18)
    inputs = {"q": q, "slots": np.zeros(5, np.uint32), "positions": np.arange(5, dtype=np.uint32)}

    def steps(pipe, q, slots, positions):
        return pipe.attention(q, *caches.states(pipe, caches.storages(keys, values)), slots, positions)

    made = chain(device, 5, steps, **inputs)
    made.view(made.plan.outputs[0])[:] = -7
    y = made.run(rows=3, **inputs)
    check_attention(y[:3], q[:3], keys, values, [0] * 3, [0, 1, 2], 18**-0.5)
    assert (y[3:] == -7).all()


@pytest.mark.parametrize("keys, values", [("f32", "f16"), ("f16", "f32"), ("bf16", "bf16"), ("u32", "u32")])
def test_caches_of_other_types_are_refused(keys, values):
    pipe = p.Pipeline(rows=1)
    kept = caches.unused(pipe, [(1, 1, CACHE_BLOCK, 16)] * 2, (keys, values))
    words = f"the caches are {keys} and {values}; use one of f16, f32, q8 for both"
    with pytest.raises(DTypeError, match="attention: " + words):
        pipe.attention(
            pipe.input("q", (1, 2, 16)), *kept, *(pipe.input(name, (1,), "u32") for name in ("slots", "positions"))
        )
    with pytest.raises(DTypeError, match="heads_to_cache: " + words):
        pipe.heads_to_cache(
            pipe.input("x", (1, 32)),
            pipe.input("y", (1, 16)),
            pipe.input("z", (1, 16)),
            np.ones(16, np.float32),
            np.ones(16, np.float32),
            pipe.input("table", (1, 2, 8)),
            pipe.input("s", (1,), "u32"),
            pipe.input("p", (1,), "u32"),
            *kept,
        )


def test_heads_that_do_not_divide_are_refused():
    pipe = p.Pipeline(rows=1)
    kept = caches.unused(pipe, [(1, 2, CACHE_BLOCK, 16)] * 2)
    with pytest.raises(ShapeError, match="attention: 3 heads do not divide over 2 key-value heads"):
        pipe.attention(
            pipe.input("q", (1, 3, 16)), *kept, *(pipe.input(name, (1,), "u32") for name in ("slots", "positions"))
        )
