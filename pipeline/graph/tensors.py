"""The values that a pipeline computes on: tensors, and the memory of those that outlive a run."""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..device.core import _core
from ..device.device import Device
from ..errors import DTypeError
from .formats import ITEM_SIZES, dtype_of, view_dtype

Shape: TypeAlias = tuple[int, ...]
Memory: TypeAlias = "tuple[_core.Buffer, int]"  # a buffer, and the byte offset at which a value begins in it


def view_shape(shape: Sequence[int], dtype: str) -> Shape:
    """The shape of the array that shows a tensor's memory: rows of q8 are bytes, scales and integers."""
    if dtype != "q8":
        return tuple(shape)
    groups = -(-shape[-1] // _core.CACHE_GROUP)
    return (*shape[:-1], -(-(2 * groups + shape[-1]) // 4) * 4)


def nbytes_of(shape: Sequence[int], dtype: str) -> int:
    """The bytes that a tensor takes in memory."""
    return math.prod(view_shape(shape, dtype)) * (1 if dtype == "q8" else ITEM_SIZES[dtype])


def as_array(memory: Memory, shape: Sequence[int], dtype: str) -> np.ndarray:
    """A view of a tensor's memory, without a copy."""
    buffer, offset = memory
    shown = view_shape(shape, dtype)
    return np.frombuffer(memoryview(buffer), view_dtype(dtype), math.prod(shown), offset).reshape(shown)


@dataclass(frozen=True)
class Mapped:
    """A range of a memory map; `key` names the map where two ranges are compared."""

    key: Hashable
    memory: mmap.mmap
    offset: int  # bytes


class Storage:
    """Memory that outlives a run and may be shared by chains: a weight, a cache, a row's state.

    Built from an array (copied to the device once), from a range of a memory map (never copied), or
    from a shape alone. It has memory on a device from the first chain that uses it there.

    Threads: any thread may use a Storage, and all of them get the same memory on a device. Writing the memory while a
    run that uses it is in flight is a race.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: str,
        *,
        array: np.ndarray | None = None,
        mapped: Mapped | None = None,
        zeroed: bool = False,
    ) -> None:
        self.shape: Shape = tuple(int(n) for n in shape)
        self.dtype = dtype
        self._array = array
        self._zeroed = zeroed
        self._mapped = mapped
        self._memory: weakref.WeakKeyDictionary[Device, Memory] = weakref.WeakKeyDictionary()
        self._allocating = threading.Lock()

    @classmethod
    def zeros(cls, shape: Sequence[int], dtype: str = "f32") -> Storage:
        return cls(shape, dtype, zeroed=True)

    @classmethod
    def empty(cls, shape: Sequence[int], dtype: str = "f32") -> Storage:
        """Memory that is written before it is read; its pages are allocated as that happens."""
        return cls(shape, dtype)

    @classmethod
    def of(cls, array: ArrayLike, dtype: str | None = None) -> Storage:
        """A copy of a NumPy array; `dtype` "bf16" takes an array of uint16 as the bits of bfloat16."""
        values = np.ascontiguousarray(array)
        if dtype is None:
            dtype = dtype_of(values)
        elif values.dtype.itemsize != ITEM_SIZES[dtype]:
            raise DTypeError(f"{dtype} takes {ITEM_SIZES[dtype]} bytes an element, the array has {values.dtype}")
        return cls(values.shape, dtype, array=values)

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.shape, self.dtype)

    def on(self, device: Device) -> Memory:
        """(Buffer, byte offset) of this memory on a :class:`pipeline.Device`."""
        with self._allocating:
            if device not in self._memory:
                self._memory[device] = self._allocate(device)
            return self._memory[device]

    def _allocate(self, device: Device) -> Memory:
        if self._mapped is not None:
            return device.wrapped(self._mapped.memory), self._mapped.offset
        buffer = device.core.buffer(max(self.nbytes, 16))
        if self._array is not None:
            memoryview(buffer)[: self.nbytes] = self._array.reshape(-1).view("uint8").data
        elif self._zeroed:
            memoryview(buffer)[:] = bytes(len(memoryview(buffer)))
        return buffer, 0

    def extent(self) -> tuple[Hashable, int, int]:
        """(memory, begin, end) in bytes: two storages share memory where these meet."""
        if self._mapped is None:
            return self, 0, self.nbytes
        return self._mapped.key, self._mapped.offset, self._mapped.offset + self.nbytes

    def part(self, index: int) -> Storage:
        """The memory of self[index], without a copy."""
        shape = self.shape[1:]
        return _Part(self, shape, index * math.prod(shape) * ITEM_SIZES[self.dtype])

    def rows(self, first: int, end: int) -> Storage:
        """The memory of rows `first` to `end` of all rows, those of [-1, columns], without a copy."""
        return _Part(self, (end - first, self.shape[-1]), first * self.shape[-1] * ITEM_SIZES[self.dtype])

    def numpy(self, device: Device) -> np.ndarray:
        """A view of the memory on `device`, without a copy."""
        return as_array(self.on(device), self.shape, self.dtype)


class _Part(Storage):
    def __init__(self, whole: Storage, shape: Sequence[int], offset: int) -> None:
        super().__init__(shape, whole.dtype)
        self._whole = whole
        self._offset = offset

    def _allocate(self, device: Device) -> Memory:
        buffer, offset = self._whole.on(device)
        return buffer, offset + self._offset

    def extent(self) -> tuple[Hashable, int, int]:
        memory, begin, _ = self._whole.extent()
        return memory, begin + self._offset, begin + self._offset + self.nbytes


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value in a pipeline, which steps read or make. Its shape is in elements, rows first."""

    name: str
    shape: Shape
    dtype: str
    storage: Storage | None = None  # None: scratch, to which the memory plan gives an offset
    role: str = "scratch"  # "input", "weight", "state" or "scratch"

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"{self.name}[{' × '.join(map(str, self.shape))}] {self.dtype}"


VectorLike: TypeAlias = Tensor | Storage | ArrayLike  # a weight vector as a step takes it


def overlap(a: Tensor, b: Tensor) -> str:
    """Whether two tensors share memory: "same" for all of it, "part" for some, "" for none."""
    if a.storage is None or b.storage is None:
        return "same" if a is b else ""
    (memory, begin, end), (other, other_begin, other_end) = a.storage.extent(), b.storage.extent()
    if memory != other or end <= other_begin or other_end <= begin:
        return ""
    return "same" if (begin, end) == (other_begin, other_end) else "part"


def as_storage(value: Storage | ArrayLike) -> Storage:
    return value if isinstance(value, Storage) else Storage.of(value)
