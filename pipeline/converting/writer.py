"""Writes shards: every tensor at its place, the file under its final name only when it is complete and on the disk."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import Quantization
from ..checkpoints.tensor_info import TensorInfo
from ..errors import CheckpointError
from ..printing import brief
from .affine import from_float32, quantize, to_float32
from .journal import Journal
from .shards import Shard
from .tensors import Output, Piece

__all__ = ["UNFINISHED", "Writer", "release", "sync_folder"]

UNFINISHED = ".unfinished"  # behind a file's name until it is complete
ROWS_OF = 1 << 20  # weights that one thread takes at a time
SYNC_BYTES = 256_000_000  # written between two times that the disk is waited for


class Writer:
    """Converts the outputs of shards with some threads. `advance` is called with the bytes read since its last call.

    It holds the threads' parts of one tensor in memory, and one matrix besides where a tensor is turned.
    """

    def __init__(
        self, checkpoint: Checkpoint, folder: Path, journal: Journal, threads: int, advance: Callable[[int], None]
    ) -> None:
        self._checkpoint = checkpoint
        self._folder = folder
        self._journal = journal
        self._advance = advance
        self._pool = ThreadPoolExecutor(threads, "convert")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(self, shard: Shard) -> None:
        """Makes the shard's file, or the part of it that is missing."""
        path = self._folder / shard.name
        if path.exists():  # complete: it got its name when it was
            self._advance(sum(output.stored_bytes for output in shard.outputs))
            return
        unfinished = path.with_name(path.name + UNFINISHED)
        with open(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as stream:
            file, pending = stream.fileno(), 0
            waiting: list[str] = []
            known = os.fstat(file).st_size == shard.size
            os.ftruncate(file, shard.size)
            _put(file, shard.header, 0)
            for output in shard.outputs:
                if known and output.name in self._journal.done:
                    self._advance(output.stored_bytes)
                    continue
                self._convert(output, shard, file)
                waiting.append(output.name)
                pending += output.stored_bytes
                if pending >= SYNC_BYTES:
                    os.fsync(file)
                    self._journal.add(waiting)
                    pending, waiting = 0, []
            os.fsync(file)
        self._journal.add(waiting)
        os.rename(unfinished, path)
        sync_folder(self._folder)

    def _convert(self, output: Output, shard: Shard, file: int) -> None:
        places = [shard.offsets[name] for name, _, _ in output.parts()]
        for piece in output.pieces:
            matrix = self._matrix(piece)
            if output.scheme is None:
                written = self._copy(matrix, file, places)
            else:
                written = self._quantize(matrix, piece.tensor, output.scheme, file, places)
            places = [place + size for place, size in zip(places, written)]
            del matrix
            release(self._checkpoint, piece)

    def _matrix(self, piece: Piece) -> np.ndarray:
        """The piece as it is stored, [rows, …] or a vector."""
        array = self._checkpoint.view(piece.tensor.name)[piece.index]
        if piece.added:
            numbers = to_float32(array, piece.tensor.dtype) + np.float32(piece.added)
            array = from_float32(numbers, piece.tensor.dtype)
        return np.ascontiguousarray(array.swapaxes(-1, -2)) if piece.transposed else array

    def _copy(self, array: np.ndarray, file: int, places: Sequence[int]) -> list[int]:
        rows = array.reshape(1, -1) if array.ndim < 2 else array

        def copy(first: int, end: int) -> int:
            part = np.ascontiguousarray(rows[first:end])
            _put(file, part.reshape(-1).view(np.uint8).data, places[0] + first * (array.nbytes // len(rows)))
            return part.nbytes

        self._each(rows, copy)
        return [array.nbytes]

    def _quantize(
        self, array: np.ndarray, info: TensorInfo, scheme: Quantization, file: int, places: Sequence[int]
    ) -> list[int]:
        rows, inputs = array.shape
        bits, group = scheme.bits, scheme.group_size
        sizes = [inputs * bits // 8, inputs // group * array.itemsize, inputs // group * array.itemsize]  # per row

        def convert(first: int, end: int) -> int:
            part = np.ascontiguousarray(array[first:end])
            try:
                parts = quantize(part, info.dtype, bits, group)
            except FloatingPointError:
                raise CheckpointError(
                    f"{info.file}: tensor {brief(info.name)} holds infinities or NaN, which cannot be "
                    "quantised; download it again"
                ) from None
            for converted, place, size in zip(parts, places, sizes):
                _put(file, converted.reshape(-1).view(np.uint8).data, place + first * size)
            return part.nbytes

        self._each(array, convert)
        return [size * rows for size in sizes]

    def _each(self, array: np.ndarray, work: Callable[[int, int], int]) -> None:
        """Calls `work` for all rows, some at a time, on the threads."""
        if not array.size:
            return
        step = max(1, ROWS_OF // (array.size // len(array)))
        if step >= len(array):
            self._advance(work(0, len(array)))
            return
        starts = range(0, len(array), step)
        for nbytes in self._pool.map(lambda first: work(first, min(first + step, len(array))), starts):
            self._advance(nbytes)


def release(checkpoint: Checkpoint, piece: Piece) -> None:
    """Gives back the pages of the map that the piece was read from; another piece may read them again."""
    info = piece.tensor
    begin, end = info.offset, info.offset + info.nbytes
    if piece.index and isinstance(piece.index[0], int):
        size = info.nbytes // info.shape[0]
        begin, end = begin + piece.index[0] * size, begin + (piece.index[0] + 1) * size
    memory = checkpoint.mapped(info.file)
    begin, end = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin and hasattr(memory, "madvise"):
        memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def sync_folder(folder: Path) -> None:
    """Waits until the names in the folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(file: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
