"""Positions in parts: how a GPU shares them out changes no bit of a row."""

import numpy as np
import pytest
from support import caches
from support.attention import attend, cached, check_attention
from support.axes import each
from support.kernels import activations, chain, run

from pipeline.device.choices import Choices

SHAPES = {"qwen": (8, 2, 128), "gemma": (4, 1, 256), "latent": (3, 1, 576), "odd": (5, 1, 18)}
# With the positions of the caches: one part, parts of the shortest length, and, for small heads, longer ones.
CASES = [("qwen", 300), ("gemma", 150), ("latent", 140), ("odd", 100), ("odd", 2300)]


def shared_out(device, split, few, *arguments):
    """attend() with the positions split or not, and with few query heads per threadgroup or more."""
    with pytest.MonkeyPatch.context() as patch:
        threadgroups, heads = (1 << 20 if many else 0 for many in (split, few))
        patch.setattr(device, "choices", Choices(split_parts=0, split_threadgroups=threadgroups, few_heads=heads))
        return attend(device, *arguments)


@each("case, cache", CASES, ["f16", "f32"])
def test_parts_have_one_order(device, case, cache):
    shape, context = case
    heads, kv_heads, dim = SHAPES[shape]
    rng = np.random.default_rng(context)
    keys, values = (cached(rng, 2, kv_heads, context, dim, cache=cache) for _ in range(2))
    q = activations(rng, 2, heads, dim)
    rows = [1, 0], [context - 1, context // 3]
    y = shared_out(device, True, True, q, keys, values, *rows)
    check_attention(y, q, keys, values, *rows, dim**-0.5)
    for split, few in ((True, False), (False, True), (False, False)):
        assert shared_out(device, split, few, q, keys, values, *rows).tobytes() == y.tobytes()


def test_positions_are_split_where_threads_are_many(device):
    """A dispatch more merges the parts, where the caches are large and rows are few; never on a processor."""
    many = device.simd_width > 1
    for rows, context, merged in ((1, 128, False), (1, 4096, many), (64, 4096, False)):
        q = activations(np.random.default_rng(1), rows, 8, 16)

        def steps(pipe, q, slots, positions, context=context):
            kept = caches.states(pipe, caches.zeros(1, 4, context, (16, 16), "f16"))
            return pipe.attention(q, *kept, slots, positions)

        zeros = np.zeros(rows, np.uint32)
        made = chain(device, rows, steps, q=q, slots=zeros, positions=zeros)
        assert ("attention_merge" in [dispatch.kernel for dispatch in made.plan.dispatches]) == merged


def test_a_row_that_fails_has_zeros_for_its_parts(device):
    q = activations(np.random.default_rng(2), 2, 4, 32)
    cache = activations(np.random.default_rng(3), 1, 2, 1000, 32)
    inputs = {"q": q, "slots": np.array([0, 7], np.uint32), "positions": np.array([999, 3], np.uint32)}

    def steps(pipe, q, slots, positions):
        return pipe.attention(q, *caches.states(pipe, caches.storages(cache, cache)), slots, positions)

    made = chain(device, 2, steps, **inputs)
    with pytest.raises(Exception, match="row 1: attention was given a slot"):
        made.run(**inputs)
    (y,) = made.plan.outputs
    assert not made.read(y)[1].any() and made.read(y)[0].any()
    alone = {name: value[:1] for name, value in inputs.items()}
    assert made.read(y)[0].tobytes() == run(device, 1, steps, **alone)[0].tobytes()
