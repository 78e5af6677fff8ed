"""Memory of a device that stays from run to run, seen by the host as an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DTypeError
from .core import _core

__all__ = ["Buffer", "empty_buffer", "host_array", "new_buffer"]


class Buffer:
    """Memory of a device that stays from run to run, seen by the host as an array. See `Device.buffer`.

    Threads: writing `array` while a command buffer that uses the memory is in flight is a race, as on any device.
    """

    def __init__(self, core: _core.Buffer, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.core = core
        self.shape = shape
        self.dtype = dtype

    @property
    def array(self) -> np.ndarray:
        """The memory as an array, without a copy."""
        count = int(np.prod(self.shape))
        return np.frombuffer(memoryview(self.core), self.dtype, count).reshape(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __dlpack__(self, **options: Any) -> Any:
        """The memory for another library, without a copy (`torch.from_dlpack(buffer)`)."""
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self.array.__dlpack_device__()
        return int(kind), int(number)

    @property
    def gpu_address(self) -> int:
        """What a pointer to the memory is on the device, for structs that a program lays out itself. A dispatch that
        reaches it by such an address names it in `resources`."""
        return self.core.address

    def __repr__(self) -> str:
        return f"Buffer({self.dtype} {self.shape})"


def host_array(value: Any) -> np.ndarray:
    """An array, of whatever library: by DLPack without a copy where it lies on the host, else as NumPy reads it."""
    if isinstance(value, (np.ndarray, np.generic)) or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError):  # of a kind that NumPy lacks, or on a device
        return np.asarray(value)


def new_buffer(device: _core.Device, array: Any) -> Buffer:
    """A Buffer that holds a copy of the array."""
    values = host_array(array)
    buffer = empty_buffer(device, values.shape, values.dtype)
    buffer.array[...] = values
    return buffer


def empty_buffer(device: _core.Device, shape: int | Sequence[int], dtype: DTypeLike) -> Buffer:
    """A Buffer that nobody has written."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    kind = np.dtype(dtype)
    if kind.hasobject or not kind.isnative:
        raise DTypeError(f"a buffer of {kind.str} is not possible; give numbers in the machine's byte order")
    return Buffer(device.buffer(int(np.prod(sizes)) * kind.itemsize), sizes, kind)
