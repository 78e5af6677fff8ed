"""The values that a pipeline computes on: tensors, and the memory of those that outlive a run."""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..device.core import _core
from ..device.device import Device
from ..errors import BuildError, DTypeError
from .formats import ITEM_SIZES, dtype_of, view_dtype
from .transfers import Copy, Memory, Writes, upload

Shape: TypeAlias = tuple[int, ...]


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


def read_memory(device: Device, memory: Memory, shape: Sequence[int], dtype: str) -> np.ndarray:
    """A copy of a tensor's memory, once the runs that are committed have completed where the host does not see it."""
    buffer, offset = memory
    if not buffer.private:
        return as_array(memory, shape, dtype).copy()
    result = np.empty(view_shape(shape, dtype), view_dtype(dtype))
    device.core.read([(buffer, offset, result.data)])
    return result


@dataclass(frozen=True)
class Mapped:
    """A range of a memory map; `key` names the map where two ranges are compared. `borders` are the places, in order,
    at which the map may be cut for a device whose longest buffer is shorter."""

    key: Hashable
    memory: mmap.mmap
    offset: int  # bytes
    borders: Sequence[int] = ()


class Storage:
    """Memory that outlives a run and may be shared by chains: a weight, a cache, a row's state.

    Built from an array (copied to the device once), from ranges of memory maps, or from a shape alone. It has memory on
    a device from the first chain that uses it there. A single range is never copied where device and host share their
    memory. On a device that has memory of its own, a Storage is private to it, and the host reaches it by `read`
    and `write`; `shared`: it stays where the host sees it, for what the host writes before each run.

    Threads: any thread may use a Storage, and all of them get the same memory on a device. Writing the memory while a
    run that uses it is in flight is a race.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: str,
        *,
        array: np.ndarray | None = None,
        mapped: Mapped | Sequence[Mapped] = (),
        zeroed: bool = False,
        shared: bool = False,
        parts: Callable[[], Iterable[np.ndarray]] | None = None,
    ) -> None:
        """mapped: the range, or equal parts of the memory one behind another. parts: gives the arrays that the memory
        is made of, one behind another, when it is allocated."""
        self.shape: Shape = tuple(int(n) for n in shape)
        self.dtype = dtype
        self._array = array
        self._zeroed = zeroed
        self._mapped = (mapped,) if isinstance(mapped, Mapped) else tuple(mapped)
        self._shared = shared
        self._parts = parts
        self._memory: weakref.WeakKeyDictionary[Device, Memory] = weakref.WeakKeyDictionary()
        self._allocating = threading.Lock()

    @classmethod
    def zeros(cls, shape: Sequence[int], dtype: str = "f32", *, shared: bool = False) -> Storage:
        return cls(shape, dtype, zeroed=True, shared=shared)

    @classmethod
    def empty(cls, shape: Sequence[int], dtype: str = "f32", *, shared: bool = False) -> Storage:
        """Memory that is written before it is read; its pages are allocated as that happens."""
        return cls(shape, dtype, shared=shared)

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

    @property
    def view_shape(self) -> Shape:
        """The shape of the array that shows the memory."""
        return view_shape(self.shape, self.dtype)

    def on(self, device: Device) -> Memory:
        """(Buffer, byte offset) of this memory on a `pipeline.Device`."""
        with self._allocating:
            if device not in self._memory:
                self._memory[device] = self._allocate(device)
            return self._memory[device]

    def _allocate(self, device: Device) -> Memory:
        if len(self._mapped) == 1 and device.unified:
            only = self._mapped[0]
            return device.wrapped(only.memory, only.offset, only.borders)
        memory = self.reserve(device)
        if self._mapped:
            upload(device, self.copies(memory))
        else:
            self.fill(device, memory)
        return memory

    def reserve(self, device: Device) -> Memory:
        """New memory that nobody has written. It becomes the Storage's own by `place`."""
        return device.core.buffer(max(self.nbytes, 16), private=not self._shared), 0

    def place(self, device: Device, memory: Memory) -> None:
        """Gives it memory on a device, which has its contents; what it has there already stays."""
        with self._allocating:
            self._memory.setdefault(device, memory)

    def copies(self, memory: Memory) -> list[Copy]:
        """What fills the memory from the maps, where the contents come from there."""
        if not self._mapped:
            return []
        (buffer, offset), size = memory, self.nbytes // len(self._mapped)
        return [
            Copy(part.key, part.memory, part.offset, size, buffer, offset + i * size)
            for i, part in enumerate(self._mapped)
        ]

    def fill(self, device: Device, memory: Memory) -> None:
        """Writes the contents into new memory, where they come from no map."""
        with Writes(device) as writes:
            if self._array is not None:
                writes.put(memory, 0, self._array.reshape(-1).view(np.uint8))
            elif self._zeroed:
                writes.put(memory, 0, np.zeros(max(self.nbytes, 16), np.uint8))
        if self._parts is not None:
            begin = 0
            for part in self._parts():
                with Writes(device) as writes:
                    writes.put(memory, begin, part)
                begin += part.nbytes

    def placed(self, device: Device) -> bool:
        """Whether it has memory on the device."""
        return device in self._memory

    def extent(self) -> tuple[Hashable, int, int]:
        """(memory, begin, end) in bytes: two storages share memory where these meet."""
        if len(self._mapped) != 1:
            return self, 0, self.nbytes
        return self._mapped[0].key, self._mapped[0].offset, self._mapped[0].offset + self.nbytes

    def part(self, index: int) -> Storage:
        """The memory of self[index], without a copy."""
        shape = self.shape[1:]
        return _Part(self, shape, index * math.prod(shape) * ITEM_SIZES[self.dtype])

    def slice(self, first: int, end: int) -> Storage:
        """The memory of self[first:end], without a copy."""
        shape = self.shape[1:]
        return _Part(self, (end - first, *shape), first * math.prod(shape) * ITEM_SIZES[self.dtype])

    def rows(self, first: int, end: int) -> Storage:
        """The memory of rows `first` to `end` of all rows, those of [-1, columns], without a copy."""
        return _Part(self, (end - first, self.shape[-1]), first * self.shape[-1] * ITEM_SIZES[self.dtype])

    def numpy(self, device: Device) -> np.ndarray:
        """A view of the memory on `device`, without a copy. Raises BuildError where the host does not see it."""
        memory = self.on(device)
        if memory[0].private:
            raise BuildError(f"the host does not see memory of {device.name}; use Storage.read and Storage.write")
        return as_array(memory, self.shape, self.dtype)

    def read(self, device: Device) -> np.ndarray:
        """A copy of the memory on `device`."""
        return read_memory(device, self.on(device), self.shape, self.dtype)

    def write(self, device: Device, values: ArrayLike, at: int | Sequence[int] = ()) -> None:
        """Writes `values`, row by row, from the element self[at] on; see `Writes` for several of them."""
        with Writes(device) as writes:
            writes.add(self, values, at)


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
