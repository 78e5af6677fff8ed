"""What a pipeline computes on: tensors, and the memory of those that outlive a run."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

from ..device.core import _core
from ..errors import DTypeError
from .formats import ITEM_SIZES, dtype_of, view_dtype


def view_shape(shape, dtype: str) -> tuple[int, ...]:
    """The shape of the array that shows a tensor's memory: rows of q8 are bytes, scales and integers."""
    if dtype != "q8":
        return tuple(shape)
    groups = -(-shape[-1] // _core.CACHE_GROUP)
    return (*shape[:-1], -(-(2 * groups + shape[-1]) // 4) * 4)


def nbytes_of(shape, dtype: str) -> int:
    """What a tensor takes in memory."""
    return math.prod(view_shape(shape, dtype)) * (1 if dtype == "q8" else ITEM_SIZES[dtype])


class Storage:
    """Memory that outlives a run and may be shared by chains: a weight, a cache, a row's state.

    Built from an array (copied to the device once), from a range of a memory map (never copied), or
    from a shape alone. Devices are reached lazily, at the first chain that uses it.
    """

    def __init__(self, shape, dtype: str, *, array=None, mapped=None, zeroed=False):
        self.shape = tuple(int(n) for n in shape)
        self.dtype = dtype
        self._array = array
        self._zeroed = zeroed
        self._mapped = mapped  # (key, memory map, byte offset)
        self._buffers = weakref.WeakKeyDictionary()

    @classmethod
    def zeros(cls, shape, dtype: str = "f32") -> Storage:
        return cls(shape, dtype, zeroed=True)

    @classmethod
    def empty(cls, shape, dtype: str = "f32") -> Storage:
        """To be written before it is read; its pages are taken up as that happens."""
        return cls(shape, dtype)

    @classmethod
    def of(cls, array, dtype: str | None = None) -> Storage:
        """From a NumPy array; `dtype` "bf16" takes an array of uint16 as the bits of bfloat16."""
        import numpy as np

        array = np.ascontiguousarray(array)
        if dtype is None:
            dtype = dtype_of(array)
        elif array.dtype.itemsize != ITEM_SIZES[dtype]:
            raise DTypeError(f"{dtype} takes {ITEM_SIZES[dtype]} bytes an element, the array has {array.dtype}")
        return cls(array.shape, dtype, array=array)

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.shape, self.dtype)

    def on(self, device):
        """(Buffer, byte offset) of this memory on a :class:`pipeline.device.device.Device`."""
        if device not in self._buffers:
            self._buffers[device] = self._place(device)
        return self._buffers[device]

    def _place(self, device):
        if self._mapped is not None:
            key, memory, offset = self._mapped
            return device.wrapped(key, memory), offset
        buffer = device.core.buffer(max(self.nbytes, 16))
        if self._array is not None:
            memoryview(buffer)[: self.nbytes] = self._array.reshape(-1).view("uint8").data
        elif self._zeroed:
            memoryview(buffer)[:] = bytes(len(memoryview(buffer)))
        return buffer, 0

    def extent(self) -> tuple[object, int, int]:
        """(memory, begin, end) in bytes: two storages share memory where these meet."""
        if self._mapped is None:
            return self, 0, self.nbytes
        key, _, offset = self._mapped
        return key, offset, offset + self.nbytes

    def part(self, index: int) -> Storage:
        """The memory of self[index], without a copy."""
        shape = self.shape[1:]
        return _Part(self, shape, index * math.prod(shape) * ITEM_SIZES[self.dtype])

    def rows(self, first: int, end: int) -> Storage:
        """The memory of rows `first` to `end` of all rows, those of [-1, columns], without a copy."""
        return _Part(self, (end - first, self.shape[-1]), first * self.shape[-1] * ITEM_SIZES[self.dtype])

    def numpy(self, device):
        """A view of the memory on `device`, without a copy."""
        import numpy as np

        buffer, offset = self.on(device)
        shape = view_shape(self.shape, self.dtype)
        return np.frombuffer(buffer, view_dtype(self.dtype), math.prod(shape), offset).reshape(shape)


class _Part(Storage):
    def __init__(self, whole: Storage, shape, offset: int):
        super().__init__(shape, whole.dtype)
        self._whole = whole
        self._offset = offset

    def _place(self, device):
        buffer, offset = self._whole.on(device)
        return buffer, offset + self._offset

    def extent(self) -> tuple[object, int, int]:
        memory, begin, _ = self._whole.extent()
        return memory, begin + self._offset, begin + self._offset + self.nbytes


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value in a pipeline: what a step reads or makes. Shape is in elements, rows first."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: Storage | None = None  # None: scratch, placed by the memory plan
    role: str = "scratch"  # "input", "weight", "state" or "scratch"

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.shape, self.dtype)

    def __repr__(self):
        return f"{self.name}[{' × '.join(map(str, self.shape))}] {self.dtype}"


def overlap(a: Tensor, b: Tensor) -> str:
    """Whether two tensors share memory: "same" for all of it, "part" for some, "" for none."""
    if a.storage is None or b.storage is None:
        return "same" if a is b else ""
    (memory, begin, end), (other, other_begin, other_end) = a.storage.extent(), b.storage.extent()
    if memory != other or end <= other_begin or other_end <= begin:
        return ""
    return "same" if (begin, end) == (other_begin, other_end) else "part"


def as_storage(value) -> Storage:
    return value if isinstance(value, Storage) else Storage.of(value)
