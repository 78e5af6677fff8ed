"""Writes shards: every tensor at its place, the file under its final name only when it is complete and on the disk."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..errors import CheckpointError
from ..printing import brief
from .affine import NUMPY
from .encoding import encode, row_bytes, tensor_bytes
from .journal import Journal
from .pieces import Piece
from .shards import Shard
from .source import Rows, Source, converted
from .tensors import Output

__all__ = ["UNFINISHED", "Writer", "release", "sync_folder"]

UNFINISHED = ".unfinished"  # behind a file's name until it is complete
ROWS_OF = 1 << 18  # weights that one thread takes at a time
SYNC_BYTES = 256_000_000  # written between two times that the disk is waited for


class Writer:
    """Converts the outputs of shards with some threads. `advance` is called with the bytes read since its last call.

    It holds the threads' parts of one tensor in memory, and one matrix besides where a tensor is turned.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        journal: Journal,
        threads: int,
        advance: Callable[[int], None],
        importance: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """importance: by the output's name, [1 or the pieces, columns]."""
        self._source = source
        self._importance = importance or {}
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
        if output.constant:
            _put(file, output.constant, places[0])
        of_columns = self._importance.get(output.name)
        for number, piece in enumerate(output.pieces):
            rows = self._source.rows(piece)
            importance = None if of_columns is None else of_columns[min(number, len(of_columns) - 1)]
            sizes = self._write(output, piece, rows, importance, file, places)
            places = [place + size for place, size in zip(places, sizes)]
            del rows
            release(self._source.checkpoint, piece)

    def _write(
        self, output: Output, piece: Piece, rows: Rows, importance: np.ndarray | None, file: int, places: Sequence[int]
    ) -> list[int]:
        """Writes the rows at their places; returns the bytes that are written at each."""
        sizes = (
            [tensor_bytes(output.dtype if rows.dtype in NUMPY else rows.dtype, (rows.width,))]
            if output.scheme is None
            else row_bytes(output.dtype, rows.width, output.scheme)
        )

        def write(first: int, end: int) -> None:
            part = rows.take(first, end)
            try:
                parts = (
                    (converted(part, rows.dtype, output.dtype),)
                    if output.scheme is None
                    else encode(part, rows.dtype, output.scheme, output.dtype, importance)
                )
            except FloatingPointError as error:
                info = piece.tensor
                raise CheckpointError(
                    f"{info.file}: tensor {brief(info.name)} holds infinities or NaN, which cannot be quantised, or "
                    f"numbers that its new format lacks ({error}); download it again, or choose another format"
                ) from None
            for each, place, size in zip(parts, places, sizes):
                _put(file, np.ascontiguousarray(each).reshape(-1).view(np.uint8).data, place + first * size)

        self._each(rows, piece.stored_bytes, write)
        return [size * rows.count for size in sizes]

    def _each(self, rows: Rows, nbytes: int, work: Callable[[int, int], None]) -> None:
        """Calls `work` for all rows, some at a time, on the threads. nbytes: of all of them, as they are stored."""
        if not rows.count or not rows.width:
            return
        step = max(1, ROWS_OF // rows.width)
        if step >= rows.count:
            work(0, rows.count)
            self._advance(nbytes)
            return
        ends = [(first, min(first + step, rows.count)) for first in range(0, rows.count, step)]
        done = 0
        for end, _ in zip((end for _, end in ends), self._pool.map(lambda range: work(*range), ends)):
            self._advance(nbytes * end // rows.count - done)
            done = nbytes * end // rows.count


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
