"""KV caches for tests: arrays [slots, kv_heads, positions, dim] in blocks, with a block table, and back.

Unless a test gives a table, blocks are scattered, with spare ones among them, so that every test of a kernel that reads
or writes a cache finds out if the kernel takes a block for another one.
"""

import numpy as np

from pipeline.graph.formats import dtype_of
from pipeline.graph.tensors import Storage
from pipeline.models.cache import CACHE_BLOCK

SPARE = 2  # blocks that no slot has


def width_of(positions):
    return -(-positions // CACHE_BLOCK)


def in_order(slots, positions):
    """A table in which the blocks of all slots stand one behind another."""
    return np.arange(slots * width_of(positions), dtype=np.uint32).reshape(slots, -1)


def scattered(slots, positions, seed=0):
    """A table of different blocks in any order."""
    count = slots * width_of(positions)
    blocks = np.random.default_rng((seed, slots, count)).permutation(count + SPARE)[:count]
    return blocks.astype(np.uint32).reshape(slots, -1)


def blocks_of(array, table, count=0):
    """An array [slots, kv_heads, positions, n] as blocks [count, kv_heads, CACHE_BLOCK, n], with NaN, or bytes of 255,
    where there is nothing."""
    slots, heads, positions, n = array.shape
    nothing = np.nan if array.dtype.kind == "f" else 255
    whole = np.full((slots, heads, table.shape[1] * CACHE_BLOCK, n), nothing, array.dtype)
    whole[:, :, :positions] = array
    blocks = np.full((count or table.size + SPARE, heads, CACHE_BLOCK, n), nothing, array.dtype)
    blocks[table] = whole.reshape(slots, heads, -1, CACHE_BLOCK, n).swapaxes(1, 2)
    return blocks


def positions_of(blocks, table):
    """The array [slots, kv_heads, positions, n] that blocks and a table stand for."""
    slots, width = table.shape
    heads, _, n = blocks.shape[1:]
    return blocks[table].swapaxes(1, 2).reshape(slots, heads, width * CACHE_BLOCK, n)


def storages(*arrays, dtype=None, dims=(), table=None, count=0):
    """The caches of arrays, and their table, as Storages. dtype "q8" takes rows as bytes; `dims`: their numbers."""
    slots, _, positions, _ = arrays[0].shape
    table = scattered(slots, positions) if table is None else table
    result = []
    for array, dim in zip(arrays, dims or (array.shape[3] for array in arrays), strict=True):
        blocks = blocks_of(array, table, count)
        result.append(Storage((*blocks.shape[:3], dim), dtype or dtype_of(array), array=blocks))
    return [*result, Storage.of(table)]


def zeros(slots, kv_heads, positions, dims, dtype, table=None):
    """Caches of zeros for rows of `dims` numbers, and their table, as Storages."""
    table = scattered(slots, positions) if table is None else table
    shapes = [(table.size + SPARE, kv_heads, CACHE_BLOCK, dim) for dim in dims]
    return [*(Storage.zeros(shape, dtype) for shape in shapes), Storage.of(table)]


def states(pipe, kept):
    """Storages as the tensors that steps take: caches, and the table last."""
    names = ("k_cache", "v_cache")[: len(kept) - 1] + ("blocks",)
    return [pipe.state(name, storage) for name, storage in zip(names, kept, strict=True)]


def unused(pipe, shapes, dtypes=("f16", "f16"), table=(1, 1)):
    """Caches without memory, and their table, for tests of what steps refuse."""
    kept = [Storage.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes)]
    return states(pipe, [*kept, Storage.empty(table, "u32")])
