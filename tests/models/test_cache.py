"""KV caches: what a layer keeps, what that takes, rings through a whole generation, 8 bits."""

import numpy as np
import pytest

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import ShapeError, UsageError
from pipeline.generation import Finished, parts
from pipeline.generation import generator as generate
from pipeline.graph import memory
from pipeline.graph.builder import Pipeline
from pipeline.graph.transfers import Writes
from pipeline.models import fitting
from pipeline.models.cache import CACHE_BLOCK, NO_BLOCK, Cache, CacheLayer

# No kernel of the cache is native.
pytestmark = pytest.mark.one_processor
WINDOW, ROWS = 11, 8


@pytest.fixture(scope="module")
def model(processor):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=processor)


# Sizes


def test_what_a_layer_keeps():
    everything, window = CacheLayer(2, 64), CacheLayer(2, 64, window=128)
    assert [everything.entries(context, 512) for context in (1, 64, 65, 10**6)] == [1, 1, 2, 15625]
    # 639 positions that begin at the last one of a block.
    assert [window.entries(context, 512) for context in (1, 639, 641, 705, 10**6)] == [1, 10, 11, 11, 11]
    assert [window.entries(10**6, rows) for rows in (1, 2, 3)] == [3, 3, 4]


@pytest.mark.parametrize("dtype, row", [("f32", 4 * 80), ("f16", 2 * 80), ("q8", 3 * 2 + 80 + 2)])
def test_bytes_are_counted_before_they_are_taken(dtype, row):
    cache = Cache.empty([CacheLayer(3, 80)] * 5, 7, 64 * 10**7, dtype)  # no machine has it
    assert cache.nbytes == 5 * 2 * 7 * 3 * 64 * 10**7 * row and cache.dtype == dtype
    (table,) = cache.tables
    assert (table.blocks, table.width, table.position_bytes) == (7 * 10**7, 10**7, 5 * 2 * 3 * row)


def test_layers_differ():
    layers = [CacheLayer(2, 64, window=16), CacheLayer(1, 192, 128), CacheLayer(1, 576, 0)]
    cache = Cache.empty(layers, 3, 200, "f32", rows=5)
    assert [storage.shape for storage in cache.keys] == [(6, 2, 64, 64), (12, 1, 64, 192), (12, 1, 64, 576)]
    assert [storage.shape for storage in cache.values] == [(6, 2, 64, 64), (12, 1, 64, 128), (12, 1, 64, 576)]
    assert cache.values[2] is cache.keys[2] and cache.values[0] is not cache.keys[0]
    assert cache.nbytes == 4 * 3 * 64 * (2 * 2 * 2 * 64 + 4 * (192 + 128) + 4 * 576)
    assert [table.window for table in cache.tables] == [0, 16]
    assert [cache.table(i) for i in range(3)] == [cache.tables[1], cache.tables[0], cache.tables[0]]


def test_a_type_that_no_kernel_reads_is_refused():
    with pytest.raises(UsageError, match="a KV cache of bf16 is not possible; use one of f16, f32, q8"):
        Cache.empty([CacheLayer(1, 16)], 1, 10, "bf16")


def test_the_machines_memory():
    assert 2**28 < memory.machine_bytes() < 2**50


@pytest.mark.parametrize("dtype, more", [("f16", ", or --kv-cache q8$"), ("q8", "tokens$")])
def test_more_than_the_machine_has_is_refused_before_it_is_taken(model, monkeypatch, dtype, more):
    if not model.device.unified:
        pytest.skip("tests/generation/test_sizes.py has the words for a device that has memory of its own")
    monkeypatch.setattr(fitting, "machine_bytes", lambda: 2**16)
    words = (
        rf"a KV cache of 4 × {model.context:,} positions in {dtype} takes [\d.]+ MiB"
        ", this machine has 64.0 KiB; give a smaller batch or fewer tokens"
    )
    with pytest.raises(UsageError, match=words + ("" if dtype == "q8" else more)) as caught:
        generate.Generator(model, batch_size=4, kv_cache=dtype)
    assert str(caught.value).endswith("tokens" if dtype == "q8" else "q8")


# Blocks


def test_slots_get_blocks(model):
    layers = [CacheLayer(1, 16), CacheLayer(1, 32, window=100)] * 2
    cache = Cache.paged(layers, 3, 640, {0: 12}, rows=65)
    full, window = cache.tables
    assert (full.blocks, full.width, full.storage.shape) == (12, 10, (3, 10)) and cache.keys[0].shape == (12, 1, 64, 16)
    assert (window.blocks, window.width, window.storage.shape) == (12, 4, (3, 4)) and window.window == 100
    assert full.block_bytes == 2 * 2 * 64 * 16 * 2 and window.position_bytes == 2 * 2 * 32 * 2
    assert cache.nbytes == 12 * (full.block_bytes + window.block_bytes)
    assert [full.entry(p) for p in (0, 63, 64, 639)] == [0, 0, 1, 9]
    assert [window.entry(p) for p in (0, 63, 64, 255, 256, 639)] == [0, 0, 1, 3, 0, 1]
    device = model.device
    assert (full.storage.read(device) == NO_BLOCK).all()
    with Writes(device) as writes:
        full.write(writes, 1, [11, 3])
        full.write(writes, 2, [5], 9)
        full.write(writes, 1, [NO_BLOCK], 1)
    wanted = np.full((3, 10), NO_BLOCK)
    wanted[1, 0], wanted[2, 9] = 11, 5
    assert (full.storage.read(device) == wanted).all()
    with Writes(device) as writes:
        for slot, blocks, first in ((3, [1], 0), (-1, [1], 0), (0, [1], 10), (0, [1], -1), (2, [1] * 2, 9)):
            with pytest.raises(
                ShapeError, match=rf"{len(blocks)} blocks of slot {slot}, from entry {first} on, do not"
            ):
                full.write(writes, slot, blocks, first)
    one = Cache.paged(layers, 3, 640, 7)
    assert [table.blocks for table in one.tables] == [7, 7]
    with pytest.raises(UsageError, match="a KV cache of 0 blocks is not possible; use 1 or more"):
        Cache.paged(layers, 3, 640, 0)
    whole = Cache.empty(layers, 3, 640, rows=65)
    assert (whole.tables[0].storage.read(device) == np.arange(30).reshape(3, 10)).all()


@pytest.mark.parametrize("window", [0, WINDOW])
def test_a_text_does_not_depend_on_its_blocks(model, monkeypatch, window):
    """In a cache of few blocks, of which each slot has those that its text needs."""
    if window:
        windowed(monkeypatch, model, ring=True)
    _, wanted = texts(model, 3, "f16")
    made = []

    def paged(slots, context, dtype, rows):
        counts = (2, 2, 2) if window else (5, 3, 3)
        cache = Cache.paged(model.cache_layers(), slots, context, sum(counts), dtype, rows)
        (table,) = cache.tables
        blocks = np.random.default_rng(8).permutation(table.blocks).tolist()
        with Writes(model.device) as writes:
            for slot, count in enumerate(counts):
                table.write(writes, slot, [blocks.pop() for _ in range(count)])
        made.append(cache)
        return cache

    monkeypatch.setattr(model, "cache", paged, raising=False)
    _, found = texts(model, 3, "f16")
    assert found == wanted and made[0].nbytes < 3 * 5 * made[0].tables[0].block_bytes


# Rings


def with_window(step):
    """The step with a window, whatever the model says."""
    return lambda *arguments, **named: step(*arguments, **{**named, "window": WINDOW})


def windowed(monkeypatch, model, ring):
    """The model with a window in every layer, in rings or in caches of everything."""
    for step in ("attention", "heads_to_cache"):
        monkeypatch.setattr(Pipeline, step, with_window(getattr(Pipeline, step)))
    c = model.config

    class Layer(CacheLayer):
        def entries(self, context, rows):
            return super().entries(context, rows) if ring else -(-context // CACHE_BLOCK)

    monkeypatch.setattr(
        model, "cache_layers", lambda: [Layer(c.kv_heads, c.head_dim, window=WINDOW)] * c.layers, raising=False
    )
    monkeypatch.setattr(parts, "PREFILL_ROWS", ROWS)


def texts(model, batch_size, kv_cache):
    rng = np.random.default_rng(3)
    requests = [
        p.Request(index, tuple(rng.integers(1, 200, length).tolist()), 30)
        for index, length in enumerate((261, 5, 118, 133))
    ]
    generator = generate.Generator(model, batch_size=batch_size, context=300, kv_cache=kv_cache)
    ended = [event for event in generator.run(requests) if isinstance(event, Finished)]
    assert len(ended) == 4
    return generator, {event.index: (event.tokens, event.logprobs) for event in ended}


@pytest.mark.parametrize("kv_cache", ["f16", "q8"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_rings_give_the_bits_of_caches_of_everything(model, monkeypatch, batch_size, kv_cache):
    """Through prompts longer than the ring, in chunks, and text that goes around it; slots are used again."""
    with monkeypatch.context() as patch:
        windowed(patch, model, ring=False)
        _, wanted = texts(model, 1, kv_cache)
    windowed(monkeypatch, model, ring=True)
    generator, found = texts(model, batch_size, kv_cache)
    assert {keys.shape[0] for keys in generator._batch.parts.cache.keys} == {2 * batch_size}
    assert found == wanted
    monkeypatch.undo()
    _, without = texts(model, 1, kv_cache)
    assert without != wanted  # the window has an effect


def test_a_rings_memory_does_not_grow_with_the_context(model, monkeypatch):
    windowed(monkeypatch, model, ring=True)
    assert model.cache(2, 128, rows=ROWS).nbytes == model.cache(2, 10**9, rows=ROWS).nbytes
