"""The parts of a checkpoint's tensors that converted ones are made of, before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..checkpoints.tensor_info import TensorInfo
from .affine import from_float32, to_float32

__all__ = ["HALVES", "PAIRS", "Piece"]

PAIRS, HALVES = "pairs", "halves"


@dataclass(frozen=True)
class Piece:
    """A part of a tensor: an index of its array, the last two dimensions exchanged where `transposed`, and `added` to
    each number.

    order   (PAIRS, heads): rows i and i + half of each head come side by side; (HALVES, heads): the other way round
    """

    tensor: TensorInfo
    index: tuple[int | slice, ...] = ()
    transposed: bool = False
    added: float = 0.0
    order: tuple[str, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        index = (*self.index, *(slice(None),) * (len(self.tensor.shape) - len(self.index)))
        kept = [(size, at) for size, at in zip(self.tensor.shape, index) if isinstance(at, slice)]
        shape = tuple(len(range(*at.indices(size))) for size, at in kept)
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape

    @property
    def plain(self) -> bool:
        """Whether it is rows of the tensor as they are."""
        return not self.transposed and not self.added and len(self.index) < len(self.tensor.shape)

    @property
    def stored_bytes(self) -> int:
        """Its share of the tensor's bytes."""
        return math.prod(self.shape) * self.tensor.nbytes // max(math.prod(self.tensor.shape), 1)

    def order_of(self, rows: int) -> np.ndarray | None:
        """The number of the row that comes in place of each; None where they stay."""
        if self.order is None:
            return None
        kind, heads = self.order
        numbers = np.arange(rows)
        split = numbers.reshape(heads, 2, -1) if kind == PAIRS else numbers.reshape(heads, -1, 2)
        return split.swapaxes(1, 2).reshape(-1)

    def of(self, array: np.ndarray) -> np.ndarray:
        """The piece of the tensor's array, [rows, …] or a vector."""
        array = array[self.index]
        order = self.order_of(len(array)) if array.ndim else None
        if order is not None:
            array = array[order]
        if self.added:
            array = from_float32(to_float32(array, self.tensor.dtype) + np.float32(self.added), self.tensor.dtype)
        return np.ascontiguousarray(array.swapaxes(-1, -2)) if self.transposed else array
