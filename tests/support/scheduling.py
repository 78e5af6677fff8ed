"""What tests of the scheduler share: caches with few blocks, layers with windows, and whose each block is."""

from collections import Counter

from pipeline.graph.builder import Pipeline
from pipeline.models.cache import CACHE_BLOCK, Cache, CacheLayer

WINDOW = 48


def few_blocks(monkeypatch, model, blocks):
    """Caches of so many blocks per table."""
    monkeypatch.setattr(
        model,
        "paged_cache",
        lambda slots, context, dtype, rows: Cache.paged(model.cache_layers(), slots, context, blocks, dtype, rows),
    )


def windowed(monkeypatch, model, layers):
    """A window in the first `layers` layers, as families with two kinds of layers have."""
    real, c = Pipeline.attention, model.config
    plain = Pipeline.heads_to_cache

    def of(pipe):
        return WINDOW if int(pipe._scope[-1].split(".")[1]) < layers else 0

    monkeypatch.setattr(Pipeline, "attention", lambda self, *a, **k: real(self, *a, **{**k, "window": of(self)}))
    monkeypatch.setattr(Pipeline, "heads_to_cache", lambda self, *a, **k: plain(self, *a, **{**k, "window": of(self)}))
    made = [CacheLayer(c.kv_heads, c.head_dim, window=WINDOW if i < layers else 0) for i in range(c.layers)]
    monkeypatch.setattr(model, "cache_layers", lambda: made)


def check_nothing_is_lost(scheduler):
    """All blocks are free, or in the tree alone."""
    paging = scheduler._batch.paging
    assert paging._held == {}
    for at, table in enumerate(paging._tables):
        known = [node.blocks[at] for node in paging._tree.idle[at]]
        assert sorted(paging._free[at] + known) == list(range(table.blocks))
    assert not any(any(node.users) for node in _nodes(paging))


def check_blocks(scheduler):
    """Between two steps: each slot is somebody's or free, and so is each block. A block that several sequences have is
    a node's, which counts them; the device's tables say the same."""
    batch, paging = scheduler._batch, scheduler._batch.paging
    assert sorted(batch._free + [each.slot for each in batch.sequences]) == list(range(scheduler.batch_size))
    assert set(paging._held) == set(batch.sequences)
    nodes = _nodes(paging)
    for at, table in enumerate(paging._tables):
        own, shared = [], Counter()
        entries = table.storage.read(scheduler.model.device)
        for sequence, held in paging._held.items():
            for index, block in enumerate(held.blocks[at]):
                if block is None:
                    continue
                if held.shared[at][index]:
                    assert held.nodes[index].blocks[at] == block
                    shared[block] += 1
                else:
                    own.append(block)
                if index >= len(held.blocks[at]) - table.width:
                    assert entries[sequence.slot][table.entry(index * CACHE_BLOCK)] == block
        idle = [node.blocks[at] for node in paging._tree.idle[at]]
        assert sorted(own + list(shared) + idle + paging._free[at]) == list(range(table.blocks))
        counted = {node.blocks[at]: node.users[at] for node in nodes if node.users[at]}
        assert counted == dict(shared)


def _nodes(paging):
    found, pending = [], list(paging._tree.root.children.values())
    while pending:
        node = pending.pop()
        found.append(node)
        pending += node.children.values()
    return found
