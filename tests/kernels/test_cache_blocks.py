"""KV caches in blocks: no bit depends on which blocks a row has, slots may share blocks, and a block that there is not
fails the rows that need it."""

import numpy as np
import pytest
from support import caches
from support import reference as ref
from support.axes import each, pairs
from support.kernels import activations, chain, failing, guarded_chain, run

from pipeline.device.choices import Choices
from pipeline.graph.formats import CACHE_DTYPES
from pipeline.models.cache import CACHE_BLOCK, NO_BLOCK

HEADS, KV_HEADS, DIM, RANK = 4, 2, 32, 32
NOWHERE = "was given a slot, a position or a block that its cache does not have"


def uints(*values):
    return np.array(values, np.uint32)


def stored(x, cache):
    """Numbers as the rows of a cache."""
    if cache == "q8":
        return ref.q8_rows(x)
    return x.astype({"f16": np.float16, "f32": np.float32}[cache])


class Attending:
    """Attention of rows to caches of random keys and values, in the blocks that a table names."""

    def __init__(self, rows, slots, positions, cache="f16", window=0, dims=(DIM, DIM), heads=HEADS, kv_heads=KV_HEADS):
        rng = np.random.default_rng(positions)
        self.cache, self.window, self.dims = cache, window, dims
        self.kept = [stored(activations(rng, slots, kv_heads, positions, dim), cache) for dim in dims]
        self.q = activations(rng, rows, heads, dims[0])

    def steps(self, table, count=0):
        def steps(pipe, q, slots, positions):
            kept = caches.storages(*self.kept, dtype=self.cache, dims=self.dims, table=table, count=count)
            return pipe.attention(q, *caches.states(pipe, kept), slots, positions, window=self.window)

        return steps

    def run(self, device, table, slots, positions):
        return run(device, len(self.q), self.steps(table), q=self.q, slots=slots, positions=positions)


def tables(slots, positions):
    """Two tables of the same positions in different blocks."""
    return caches.in_order(slots, positions), caches.scattered(slots, positions)


# No bit depends on the blocks


@pairs("window, cache", [0, 64, 90, 200], CACHE_DTYPES)
def test_attention_does_not_depend_on_the_blocks(device, window, cache):
    """Of rows of several sequences, some of which go together; in rings, too."""
    attending = Attending(9, 3, 400, cache, window)
    slots, positions = uints(1, 1, 1, 1, 0, 0, 2, 2, 0), uints(252, 253, 254, 255, 399, 3, 128, 129, 63)
    first, other = (attending.run(device, table, slots, positions) for table in tables(3, 400))
    assert first.any(-1).all() and other.tobytes() == first.tobytes()


@each("cache, dims", CACHE_DTYPES, [(18, 24), (800, 16)])
def test_other_shapes_of_heads_do_not_depend_on_the_blocks(device, cache, dims):
    """Heads that are no whole vectors, and those that are too large for a GPU's registers."""
    attending = Attending(2, 2, 300, cache, dims=dims)
    first, other = (attending.run(device, table, uints(1, 0), uints(299, 70)) for table in tables(2, 300))
    assert other.tobytes() == first.tobytes()


@each("split", [False, True])
def test_parts_do_not_depend_on_the_blocks(device, monkeypatch, split):
    monkeypatch.setattr(device, "choices", Choices(split_parts=0, split_threadgroups=1 << 20 if split else 0))
    attending = Attending(2, 2, 700)
    first, other = (attending.run(device, table, uints(1, 0), uints(699, 300)) for table in tables(2, 700))
    assert other.tobytes() == first.tobytes()


@each("window, cache", [0, 5], CACHE_DTYPES)
def test_heads_go_to_the_rows_blocks(device, window, cache):
    """Keys and values of a table's positions are the same whatever the blocks, and no other block is written."""
    rng, rows = np.random.default_rng(2), 6
    q, k, v = (activations(rng, rows, heads * DIM) for heads in (HEADS, KV_HEADS, KV_HEADS))
    given = {"q": q, "k": k, "v": v, "slots": uints(0, 0, 1, 2, 1, 2), "positions": uints(63, 64, 0, 190, 128, 127)}
    found = []
    for table in tables(3, 192):

        def steps(pipe, q, k, v, slots, positions, table=table):
            kept = caches.states(pipe, caches.zeros(3, KV_HEADS, 192, (DIM, DIM), cache, table))
            y = pipe.heads_to_cache(q, k, v, None, None, None, slots, positions, *kept, window=window)
            return y, *kept[:2]

        y, *kept = chain(device, rows, steps, **given).run(**given)
        found.append([y.tobytes(), *(caches.positions_of(blocks, table).tobytes() for blocks in kept)])
        for blocks in kept:
            own = caches.positions_of(blocks, table)
            assert own[given["slots"], :, given["positions"]].any(-1).all()
            assert np.count_nonzero(own) == np.count_nonzero(blocks)
    assert found[0] == found[1]


@pytest.mark.parametrize("cache", CACHE_DTYPES)
def test_latent_attention_does_not_depend_on_the_blocks(device, cache):
    rng, rows = np.random.default_rng(3), 5
    given = {
        "q": activations(rng, rows, HEADS * 2 * DIM),
        "kv": activations(rng, rows, RANK + DIM),
        "table": activations(rng, rows, 2, DIM // 2),
        "slots": uints(1, 1, 1, 0, 0),
        "positions": uints(63, 64, 65, 0, 128),
    }
    earlier = stored(activations(rng, 2, 1, 192, RANK + DIM), cache)
    norm, kv_b = np.ones(RANK, np.float32), activations(rng, HEADS * (DIM + 8), RANK)
    found = []
    for blocks in tables(2, 192):

        def steps(pipe, q, kv, table, slots, positions, blocks=blocks):
            kept = caches.states(pipe, caches.storages(earlier, dtype=cache, dims=[RANK + DIM], table=blocks))
            turned = pipe.latent_to_cache(q, kv, norm, table, slots, positions, *kept, heads=HEADS)
            return pipe.latent_attention(q, turned, kv_b, *kept, slots, positions, 0.1, v_dim=8), kept[0]

        y, kept = chain(device, rows, steps, **given).run(**given)
        found.append((y.tobytes(), caches.positions_of(kept, blocks).tobytes()))
    assert found[0] == found[1]
    assert np.isfinite(y).all() and found[0][1] != earlier.tobytes()


# Blocks that slots share, and blocks that they do not have


@pytest.mark.parametrize("cache", CACHE_DTYPES)
def test_slots_share_blocks(device, cache):
    """Two sequences with one beginning, in blocks of their own and in common ones: the bits are the same."""
    attending = Attending(4, 2, 320, cache)
    for kept in attending.kept:
        kept[1, :, :192] = kept[0, :, :192]
    slots, positions = uints(0, 1, 1, 0), uints(319, 300, 150, 191)
    apart = caches.scattered(2, 320)
    shared = apart.copy()
    shared[1, :3] = apart[0, :3]
    wanted, y = (attending.run(device, table, slots, positions) for table in (apart, shared))
    assert y.tobytes() == wanted.tobytes() and y[0].tobytes() != y[1].tobytes()


def test_fewer_blocks_than_slots_could_have(device):
    """A cache of nine blocks for four slots of 64 blocks each: what a row does not see, nobody has."""
    attending = Attending(4, 4, 256)
    slots, positions = uints(0, 1, 2, 3), uints(255, 63, 128, 0)
    wanted = attending.run(device, caches.in_order(4, 256), slots, positions)
    table = np.full((4, 4), 9, np.uint32)  # the copy of a slot's positions needs some block; here a last one for all
    table[0], table[1, :1], table[2, :3], table[3, :1] = [7, 2, 0, 5], [3], [8, 1, 4], [6]
    kept = caches.storages(*attending.kept, dtype="f16", table=table, count=10)
    few = np.full((4, 64), NO_BLOCK, np.uint32)
    few[:, :4] = np.where(table == 9, NO_BLOCK, table)
    pools = [caches.Storage((9, *cache.shape[1:]), "f16", array=cache.read(device)[:9]) for cache in kept[:2]]

    def steps(pipe, q, slots, positions):
        return pipe.attention(q, *caches.states(pipe, [*pools, caches.Storage.of(few)]), slots, positions)

    y = run(device, 4, steps, q=attending.q, slots=slots, positions=positions)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)  # a larger table may have its parts elsewhere


@pairs("entry, block, split", [0, 2, 4], [0, 7, NO_BLOCK], [False, True])
def test_a_block_that_there_is_not_fails_the_rows_that_see_it(device, monkeypatch, entry, block, split):
    """`block`: beyond the last one. Of rows that go together, those before it stay as they are."""
    monkeypatch.setattr(device, "choices", Choices(split_parts=0, split_threadgroups=1 << 20 if split else 0))
    attending = Attending(8, 2, 320)
    middle = max(entry * CACHE_BLOCK, 4)
    slots = uints(*[1] * 6, 0, 0)
    positions = uints(*range(middle - 3, middle + 3), 319, 0)
    table = caches.scattered(2, 320)
    wanted = attending.run(device, table, slots, positions)
    inputs = {"q": attending.q, "slots": slots, "positions": positions}
    bad = table.copy()
    bad[1, entry] = min(table.size + caches.SPARE + block, NO_BLOCK)

    def steps(pipe, q, slots, positions):
        kept = caches.storages(*attending.kept, dtype="f16", table=table)
        return pipe.attention(q, *caches.states(pipe, [*kept[:2], caches.Storage.of(bad)]), slots, positions)

    made = guarded_chain(device, 8, steps, **inputs)
    fails = [row for row in range(6) if positions[row] >= entry * CACHE_BLOCK]
    assert failing(made, **inputs) == {row: f"attention {NOWHERE}" for row in fails}
    [y] = (made.view(output) for output in made.plan.outputs)
    kept = np.array([row not in fails for row in range(8)])
    assert y[kept].tobytes() == wanted[kept].tobytes() and not y[~kept].any()


def test_a_window_does_not_need_the_blocks_that_it_has_left(device):
    """And in a ring, a block may be given away and another take its entry."""
    attending = Attending(3, 1, 256, window=70)
    table = caches.scattered(1, 256)
    inputs = {"q": attending.q, "slots": uints(0, 0, 0), "positions": uints(132, 133, 200)}
    wanted = attending.run(device, table, inputs["slots"], inputs["positions"])
    bad = table.copy()
    bad[0, 0] = NO_BLOCK

    def steps(pipe, q, slots, positions):
        kept = caches.storages(*attending.kept, dtype="f16", table=table)
        return pipe.attention(q, *caches.states(pipe, [*kept[:2], caches.Storage.of(bad)]), slots, positions, window=70)

    made = guarded_chain(device, 3, steps, **inputs)
    assert list(failing(made, **inputs)) == [0]  # 63 … 132
    [y] = (made.view(output) for output in made.plan.outputs)
    assert y[1:].tobytes() == wanted[1:].tobytes() and not y[0].any()


@each("cache, window", CACHE_DTYPES, [0, 9])
def test_nothing_is_written_where_there_is_no_block(device, cache, window):
    rng, rows = np.random.default_rng(4), 4
    table = caches.scattered(2, 128)
    table[1, 1] = NO_BLOCK
    inputs = {name: activations(rng, rows, heads * DIM) for name, heads in zip("qkv", (HEADS, KV_HEADS, KV_HEADS))}
    inputs |= {"slots": uints(0, 1, 1, 1), "positions": uints(64, 63, 64, 127)}
    made_of = []

    def steps(pipe, q, k, v, slots, positions):
        sizes = (caches.in_order(2, 128).size, KV_HEADS, CACHE_BLOCK, DIM)
        pools = [caches.Storage.zeros((sizes[0] + caches.SPARE, *sizes[1:]), cache) for _ in "kv"]
        made_of[:] = caches.states(pipe, [*pools, caches.Storage.of(table)])
        return pipe.heads_to_cache(q, k, v, None, None, None, slots, positions, *made_of, window=window)

    made = guarded_chain(device, rows, steps, **inputs)
    assert failing(made, **inputs) == {row: f"heads_to_cache {NOWHERE}" for row in (2, 3)}
    for tensor in made_of[:2]:
        blocks = made.view(tensor)
        assert blocks[table[0, 1], :, 0].any(-1).all() and blocks[table[1, 0], :, 63].any(-1).all()
        blocks[table[0, 1], :, 0] = blocks[table[1, 0], :, 63] = 0
        assert not blocks.any()


@pytest.mark.parametrize("cache", CACHE_DTYPES)
def test_no_latent_row_is_written_where_there_is_no_block(device, cache):
    rng, made_of = np.random.default_rng(5), []
    inputs = {"q": activations(rng, 2, HEADS * 2 * DIM), "kv": activations(rng, 2, RANK + DIM)}
    inputs |= {"table": activations(rng, 2, 2, DIM // 2), "slots": uints(0, 1), "positions": uints(5, 64)}
    table = caches.scattered(2, 128)
    table[1, 1] = table.size + caches.SPARE

    def steps(pipe, q, kv, table_, slots, positions):
        pool = caches.Storage.zeros((table.size + caches.SPARE, 1, CACHE_BLOCK, RANK + DIM), cache)
        made_of[:] = caches.states(pipe, [pool, caches.Storage.of(table)])
        norm = np.ones(RANK, np.float32)
        return pipe.latent_to_cache(q, kv, norm, table_, slots, positions, *made_of, heads=HEADS)

    inputs["table_"] = inputs.pop("table")
    made = guarded_chain(device, 2, steps, **inputs)
    assert failing(made, **inputs) == {1: f"latent_to_cache {NOWHERE}"}
    blocks = made.view(made_of[0])
    assert blocks[table[0, 0], 0, 5].any()
    blocks[table[0, 0], 0, 5] = 0
    assert not blocks.any()
