"""KV caches: what a layer keeps, what that takes, rings through a whole generation, 8 bits."""

import numpy as np
import pytest

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import UsageError
from pipeline.generation import generator as generate
from pipeline.generation import parts
from pipeline.graph import memory
from pipeline.graph.builder import Pipeline
from pipeline.models import fitting
from pipeline.models.cache import Cache, CacheLayer

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
    assert [everything.positions(context, 512) for context in (1, 100, 10**6)] == [1, 100, 10**6]
    assert [window.positions(context, 512) for context in (1, 639, 640, 10**6)] == [1, 639, 639, 639]
    assert window.positions(10**6, 1) == 128


@pytest.mark.parametrize("dtype, row", [("f32", 4 * 80), ("f16", 2 * 80), ("q8", 3 * 2 + 80 + 2)])
def test_bytes_are_counted_before_they_are_taken(dtype, row):
    cache = Cache.empty([CacheLayer(3, 80)] * 5, 7, 10**9, dtype)  # no machine has it
    assert cache.nbytes == 5 * 2 * 7 * 3 * 10**9 * row and cache.dtype == dtype


def test_layers_differ():
    layers = [CacheLayer(2, 64, window=16), CacheLayer(1, 192, 128), CacheLayer(1, 576, 0)]
    cache = Cache.empty(layers, 3, 100, "f32", rows=5)
    assert [storage.shape for storage in cache.keys] == [(3, 2, 20, 64), (3, 1, 100, 192), (3, 1, 100, 576)]
    assert [storage.shape for storage in cache.values] == [(3, 2, 20, 64), (3, 1, 100, 128), (3, 1, 100, 576)]
    assert cache.values[2] is cache.keys[2] and cache.values[0] is not cache.keys[0]
    assert cache.nbytes == 4 * 3 * (2 * 2 * 20 * 64 + 100 * (192 + 128) + 100 * 576)


def test_a_type_that_no_kernel_reads_is_refused():
    with pytest.raises(UsageError, match="a KV cache of bf16 is not possible; use one of f16, f32, q8"):
        Cache.empty([CacheLayer(1, 16)], 1, 10, "bf16")


def test_the_machines_memory():
    assert 2**28 < memory.machine_bytes() < 2**50


@pytest.mark.parametrize("dtype, more", [("f16", ", or --kv-cache q8$"), ("q8", "tokens$")])
def test_more_than_the_machine_has_is_refused_before_it_is_taken(model, monkeypatch, dtype, more):
    monkeypatch.setattr(fitting, "machine_bytes", lambda: 2**16)
    monkeypatch.setattr(type(model.device), "free_bytes", lambda device: 2**16)
    model.place()
    own = rf"; the device {model.device.name} has [\d.]+ \w+, of which [\d.]+ \w+ are in use; "
    words = (
        rf"a KV cache of 4 × {model.context:,} positions in {dtype} takes [\d.]+ MiB"
        rf"{', this machine has 64.0 KiB; ' if model.device.unified else own}give a smaller batch or fewer tokens"
    )
    with pytest.raises(UsageError, match=words + ("" if dtype == "q8" else more)) as caught:
        generate.Generator(model, batch_size=4, kv_cache=dtype)
    assert str(caught.value).endswith("tokens" if dtype == "q8" else "q8")


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
        def positions(self, context, rows):
            return super().positions(context, rows) if ring else context

    monkeypatch.setattr(
        model, "cache_layers", lambda: [Layer(c.kv_heads, c.head_dim, window=WINDOW)] * c.layers, raising=False
    )
    monkeypatch.setattr(parts, "PREFILL_ROWS", ROWS)


def texts(model, batch_size, kv_cache):
    rng = np.random.default_rng(3)
    requests = [
        p.Request(index, tuple(rng.integers(1, 200, length).tolist()), 30)
        for index, length in enumerate((61, 5, 18, 33))
    ]
    generator = generate.Generator(model, batch_size=batch_size, context=120, kv_cache=kv_cache)
    ended = [event for event in generator.run(requests) if isinstance(event, p.generation.Finished)]
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
    assert {keys.shape[2] for keys in generator.scheduler._parts.cache.keys} == {WINDOW + ROWS - 1}
    assert found == wanted
    monkeypatch.undo()
    _, without = texts(model, 1, kv_cache)
    assert without != wanted  # the window has an effect


def test_a_rings_memory_does_not_grow_with_the_context(model, monkeypatch):
    windowed(monkeypatch, model, ring=True)
    assert model.cache(2, 100, rows=ROWS).nbytes == model.cache(2, 10**9, rows=ROWS).nbytes
