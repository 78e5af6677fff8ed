"""The KV cache of a model, which stays on the device from run to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..graph.formats import CACHE_DTYPES
from ..graph.tensors import Storage

# Tokens of prompts that go through together. An expert's weights are read once for all of its rows, so many rows are
# worth it.
PREFILL_ROWS = 512


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

    def positions(self, context: int, rows: int) -> int:
        """How many of `context` positions the layer keeps. Those of a window are a ring, where position p is at p
        modulo that number: `rows` rows of one sequence are written before the first of them looks back."""
        return min(context, self.window + rows - 1) if self.window else context


@dataclass(frozen=True)
class Cache:
    """Keys and values of every layer, [slots, kv_heads, positions, head_dim or v_dim]; a sequence has a slot.

    Nothing is allocated before a chain uses it.
    """

    keys: tuple[Storage, ...]
    values: tuple[Storage, ...]  # the keys themselves where values lie within them

    @classmethod
    def empty(
        cls, layers: Sequence[CacheLayer], slots: int, context: int, dtype: str = CACHE_DTYPES[0], rows: int = 1
    ) -> Cache:
        """A cache for sequences of up to `context` positions and chains of up to `rows` rows of one sequence.

        Raises UsageError for a dtype that no kernel reads."""
        if dtype not in CACHE_DTYPES:
            raise UsageError(f"a KV cache of {dtype} is not possible; use one of {', '.join(CACHE_DTYPES)}")
        keys, values = [], []
        for layer in layers:
            shape = (slots, layer.kv_heads, layer.positions(context, rows))
            keys.append(Storage.empty((*shape, layer.head_dim), dtype))
            v_dim = layer.head_dim if layer.v_dim is None else layer.v_dim
            values.append(Storage.empty((*shape, v_dim), dtype) if v_dim else keys[-1])
        return cls(tuple(keys), tuple(values))

    @property
    def dtype(self) -> str:
        return self.keys[0].dtype

    @property
    def nbytes(self) -> int:
        return sum(
            storage.nbytes for storage in {id(storage): storage for storage in (*self.keys, *self.values)}.values()
        )
