"""The state of each row of a chain on the device: its token, position, slot in the cache, temperature and seed."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Storage, Tensor


@dataclass(frozen=True)
class RowTensors:
    """The rows of a pipeline as its steps take them: token, position and slot of each, all [R] u32."""

    tokens: Tensor
    positions: Tensor
    slots: Tensor


@dataclass(frozen=True)
class Rows:
    """The state of each row of a chain, which outlives its runs: all [rows], seeds [rows, 2] u32."""

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

    def slice(self, first: int, end: int) -> Rows:
        """The state of rows `first` to `end`, in the same memory."""
        return Rows(*(storage.slice(first, end) for storage in self.all))

    @property
    def all(self) -> tuple[Storage, ...]:
        """Everything that a row has here, rows first."""
        return self.tokens, self.positions, self.slots, self.temperatures, self.seeds

    def tensors(self, pipe: Pipeline) -> RowTensors:
        """The state that a forward pass reads, in the pipeline `pipe`."""
        return RowTensors(
            pipe.state("tokens", self.tokens), pipe.state("positions", self.positions), pipe.state("slots", self.slots)
        )
