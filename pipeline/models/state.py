"""What a model keeps from run to run, on the device: KV caches and each row's place."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..tensors import CACHE_DTYPES, Storage


@dataclass(frozen=True)
class Cache:
    """Keys and values of every layer, [slots, kv_heads, context, head_dim] f16 or f32; a sequence has a slot."""

    keys: tuple[Storage, ...]
    values: tuple[Storage, ...]

    @classmethod
    def empty(cls, layers: int, slots: int, kv_heads: int, context: int, head_dim: int,
              dtype: str = CACHE_DTYPES[0]) -> Cache:
        """UsageError for a dtype that no kernel reads."""
        if dtype not in CACHE_DTYPES:
            raise UsageError(f"a KV cache of {dtype} is not possible; use {' or '.join(CACHE_DTYPES)}")
        shape = (slots, kv_heads, context, head_dim)
        keys, values = (tuple(Storage.empty(shape, dtype) for _ in range(layers)) for _ in range(2))
        return cls(keys, values)

    @property
    def dtype(self) -> str:
        return self.keys[0].dtype

    @property
    def nbytes(self) -> int:
        return sum(storage.nbytes for storage in (*self.keys, *self.values))


@dataclass(frozen=True)
class Rows:
    """Where each row of a chain stands: all [rows], seeds [rows, 2] u32."""

    tokens: Storage
    positions: Storage
    slots: Storage
    temperatures: Storage
    seeds: Storage

    @classmethod
    def zeros(cls, rows: int) -> Rows:
        return cls(Storage.zeros((rows,), "u32"), Storage.zeros((rows,), "u32"), Storage.zeros((rows,), "u32"),
                   Storage.zeros((rows,), "f32"), Storage.zeros((rows, 2), "u32"))
