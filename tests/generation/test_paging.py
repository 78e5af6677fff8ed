"""Blocks of the cache in the hands of sequences: shared beginnings, memory that ends, and no block that is lost."""

import dataclasses

import numpy as np
import pytest
from support.axes import each
from support.scheduling import check_nothing_is_lost, few_blocks, windowed

import pipeline as p
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import PromptError
from pipeline.generation.paging import Paging
from pipeline.generation.requests import Finished, Handle, Prefilled
from pipeline.generation.scheduler import Scheduler
from pipeline.generation.sequence import Sequence
from pipeline.models.cache import CACHE_BLOCK, Cache, CacheLayer

# Blocks are not about kernels.
pytestmark = pytest.mark.one_processor
CONTEXT = 400


@pytest.fixture(scope="module")
def model(processor):
    with p.open_checkpoint(builtin_model()) as checkpoint:
        model = p.load_model(checkpoint, device=processor)
        model.end_tokens = ()
        yield model


def requests(count, common, seed=0):
    """Prompts with a beginning of `common` tokens that is the same, some of them the same for longer."""
    rng = np.random.default_rng(seed)
    beginning = rng.integers(0, 4096, common).tolist()
    more = rng.integers(0, 4096, 90).tolist()
    made = []
    for index in range(count):
        own = rng.integers(0, 4096, int(rng.integers(1, 40))).tolist()
        text = beginning + (more if index % 3 == 0 else []) + own
        temperature = 0.8 if index % 2 else 0.0
        made.append(p.Request(index, tuple(text), int(rng.integers(1, 60)), temperature, index))
    return made


def ends(events):
    return {event.index: (event.tokens, event.logprobs) for event in events if isinstance(event, Finished)}


def run(scheduler):
    events = []
    while not scheduler.idle:
        events += scheduler.step()
    return events


@each("layers, kv_cache", [0, 3, 8], ["f16", "q8"])
def test_a_common_beginning_is_computed_once(model, monkeypatch, layers, kv_cache):
    """With windows in some or in all layers, too; the texts are those that each prompt has alone."""
    windowed(monkeypatch, model, layers)
    asked, common = requests(9, 150), 150 // CACHE_BLOCK * CACHE_BLOCK
    generator = p.Generator(model, batch_size=4, context=CONTEXT, kv_cache=kv_cache, prompt_rows=100)
    events = list(generator.run(asked))
    computed = sum(event.tokens for event in events if isinstance(event, Prefilled))
    stats = generator.stats
    assert stats.prompt_tokens == sum(len(each.tokens) for each in asked) == computed + stats.prefix_tokens + len(asked)
    assert stats.prefix_tokens >= common * (len(asked) - 1)
    check_nothing_is_lost(generator)
    plain = p.Generator(model, batch_size=1, context=CONTEXT, kv_cache=kv_cache, shares=False)
    assert ends(events) == ends(plain.run(asked))
    assert plain.stats.prefix_tokens == 0
    again = ends(generator.run(asked))  # what the first run left behind
    assert again == ends(events)


@each("layers, seed", [0, 3], [1, 2, 3])
def test_memory_that_ends_changes_no_token(model, monkeypatch, layers, seed):
    """Sequences give up their blocks and come back, and cancelled ones leave none behind."""
    windowed(monkeypatch, model, layers)
    asked = [dataclasses.replace(each, max_tokens=60 + 10 * each.index) for each in requests(12, 70, seed)]
    expected = ends(p.Generator(model, batch_size=1, context=CONTEXT, shares=False).run(asked))
    few_blocks(monkeypatch, model, 8)
    rng = np.random.default_rng(seed)
    scheduler = Scheduler(model, batch_size=5, context=CONTEXT, prompt_rows=64)
    handles, events = [scheduler.submit(each) for each in asked], []
    while not scheduler.idle:
        events += scheduler.step()
        if rng.random() < 0.01:
            scheduler.cancel(handles[rng.integers(len(handles))])
    found = ends(events)
    assert scheduler.stats.preemptions > 0 and len(found) == len(asked)
    for handle in handles:
        (tokens, logprobs), index = found[handle.request.index], handle.request.index
        assert handle.end.reason == "cancelled" or len(tokens) == len(expected[index][0])
        assert (tokens, logprobs) == tuple(each[: len(tokens)] for each in expected[index])
    check_nothing_is_lost(scheduler)


def test_what_needs_more_than_the_whole_cache_is_refused_at_submit(model, monkeypatch):
    few_blocks(monkeypatch, model, 2)
    scheduler = Scheduler(model, batch_size=2, context=CONTEXT)
    with pytest.raises(PromptError, match="100 prompt tokens and 29 new ones need more than the whole KV cache"):
        scheduler.submit(p.Request(0, (1,) * 100, 29))
    handle = scheduler.submit(p.Request(0, (1,) * 100, 28))
    run(scheduler)
    assert len(handle.end.tokens) == 28


def test_blocks_grow_with_what_sequences_use(model):
    """A cache for 64 sequences of 1,024 positions that have 40 each has one block for each of them."""
    scheduler = Scheduler(model, batch_size=64)
    for index in range(64):
        scheduler.submit(p.Request(index, (index + 1, 2, 3), 40))
    most = 0
    while not scheduler.idle:
        scheduler.step()
        most = max(most, scheduler._batch.paging.nbytes)
    assert most == 64 * sum(table.block_bytes for table in scheduler._batch.paging._tables)
    assert most * 16 == scheduler._batch.parts.cache.nbytes


def test_beginnings_that_nobody_uses_go_first(model):
    """What is kept is no more than what ran at the same time, and the longest unused goes first."""
    cache = Cache.paged([CacheLayer(1, 4)], 2, 1024, 32)
    paging = Paging(cache, model.device)

    def through(number, blocks):
        text = [number] * (blocks * CACHE_BLOCK) + [0]
        sequence = Sequence(Handle(p.Request(number, tuple(text), 1), number), 0, 1, text)
        paging.begin(sequence)
        found = paging.advance(sequence)
        sequence.done = found
        assert paging.extend(sequence, len(text))
        paging.went_through(sequence, text, len(text) - 1)
        paging.end(sequence)
        return found // CACHE_BLOCK

    assert [through(1, 4), through(1, 4), through(2, 4), through(2, 4), through(1, 4)] == [0, 4, 0, 4, 1]
    assert paging.free(0) == 32


@pytest.mark.parametrize("seed", range(20))
def test_random_sequences_lose_no_block(model, seed):
    """Against a model of what is in the cache: whoever reads a block finds the tokens that it stands for."""
    rng = np.random.default_rng(seed)
    layers = [CacheLayer(1, 4), CacheLayer(1, 4, window=100)] if seed % 2 else [CacheLayer(1, 4)]
    cache = Cache.paged(layers, 6, 1024, {0: 24, 100: 24}, rows=64)
    paging = Paging(cache, model.device)
    content = [{} for _ in cache.tables]  # block -> the whole text up to its end
    live, number = [], 0
    for _ in range(400):
        if len(live) < 6 and rng.random() < 0.3:
            length = int(rng.integers(1, 500))
            text = [int(rng.integers(2))] * 130 + rng.integers(0, 2, length).repeat(64)[:length].tolist()
            text = text[: max(2, length)]
            slot = next(slot for slot in range(6) if all(each.slot != slot for each in live))
            sequence = Sequence(Handle(p.Request(number, tuple(text), 1), number), slot, 1, text)
            number += 1
            paging.begin(sequence)
            live.append(sequence)
        if not live:
            continue
        sequence = live[rng.integers(len(live))]
        if rng.random() < 0.15:
            paging.end(sequence)
            live.remove(sequence)
            continue
        sequence.done += paging.advance(sequence)
        end = min(len(sequence.before), sequence.done + int(rng.integers(1, 64)))
        if not paging.extend(sequence, end):
            continue
        for at, table in enumerate(cache.tables):
            entries = table.storage.read(model.device)[sequence.slot]
            for position in range(sequence.done, end):
                index = position // CACHE_BLOCK
                block = int(entries[table.entry(position)])
                content[at][block] = tuple(sequence.before[: position + 1])
                begin = max(0, position - table.window + 1) if table.window else 0
                for seen in range(begin // CACHE_BLOCK, index + 1):
                    held = content[at][int(entries[table.entry(seen * CACHE_BLOCK)])]
                    last = min((seen + 1) * CACHE_BLOCK, position + 1)
                    assert held[:last] == tuple(sequence.before[:last]) and len(held) >= last
        sequence.done = end
        if sequence.done < len(sequence.before):
            paging.went_through(sequence, sequence.before, sequence.done)
    for sequence in live:
        paging.end(sequence)
    for at, table in enumerate(cache.tables):
        known = [node.blocks[at] for node in paging._tree.idle[at]]
        assert sorted(paging._free[at] + known) == list(range(table.blocks))
