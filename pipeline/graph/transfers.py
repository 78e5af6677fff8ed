"""What the host brings to memory of a device: values that it writes, and ranges of memory maps."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..device.core import _core
from ..device.device import Device
from ..errors import ShapeError
from .formats import view_dtype

Memory: TypeAlias = "tuple[_core.Buffer, int]"  # a buffer, and the byte offset at which a value begins in it
PIECE = 256 << 20  # bytes of a map that go to a device at once


class Kept(Protocol):
    """A Storage, as far as it matters here."""

    dtype: str

    @property
    def view_shape(self) -> tuple[int, ...]: ...

    def on(self, device: Device) -> Memory: ...


class Writes:
    """Values on their way into memory of a device: ``with Writes(device) as writes: writes.add(…)``.

    Where the host sees the memory, each is copied there when it is added. What it does not see is written at the end,
    all in one command buffer: runs that are committed later see it, and those before may not. Until then the values
    must stay as they are.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._waiting: list[_core.Transfer] = []

    def add(self, storage: Kept, values: ArrayLike, at: int | Sequence[int] = ()) -> None:
        """Writes `values`, row by row, from the element storage[at] on. ShapeError where they are too many."""
        array = np.asarray(values, view_dtype(storage.dtype))
        index = (at,) if isinstance(at, int) else tuple(at)
        shape = storage.view_shape
        begin = sum(i * math.prod(shape[axis + 1 :]) for axis, i in enumerate(index))
        count = math.prod(shape)
        if begin < 0 or array.size > count - begin:
            raise ShapeError(f"{array.size} values from element {begin} on do not fit {count} elements")
        self.put(storage.on(self._device), begin * array.itemsize, array)

    def put(self, memory: Memory, begin: int, array: np.ndarray) -> None:
        """Writes an array at byte `begin` of the memory."""
        buffer, offset = memory
        if not array.size:
            return
        if buffer.private:
            self._waiting.append((buffer, offset + begin, np.ascontiguousarray(array).data))
        else:
            seen = np.frombuffer(memoryview(buffer), array.dtype, array.size, offset + begin)
            seen.reshape(array.shape)[...] = array

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and kind is None:
            self._device.core.write(waiting)


@dataclass(frozen=True)
class Copy:
    """`nbytes` bytes of a map from `begin` on, which go to byte `at` of a buffer."""

    key: Hashable  # names the map
    memory: mmap.mmap
    begin: int
    nbytes: int
    buffer: _core.Buffer
    at: int

    def view(self) -> memoryview:
        """The bytes in the map. ShapeError where they are not all there."""
        seen = memoryview(self.memory)[self.begin : self.begin + self.nbytes]
        if seen.nbytes != self.nbytes:
            raise ShapeError(
                f"{self.nbytes} bytes from byte {self.begin} on are not within a map of {len(self.memory)}"
            )
        return seen

    def cut(self, begin: int, nbytes: int) -> Copy:
        """A part of it."""
        return Copy(self.key, self.memory, self.begin + begin, nbytes, self.buffer, self.at + begin)


def upload(device: Device, copies: Iterable[Copy], progress: Callable[[int], None] = lambda nbytes: None) -> None:
    """Makes the copies piece by piece, in the order of the maps, and gives pages back that were copied.

    `progress` gets the bytes of each piece. While a piece is copied, the system reads the next one from its file.
    """
    pieces = list(_pieces(copies))
    with ThreadPoolExecutor(1) as beside:  # pages are given back while the next piece is copied
        for piece, following in zip(pieces, [*pieces[1:], None]):
            if following is not None:
                _advise(following, "MADV_WILLNEED")
            views = [copy.view() for copy in piece]
            try:
                device.core.upload([(copy.buffer, copy.at, view) for copy, view in zip(piece, views)])
            finally:
                for view in views:  # so that the map can be closed
                    view.release()
            beside.submit(_advise, piece, "MADV_DONTNEED")
            progress(sum(copy.nbytes for copy in piece))


def _pieces(copies: Iterable[Copy]) -> Iterator[list[Copy]]:
    """The copies in the order of their maps, in groups that span up to PIECE bytes of one map."""
    ordered = sorted((copy for copy in copies if copy.nbytes), key=lambda copy: (str(copy.key), copy.begin))
    piece: list[Copy] = []
    for whole in ordered:
        for begin in range(0, whole.nbytes, PIECE):
            copy = whole.cut(begin, min(PIECE, whole.nbytes - begin))
            if piece and (piece[0].key != copy.key or copy.begin + copy.nbytes - piece[0].begin > PIECE):
                yield piece
                piece = []
            piece.append(copy)
    if piece:
        yield piece


def _advise(piece: list[Copy], advice: str) -> None:
    memory, end = piece[0].memory, max(copy.begin + copy.nbytes for copy in piece)
    begin = piece[0].begin // mmap.PAGESIZE * mmap.PAGESIZE
    if hasattr(memory, "madvise") and hasattr(mmap, advice):
        memory.madvise(getattr(mmap, advice), begin, end - begin)
