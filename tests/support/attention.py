"""Shared by the tests of attention: one step over caches of random keys and values, and what it may be off by."""

import numpy as np

from support import caches
from support import reference as ref
from support.kernels import DOT, ELEMENTARY, activations, assert_close, run

CACHES = {"f32": np.float32, "f16": np.float16}


def attend(device, q, keys, values, slots, positions, scale=None, table=None):
    inputs = {"q": q, "slots": np.asarray(slots, np.uint32), "positions": np.asarray(positions, np.uint32)}

    def steps(pipe, q, slots, positions):
        kept = caches.states(pipe, caches.storages(keys, values, table=table))
        return pipe.attention(q, *kept, slots, positions, scale)

    return run(device, len(q), steps, **inputs)


def check_attention(y, q, keys, values, slots, positions, scale):
    expected = ref.attention(q, keys, values, slots, positions, scale)
    group = q.shape[1] // keys.shape[1]
    for row, (slot, position) in enumerate(zip(slots, positions)):
        k = np.repeat(np.abs(keys[slot, :, : position + 1]), group, 0).astype(np.float64)
        v = np.repeat(np.abs(values[slot, :, : position + 1]), group, 0).max(1)
        # A score off by e scales its weight by 1 + e; sums of weights and weighted values round on top.
        scores = DOT * scale * np.einsum("hd,hnd->hn", np.abs(q[row]), k).max(-1, keepdims=True)
        assert_close(y[row], expected[row], ((2 * scores + ELEMENTARY + DOT) * v).reshape(-1))


def cached(rng, *shape, cache):
    """Random keys or values as a cache of this type holds them."""
    return activations(rng, *shape).astype(CACHES[cache])
