"""Attention as families vary it: windows over rings, sinks, soft caps, values of their own size, caches of 8 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import caches
from support import reference as ref
from support.axes import axis, each, pairs
from support.kernels import DOT, ELEMENTARY, activations, assert_close, run, stored

import pipeline as p
from pipeline.errors import BuildError, DTypeError, ShapeError
from pipeline.models.cache import CACHE_BLOCK

CACHES = ("f32", "f16", "q8")


class History:
    """Random keys and values of `count` positions of a few sequences, and caches that hold the last of them."""

    def __init__(self, rng, slots, kv_heads, count, dim, v_dim=0, cache="f32"):
        self.cache, self.count, self.dim, self.v_dim = cache, count, dim, v_dim or dim
        self.keys, self.values = (activations(rng, slots, kv_heads, count, n) for n in (dim, self.v_dim))
        self.stored = []
        for x in (self.keys, self.values):
            rows = {"f32": lambda x: x, "f16": lambda x: x.astype(np.float16), "q8": ref.q8_rows}[cache](x)
            x[:] = ref.q8_values(rows, x.shape[-1])[0] if cache == "q8" else rows
            self.stored.append(rows)

    def storages(self, context, ends=None, spoil=None):
        """Caches of at least `context` positions of each sequence, up to ends[slot], in a ring, and their table."""
        arrays, context = [], caches.width_of(context) * CACHE_BLOCK
        for rows in self.stored:
            ring = np.full(
                (*rows.shape[:2], context, rows.shape[3]), 0xFF if self.cache == "q8" else np.nan, rows.dtype
            )
            for slot in range(len(rows)):
                end = self.count if ends is None else ends[slot]
                kept = np.arange(max(end - context, 0), end)
                ring[slot, :, kept % context] = rows[slot, :, kept]
            arrays.append(ring)
        return caches.storages(*arrays, dtype=self.cache, dims=(self.dim, self.v_dim))


def attend(device, q, storages, slots, positions, scale=None, **options):
    inputs = {"q": q, "slots": np.asarray(slots, np.uint32), "positions": np.asarray(positions, np.uint32)}

    def steps(pipe, q, slots, positions):
        return pipe.attention(q, *caches.states(pipe, storages), slots, positions, scale, **options)

    return run(device, len(q), steps, **inputs)


def check(y, q, history, slots, positions, scale=None, window=0, sinks=None, softcap=0.0):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    wanted = ref.attention(q, history.keys, history.values, slots, positions, scale, window, sinks, softcap)
    group = q.shape[1] // history.keys.shape[1]
    for row, (slot, position) in enumerate(zip(slots, positions)):
        seen = slice(max(position + 1 - window, 0) if window else 0, position + 1)
        k = np.repeat(np.abs(history.keys[slot, :, seen]), group, 0).astype(np.float64)
        v = np.repeat(np.abs(history.values[slot, :, seen]), group, 0).max(1)
        # A score off by e scales its weight by 1 + e, a capped one by less; sums round on top.
        scores = DOT * scale * np.einsum("hd,hnd->hn", np.abs(q[row]), k).max(-1, keepdims=True)
        assert_close(y[row], wanted[row], ((2 * scores + ELEMENTARY * (1 + softcap) + DOT) * v).reshape(-1))


# Windows and rings


# The cache has blocks of 64 positions; native kernels weigh as many at a time, shaders 256.
WINDOWS = (1, 2, 7, 63, 64, 65, 96, 128, 256, 257, 600)


@pairs("window, cache", axis(WINDOWS, daily=(1, 7, 64, 65, 96, 256, 257, 600)), CACHES)
def test_windows(device, window, cache):
    """In a ring as small as it may be, in one with room, and in a cache of everything."""
    rng = np.random.default_rng(window)
    history = History(rng, 2, 2, 700, 24, cache=cache)
    positions = [0, window - 1, window, 699] if window < 699 else [0, 3, 5, 699]
    for row, position in enumerate(positions):
        q = activations(rng, 1, 4, 24)
        wanted = None
        for context in (window, window + 5, 700):
            storages = history.storages(context, ends=[position + 1] * 2)
            y = attend(device, q, storages, [row % 2], [position], window=window)
            check(y, q, history, [row % 2], [position], window=window)
            wanted = y if wanted is None else wanted
            assert y.tobytes() == wanted.tobytes()  # wherever the ring begins


@each("heads, window, cache", [(3, 3, 24), (4, 1, 64), (16, 2, 80), (5, 5, 16), (17, 1, 32)], [2, 5, 90, 128], CACHES)
def test_a_chunk_of_a_prompt_wraps_around(device, heads, window, cache):
    """Rows of two sequences, mixed: each sees its window in a ring of window + rows - 1, and gives the bits that
    it gives alone in a cache of everything. 250: a chunk across the shader's first 256 positions."""
    heads, kv_heads, dim = heads
    rng = np.random.default_rng(heads)
    history, rows = History(rng, 2, kv_heads, 420, dim, cache=cache), 19
    for first in (250,) if device.name == "checker" else (0, 77, 250, 400):
        slots = [1] * 12 + [0] * 7
        positions = [*range(first, first + 12), *range(first // 2, first // 2 + 7)]
        q = activations(rng, rows, heads, dim)
        ring = history.storages(window + rows - 1, ends=[first // 2 + 7, first + 12])
        together = attend(device, q, ring, slots, positions, window=window)
        check(together, q, history, slots, positions, window=window)
        everything = history.storages(420)
        for row in (5, 18) if device.name == "checker" else (0, 1, 5, 11, 12, 18):
            alone = attend(
                device, q[row : row + 1], everything, slots[row : row + 1], positions[row : row + 1], window=window
            )
            assert alone[0].tobytes() == together[row].tobytes()


@each("heads, chunk, cache", [(4, 2, 24), (16, 2, 80), (5, 5, 16)], [1, 5, 64, 90, 128], CACHES)
def test_chunks(device, heads, chunk, cache):
    """Rows of two sequences, mixed, across the ends of chunks: each sees its own chunk up to itself, in a ring, and
    gives the bits that it gives alone in a cache of everything."""
    heads, kv_heads, dim = heads
    rng = np.random.default_rng(heads)
    history, rows = History(rng, 2, kv_heads, 420, dim, cache=cache), 19
    for first in (chunk - 3,) if device.name == "checker" else (chunk - 3, 250):
        first = max(first, 0)
        slots = [1] * 12 + [0] * 7
        positions = [*range(first, first + 12), *range(first // 2, first // 2 + 7)]
        q = activations(rng, rows, heads, dim)
        ring = history.storages(chunk + rows - 1, ends=[first // 2 + 7, first + 12])
        together = attend(device, q, ring, slots, positions, window=chunk, chunked=True)
        for row, position in enumerate(positions):
            seen = position % chunk + 1
            check(together[row : row + 1], q[row : row + 1], history, [slots[row]], [position], window=seen)
        for row in (2, 3, 18):
            one = slice(row, row + 1)
            everything = history.storages(420)
            alone = attend(device, q[one], everything, slots[one], positions[one], window=chunk, chunked=True)
            assert alone[0].tobytes() == together[row].tobytes()


def test_a_window_of_everything_is_no_window(device):
    rng = np.random.default_rng(3)
    history = History(rng, 1, 2, 300, 32)
    q = activations(rng, 4, 4, 32)
    positions = [0, 100, 298, 299]
    plain = attend(device, q, history.storages(300), [0] * 4, positions)
    for window in (300, 301, 2**32 - 1):
        y = attend(device, q, history.storages(300), [0] * 4, positions, window=window)
        check(y, q, history, [0] * 4, positions, window=window)
        assert y.tobytes() == plain.tobytes()


def test_what_lies_outside_a_window_is_not_read(device):
    rng = np.random.default_rng(4)
    history = History(rng, 1, 1, 300, 16)
    q = activations(rng, 3, 2, 16)
    positions = [250, 251, 252]
    clean = attend(device, q, history.storages(300), [0] * 3, positions, window=7)
    history.stored[0][:, :, :244] = history.stored[1][:, :, :244] = np.nan
    history.stored[0][:, :, 253:] = history.stored[1][:, :, 253:] = np.inf
    assert attend(device, q, history.storages(300), [0] * 3, positions, window=7).tobytes() == clean.tobytes()
    history.stored[1][:, :, 244] = np.nan  # the first row's
    y = attend(device, q, history.storages(300), [0] * 3, positions, window=7)
    assert np.isnan(y[0]).all() and y[1:].tobytes() == clean[1:].tobytes()


@each("position", axis([2**31 - 1, 2**31, 0xFFFFFFFF], daily=[2**31 - 1, 0xFFFFFFFF]))
def test_positions_beyond_all_stay_within_the_ring(device, position):
    rng = np.random.default_rng(5)
    history = History(rng, 1, 1, 64, 16)
    q = activations(rng, 1, 2, 16)
    y = attend(device, q, history.storages(40), [0], [position], window=7)
    at = (2**31 - 1) % CACHE_BLOCK
    assert at >= 6
    wanted = attend(device, q, history.storages(40), [0], [at], window=7)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)


@given(
    heads=st.integers(1, 4),
    group=st.integers(1, 20),
    dim=st.integers(1, 70),
    v_dim=st.integers(1, 70),
    window=st.integers(0, 300),
    count=st.integers(1, 400),
    rows=st.integers(1, 9),
    sunk=st.booleans(),
    softcap=st.sampled_from([0.0, 0.3, 30.0]),
    cache=st.sampled_from(CACHES),
    seed=st.integers(0, 1000),
)
def test_everything_together(device, heads, group, dim, v_dim, window, count, rows, sunk, softcap, cache, seed):
    rng = np.random.default_rng(seed)
    if device.name == "checker":  # which sees what few key heads, rows and positions do wrong
        heads, rows, group, count = min(heads, 2), min(rows, 3), min(group, 6), min(count, 140)
    rows = min(rows, count)
    history = History(rng, 1, heads, count, dim, v_dim, cache)
    q = activations(rng, rows, heads * group, dim)
    positions = list(range(count - rows, count))
    sinks = activations(rng, heads * group) if sunk else None
    context = min(window + rows - 1, count) if window else count
    y = attend(device, q, history.storages(context), [0] * rows, positions, window=window, sinks=sinks, softcap=softcap)
    check(y, q, history, [0] * rows, positions, window=window, sinks=sinks, softcap=softcap)


# Sinks


@each("sizes, dtype", [(4, 2, 1), (8, 1, 97), (20, 1, 300), (3, 3, 600)], ["f32", "f16", "bf16"])
def test_sinks(device, sizes, dtype):
    heads, kv_heads, count = sizes
    rng = np.random.default_rng(count)
    history = History(rng, 1, kv_heads, count, 64, cache="f16")
    q, (sinks, values) = activations(rng, 2, heads, 64), stored(rng.normal(size=heads) * 3, dtype)
    positions = [count - 1, count // 2]
    y = attend(device, q, history.storages(count), [0, 0], positions, sinks=sinks)
    check(y, q, history, [0, 0], positions, sinks=values)


def test_a_sink_far_above_or_below_the_scores(device):
    rng = np.random.default_rng(1)
    history = History(rng, 1, 1, 300, 32)
    q = activations(rng, 1, 3, 32)
    plain = attend(device, q, history.storages(300), [0], [299])
    sinks = np.array([-np.inf, -200, 200], np.float32)
    y = attend(device, q, history.storages(300), [0], [299], sinks=sinks).reshape(3, 32)
    np.testing.assert_array_equal(y[:2], plain.reshape(3, 32)[:2])
    assert (np.abs(y[2]) < 1e-30).all()


def test_a_sink_that_is_no_number_spoils_its_head(device):
    """As one in a query does, which is there so that the checker expects any."""
    rng = np.random.default_rng(2)
    history = History(rng, 1, 1, 30, 32)
    q = activations(rng, 1, 3, 32)
    q[0, 0, 3] = np.nan
    y = attend(device, q, history.storages(30), [0], [29], sinks=np.array([0, np.nan, 0], np.float32)).reshape(3, 32)
    assert np.isnan(y[:2]).all() and np.isfinite(y[2]).all()


# Soft caps


@each("softcap, cache", [0.01, 1.0, 50.0, 1e4], CACHES)
def test_softcaps(device, softcap, cache):
    rng = np.random.default_rng(7)
    history = History(rng, 1, 2, 300, 32, cache=cache)
    q = activations(rng, 2, 6, 32) * 9
    y = attend(device, q, history.storages(300), [0, 0], [299, 120], softcap=softcap)
    wanted = ref.attention(q, history.keys, history.values, [0, 0], [299, 120], 32**-0.5, softcap=softcap)
    # tanh is off by a few units in the last place, a score by that much of itself; rounding of its product too.
    scores = np.minimum(np.abs(q).max() * 32 * 4 * 32**-0.5, softcap)
    assert_close(y, wanted, 2 * (ELEMENTARY + DOT) * (1 + scores) * np.abs(history.values).max())


def test_nan_passes_a_softcap(device):
    rng = np.random.default_rng(8)
    history = History(rng, 1, 1, 50, 32)
    q = activations(rng, 1, 2, 32)
    q[0, 1, 3] = np.nan
    y = attend(device, q, history.storages(50), [0], [49], softcap=5.0).reshape(2, 32)
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()


# Sizes


SIZES = [(64, 64), (80, 80), (96, 96), (128, 128), (192, 128), (256, 256), (512, 512), (24, 40), (576, 512)]


@each("sizes, cache", SIZES, CACHES)
def test_head_dims(device, sizes, cache):
    dim, v_dim = sizes
    rng = np.random.default_rng(dim)
    history = History(rng, 1, 2, 130, dim, v_dim, cache)
    q = activations(rng, 3, 6, dim)
    for window, positions in ((0, [129, 5, 6]), (33, [129, 96, 97])):
        y = attend(device, q, history.storages(130), [0] * 3, positions, window=window)
        check(y, q, history, [0] * 3, positions, window=window)


@each("heads", axis([16, 48, 80, 128], daily=[16, 80, 128]))
def test_many_query_heads_of_a_key_head(device, heads):
    rng = np.random.default_rng(heads)
    history = History(rng, 1, 1, 110, 32, cache="q8")
    q, sinks = activations(rng, 2, heads, 32), activations(rng, heads)
    y = attend(device, q, history.storages(110), [0, 0], [109, 108], window=100, sinks=sinks)
    check(y, q, history, [0, 0], [109, 108], window=100, sinks=sinks)


@each("v_dim, cache", [1, 16, 64, 70], CACHES)
def test_values_within_the_keys(device, v_dim, cache):
    """One cache for both, as latent attention has it: the first numbers of a row are its values."""
    rng = np.random.default_rng(v_dim)
    history = History(rng, 2, 1, 120, 72, cache=cache)
    history.values, storages = history.keys[..., :v_dim], history.storages(120)
    q = activations(rng, 5, 6, 72)
    slots, positions = [1, 1, 1, 0, 0], [100, 101, 102, 0, 96]
    y = attend(device, q, [storages[0], storages[0], storages[2]], slots, positions, v_dim=v_dim)
    check(y, q, history, slots, positions)


# What is refused


def test_what_is_refused():
    def refused(error, words, cache=(1, 1, 64, 16), v_cache=None, table=(1, 1), **options):
        pipe = p.Pipeline(rows=1)
        kept = caches.unused(pipe, [cache, v_cache or cache], table=table)
        with pytest.raises(error, match="attention: " + words):
            pipe.attention(
                pipe.input("q", (1, 2, 16)),
                *kept,
                *(pipe.input(n, (1,), "u32") for n in ("slots", "positions")),
                **options,
            )

    refused(BuildError, "a window of -1 positions is not possible; use 0 for none", window=-1)
    refused(ShapeError, "17 values do not fit v_cache, whose rows have 16", v_dim=17)
    refused(ShapeError, r"v_cache has shape \(2, 1, 64, 16\), expected \(1, 1, 64, 16\)", v_cache=(2, 1, 64, 16))
    refused(ShapeError, r"k_cache has shape \(1, 1, 63, 16\), expected \(1, 1, 64, 16\)", cache=(1, 1, 63, 16))
    refused(ShapeError, r"blocks has shape \(4,\), expected \(slots, width\)", table=(4,))
    refused(ShapeError, r"blocks has shape \(4, 0\), expected \(slots, width\)", table=(4, 0))
    refused(BuildError, "33,554,433 blocks of a slot are too many; give at most 33,554,432", table=(1, 2**25 + 1))
    refused(ShapeError, r"attention.sinks has shape \(3,\), expected \(2,\)", sinks=np.zeros(3, np.float32))
    refused(DTypeError, "attention.sinks is u32, expected f32, f16, bf16", sinks=np.zeros(2, np.uint32))
