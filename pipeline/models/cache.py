"""The KV cache of a model, which stays on the device from run to run.

Keys and values lie in blocks of CACHE_BLOCK positions. A block table says which blocks a sequence has, so that memory
is given out block by block, and sequences with a common beginning may share its blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ..device.core import _core
from ..errors import ShapeError, UsageError
from ..graph.formats import CACHE_DTYPES
from ..graph.tensors import Storage, nbytes_of
from ..graph.transfers import Writes

# Tokens of prompts that go through together. An expert's weights are read once for all of its rows, so many rows are
# worth it.
PREFILL_ROWS = 512

CACHE_BLOCK = _core.CACHE_BLOCK

NO_BLOCK = _core.NONE  # in a block table: a row that reads or writes there fails


@dataclass(frozen=True)
class CacheLayer:
    """The cache of one layer: for each position keys [kv_heads, head_dim] and values [kv_heads, v_dim].

    v_dim: None for head_dim, 0 where the values lie within the keys (latent attention). window: how many positions a
    row sees, its own among them; 0: all of them.
    """

    kv_heads: int
    head_dim: int
    v_dim: int | None = None
    window: int = 0

    def entries(self, context: int, rows: int) -> int:
        """How many blocks a sequence of up to `context` positions has at a time: its entries in the block table. Those
        of a window are a ring. `rows` rows of one sequence are written before the first of them looks back; so many
        positions may begin anywhere in a block."""
        everything = math.ceil(context / CACHE_BLOCK)
        if not self.window:
            return everything
        return min(everything, math.ceil((self.window + rows - 2) / CACHE_BLOCK) + 1)

    @property
    def dims(self) -> tuple[int, ...]:
        """Numbers in a row of keys and, where they have a cache of their own, of values."""
        v_dim = self.head_dim if self.v_dim is None else self.v_dim
        return (self.head_dim, v_dim) if v_dim else (self.head_dim,)

    def shapes(self, blocks: int) -> tuple[tuple[int, ...], ...]:
        """The shapes of the caches of keys and, where they have one of their own, of values."""
        return tuple((blocks, self.kv_heads, CACHE_BLOCK, dim) for dim in self.dims)


@dataclass(frozen=True)
class StateLayer:
    """The state of one recurrent layer: for each slot f32 arrays of these shapes, however long the sequence is. A row
    of position 0 begins with an empty one, so nobody clears it."""

    shapes: tuple[tuple[int, ...], ...]

    @property
    def nbytes(self) -> int:
        """Bytes per slot."""
        return sum(nbytes_of(shape, "f32") for shape in self.shapes)


Layer: TypeAlias = CacheLayer | StateLayer


@dataclass(frozen=True)
class BlockTable:
    """Which blocks the slots of a cache have, in all layers that see the same positions.

    Position p of slot s is in block storage[s, entry(p)], at p % CACHE_BLOCK. The host writes the table; it may do so
    while runs are in flight that do not read these entries.
    """

    window: int  # of these layers; 0: they see all positions
    blocks: int  # that each cache of these layers has
    block_bytes: int  # that one block takes, in all of these layers
    storage: Storage  # [slots, width] u32

    @property
    def width(self) -> int:
        """Entries of a slot. In layers with a window they are used round and round."""
        return self.storage.shape[1]

    @property
    def position_bytes(self) -> int:
        """Bytes that one position takes, in all of these layers."""
        return self.block_bytes // CACHE_BLOCK

    def entry(self, position: int) -> int:
        """The entry of a slot's position."""
        return position // CACHE_BLOCK % self.width if self.window else position // CACHE_BLOCK

    def write(self, writes: Writes, slot: int, blocks: Sequence[int], first: int = 0) -> None:
        """Gives a slot `blocks`, from its entry `first` on; NO_BLOCK takes one away."""
        if not (0 <= slot < self.storage.shape[0] and 0 <= first <= self.width - len(blocks)):
            raise ShapeError(
                f"{len(blocks)} blocks of slot {slot}, from entry {first} on, do not fit a table of "
                f"{self.storage.shape[0]} × {self.width}"
            )
        writes.add(self.storage, np.asarray(blocks, np.uint32), (slot, first))


@dataclass(frozen=True)
class Cache:
    """Keys and values of every layer with attention, [blocks, kv_heads, CACHE_BLOCK, head_dim or v_dim], and the states
    of every recurrent layer, [slots, …] f32; a sequence has a slot.

    Nothing is allocated before a chain uses it.
    """

    slots: int
    context: int  # positions that a slot may have
    keys: tuple[Storage, ...]
    values: tuple[Storage, ...]  # the keys themselves where values lie within them
    tables: tuple[BlockTable, ...]  # one for each window of the layers, 0 first
    windows: tuple[int, ...]  # of each layer that has keys
    states: tuple[tuple[Storage, ...], ...] = ()  # of each recurrent layer
    places: tuple[int, ...] = ()  # of each layer among those of its kind

    @classmethod
    def empty(
        cls, layers: Sequence[Layer], slots: int, context: int, dtype: str = CACHE_DTYPES[0], rows: int = 1
    ) -> Cache:
        """A cache for sequences of up to `context` positions and chains of up to `rows` rows of one sequence, in which
        each slot has all blocks that it can use.

        Raises UsageError for a dtype that no kernel reads."""
        return cls._make(layers, slots, context, None, dtype, rows)

    @classmethod
    def paged(
        cls,
        layers: Sequence[Layer],
        slots: int,
        context: int,
        blocks: int | Mapping[int, int],
        dtype: str = CACHE_DTYPES[0],
        rows: int = 1,
    ) -> Cache:
        """A cache whose slots have no block yet: `BlockTable.write` gives them some.

        blocks: how many there are for the layers of each window, or one number for all; a window that is not named has
        enough for all slots. Raises UsageError for a dtype that no kernel reads."""
        given = (
            blocks
            if isinstance(blocks, Mapping)
            else dict.fromkeys((layer.window for layer in _with_keys(layers)), blocks)
        )
        return cls._make(layers, slots, context, given, dtype, rows)

    @classmethod
    def _make(
        cls, layers: Sequence[Layer], slots: int, context: int, blocks: Mapping[int, int] | None, dtype: str, rows: int
    ) -> Cache:
        if dtype not in CACHE_DTYPES:
            raise UsageError(f"a KV cache of {dtype} is not possible; use one of {', '.join(CACHE_DTYPES)}")
        tables: dict[int, BlockTable] = {}
        attending = _with_keys(layers)
        for layer in sorted(attending, key=lambda layer: layer.window):
            window, own = layer.window, sum(nbytes_of(shape, dtype) for shape in layer.shapes(1))
            if window in tables:
                tables[window] = replace(tables[window], block_bytes=tables[window].block_bytes + own)
                continue
            width = layer.entries(context, rows)
            count = slots * width if blocks is None else blocks.get(window, slots * width)
            if count < 1:
                raise UsageError(f"a KV cache of {count} blocks is not possible; use 1 or more")
            tables[window] = BlockTable(window, count, own, _table(slots, width, full=blocks is None))
        keys, values = [], []
        for layer in attending:
            own_keys, *own_values = (Storage.empty(s, dtype) for s in layer.shapes(tables[layer.window].blocks))
            keys.append(own_keys)
            values.append(own_values[0] if own_values else own_keys)
        recurrent = [layer for layer in layers if isinstance(layer, StateLayer)]
        return cls(
            slots,
            context,
            tuple(keys),
            tuple(values),
            tuple(tables.values()),
            tuple(layer.window for layer in attending),
            tuple(tuple(Storage.empty((slots, *shape), "f32") for shape in layer.shapes) for layer in recurrent),
            tuple(sum(type(other) is type(layer) for other in layers[:i]) for i, layer in enumerate(layers)),
        )

    @property
    def dtype(self) -> str:
        return self.keys[0].dtype

    @property
    def nbytes(self) -> int:
        return sum(table.blocks * table.block_bytes for table in self.tables) + self.state_bytes

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of recurrent layers, for all slots."""
        return sum(storage.nbytes for layer in self.states for storage in layer)

    def kv(self, layer: int) -> tuple[Storage, Storage]:
        """The caches of keys and of values of a layer."""
        return self.keys[self.places[layer]], self.values[self.places[layer]]

    def state(self, layer: int) -> tuple[Storage, ...]:
        """The states of a recurrent layer."""
        return self.states[self.places[layer]]

    def table(self, layer: int) -> BlockTable:
        """The block table of a layer."""
        return next(table for table in self.tables if table.window == self.windows[self.places[layer]])


def _with_keys(layers: Sequence[Layer]) -> list[CacheLayer]:
    return [layer for layer in layers if isinstance(layer, CacheLayer)]


def _table(slots: int, width: int, *, full: bool) -> Storage:
    """A block table in which slots have blocks one behind another, or none. Its contents are made when it is used."""

    def contents() -> list[np.ndarray]:
        if full:
            return [np.arange(slots * width, dtype=np.uint32)]
        return [np.full(slots * width, NO_BLOCK, np.uint32)]

    return Storage((slots, width), "u32", parts=contents)
