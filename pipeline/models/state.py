"""What a model keeps from run to run, on the device: KV caches and each row's place."""

from __future__ import annotations

from dataclasses import dataclass

from ..tensors import Storage


@dataclass(frozen=True)
class Cache:
    """Keys and values of every layer, [slots, kv_heads, context, head_dim] f32; a sequence has a slot."""

    keys: tuple[Storage, ...]
    values: tuple[Storage, ...]

    @classmethod
    def empty(cls, layers: int, slots: int, kv_heads: int, context: int, head_dim: int) -> Cache:
        shape = (slots, kv_heads, context, head_dim)
        return cls(tuple(Storage.empty(shape) for _ in range(layers)), tuple(Storage.empty(shape) for _ in range(layers)))


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
