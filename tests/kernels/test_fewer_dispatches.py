"""What a GPU's kernels do on the way: heads in attention. Bits are those of a dispatch for each."""

import numpy as np
import pytest
from support import caches
from support.axes import each
from support.kernels import activations, chain, stored

import pipeline as p
from pipeline.graph.builder import Pipeline
from pipeline.models.rope import Rope

# (heads, kv_heads, dim), window, position: one part or two, none but the row's own position, split parts, rings.
SHAPES = [(8, 1, 128), (32, 4, 128), (20, 2, 64), (5, 5, 64), (6, 2, 128)]
PLACES = [(0, 0), (0, 63), (0, 64), (0, 511), (0, 700), (0, 1900), (96, 50), (96, 1000)]


@pytest.fixture
def gpu(device):
    if not device.tensor_cores:
        pytest.skip("needs a GPU whose tensor cores the kernels use")
    return device


def apart(make):
    """make() with a dispatch for each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "own_slots", property(lambda self: False))
        return make()


@each("shape, place, norm", SHAPES, PLACES, ["bf16", "f32", None])
def test_heads_are_made_in_attention(gpu, shape, place, norm):
    (heads, kv_heads, dim), (window, position) = shape, place
    rng = np.random.default_rng(position)
    context = 256 if window else position + 1
    made = {name: activations(rng, 1, count * dim) for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))}
    of_heads = [None if norm is None else stored(rng.normal(size=dim), norm)[0] for _ in range(2)]
    before = [activations(rng, 2, kv_heads, context, dim).astype(np.float16) for _ in range(2)]
    inputs = made | {"slots": np.array([1], np.uint32), "positions": np.array([position], np.uint32)}

    def once():
        kept = []

        def steps(pipe, q, k, v, slots, positions):
            kept.extend(caches.states(pipe, caches.storages(*before)))
            table = pipe.rope_table(positions, Rope(np.ones(dim // 4, np.float32), 1.0))
            turned = pipe.heads_to_cache(q, k, v, *of_heads, table, slots, positions, *kept, window=window)
            return pipe.attention(turned, *kept, slots, positions, window=window)

        chained = chain(gpu, 1, steps, **inputs)
        y = chained.run(**inputs)
        kernels = [dispatch.kernel for dispatch in chained.plan.dispatches]
        return y, [chained.read(cache) for cache in kept[:2]], kernels

    y, kept, kernels = once()
    expected, expected_kept, expected_kernels = apart(once)
    assert f"heads_attention_{norm or 'f32'}_{dim}" in kernels
    assert f"attention_tensor_{dim}" in expected_kernels
    assert y.tobytes() == expected.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(kept, expected_kept))


def test_a_row_without_its_place_fails_with_zeros(gpu):
    rng = np.random.default_rng(1)
    made = {name: activations(rng, 1, count * 64) for name, count in (("q", 4), ("k", 2), ("v", 2))}
    inputs = made | {"slots": np.array([0], np.uint32), "positions": np.array([64], np.uint32)}

    def steps(pipe, q, k, v, slots, positions):
        kept = caches.states(pipe, caches.storages(*(np.zeros((1, 2, 64, 64), np.float16) for _ in range(2))))
        turned = pipe.heads_to_cache(q, k, v, None, None, None, slots, positions, *kept)
        return pipe.attention(turned, *kept, slots, positions)

    chained = chain(gpu, 1, steps, **inputs)
    with pytest.raises(p.errors.RunError, match="attention was given a slot, a position or a block"):
        chained.run(**inputs)
    assert not chained.read(chained.plan.outputs[0]).any()
