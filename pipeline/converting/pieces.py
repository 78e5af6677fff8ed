"""The parts of a checkpoint's tensors that converted ones are made of, before anything is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..checkpoints.tensor_info import TensorInfo
from ..models.numbers import as_f32, rounded

__all__ = ["Piece"]


@dataclass(frozen=True)
class Piece:
    """A part of a tensor: an index of its array, then, where they are given,

    transposed   the last two dimensions exchanged
    added        added to each number
    order        the numbers of the rows to take, one after another
    columns      the same of columns
    change       a function of numbers in float32
    """

    tensor: TensorInfo
    index: tuple[int | slice, ...] = ()
    transposed: bool = False
    added: float = 0.0
    order: np.ndarray | None = None
    columns: np.ndarray | None = None
    change: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        index = (*self.index, *(slice(None),) * (len(self.tensor.shape) - len(self.index)))
        kept = [(size, at) for size, at in zip(self.tensor.shape, index) if isinstance(at, slice)]
        shape = tuple(len(range(*at.indices(size))) for size, at in kept)
        if self.order is not None:
            shape = (len(self.order), *shape[1:])
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape

    @property
    def plain(self) -> bool:
        """Whether it is rows of the tensor as they are."""
        changed = self.transposed or self.added or self.change is not None
        return not changed and len(self.index) < len(self.tensor.shape)

    @property
    def stored_bytes(self) -> int:
        """Its share of the tensor's bytes."""
        return math.prod(self.shape) * self.tensor.nbytes // max(math.prod(self.tensor.shape), 1)

    def of(self, array: np.ndarray) -> np.ndarray:
        """The piece of the tensor's array, [rows, …] or a vector."""
        array = array[self.index]
        if self.order is not None:
            array = array[self.order]
        if self.columns is not None:
            array = array[..., self.columns]
        if self.added or self.change is not None:
            numbers = as_f32(array, self.tensor.dtype) + np.float32(self.added)
            numbers = numbers if self.change is None else self.change(numbers)
            array = rounded(numbers, self.tensor.dtype.lower())
        return np.ascontiguousarray(array.swapaxes(-1, -2)) if self.transposed else array
