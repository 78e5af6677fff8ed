"""Where each row of a chain stands: its token, position, slot in the cache and random state, on the device."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.tensors import Storage


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
        return cls(
            Storage.zeros((rows,), "u32"),
            Storage.zeros((rows,), "u32"),
            Storage.zeros((rows,), "u32"),
            Storage.zeros((rows,), "f32"),
            Storage.zeros((rows, 2), "u32"),
        )
