"""The JSONL file of rows, which has every finished row at every moment.

A row goes to the file when its prompt is finished, whatever the order, in one write of a whole line. So no row that was
finished is lost, however the process ends; and every few seconds the rows go to the disk, so that a machine that loses
its power loses no more. The file belongs to one run at a time. When the run ends, its rows are put in input order.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import time
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np

from ..errors import UsageError
from .out_target import is_file, lock, refuse_rows
from .resuming import KeptRows, read_rows
from .rows import Row, row_key

__all__ = ["RowWriter"]

SYNC_SECONDS = 5.0  # after which rows are on the disk


class RowWriter:
    """Writes rows to the file `path`, or to any binary `stream`, each by one `write` of a whole line.

    A file that has something is refused; with `overwrite` it is emptied, and with `resume` it keeps the rows of prompts
    that an earlier run finished, `kept`. It is locked until the writer is closed; UsageError where another run has it.
    in_order: rows are put in input order at the end. scores: they are those of --eval.
    """

    def __init__(
        self,
        path: Path | None = None,
        stream: BinaryIO | None = None,
        resume: bool = False,
        overwrite: bool = False,
        in_order: bool = True,
        scores: bool = False,
    ) -> None:
        self.kept = KeptRows(Path())
        if stream is None:
            if path is None:
                raise ValueError("RowWriter: give a path or a stream")
            stream = _open(path)
            if resume:
                stream, self.kept = _keep_rows(path, stream, scores)
            elif is_file(stream.fileno()):
                _empty(path, stream, overwrite)
        else:
            path = None
        self._path = path
        self._name = str(path) if path else "standard output"
        self._stream = stream
        self._in_order = in_order
        self._synced = time.monotonic()
        self._keys = array("Q", self.kept.keys)  # of each row in the file
        self._lengths = array("I", self.kept.lengths)

    @property
    def rows(self) -> int:
        """The number of rows in the file."""
        return len(self._lengths)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, row: Row) -> None:
        """Writes the row of one prompt."""
        line = _line(row)
        written = 0
        try:
            while written < len(line):
                written += self._stream.write(line[written:])
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._drop_partial(written)
            raise self._failed(error) from error
        self._keys.append(row_key(row))
        self._lengths.append(len(line))
        self._sync()

    def close(self) -> None:
        """Puts the rows of a file in input order, where that is asked for, and closes it. A stream stays open."""
        if self._path is None or self._stream.closed:
            return
        try:
            keys = np.asarray(self._keys)
            if self._in_order and (keys[1:] < keys[:-1]).any():
                order = np.argsort(keys)
                del keys
                self._keys = array("Q")  # a million rows need this memory for the rest
                _put_in_order(self._path, self._stream, np.asarray(self._lengths), order)
            else:
                with suppress(OSError):
                    os.fsync(self._stream.fileno())
        finally:
            self._stream.close()

    def _sync(self) -> None:
        """Has the rows so far written to the disk, now and then: doing so for each one would take most of the time."""
        now = time.monotonic()
        if self._path is not None and now - self._synced >= SYNC_SECONDS:
            self._synced = now
            try:
                if is_file(self._stream.fileno()):
                    os.fsync(self._stream.fileno())
            except OSError as error:  # some disks tell here that they are full
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> UsageError:
        done = f"{self.rows} rows are complete in it"
        return UsageError(f"{self._name}: cannot be written: {error.strerror or error}; {done}")

    def _drop_partial(self, count: int) -> None:
        """Removes the part of a row that fitted, where the stream is a file."""
        try:
            if count:
                os.ftruncate(self._stream.fileno(), self._stream.tell() - count)
        except (OSError, AttributeError):
            pass


def _open(path: Path) -> BinaryIO:
    """The file at `path` for this run alone. What is written goes to its end, wherever that is: another program may
    empty the file meanwhile."""
    try:
        while True:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                lock(descriptor, path)
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    if is_file(descriptor):
                        with suppress(OSError):  # what a run left that was killed just at its end
                            _temporary(Path(os.path.realpath(path))).unlink(missing_ok=True)
                    return cast(BinaryIO, open(descriptor, "wb", buffering=0))
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # a run that ended just now has put its own file in this one's place
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _empty(path: Path, stream: BinaryIO, overwrite: bool) -> None:
    """Empties the file, which may have something only with `overwrite`."""
    try:
        if not overwrite:
            refuse_rows(path, os.fstat(stream.fileno()).st_size)
        os.ftruncate(stream.fileno(), 0)
    except BaseException:
        stream.close()
        raise


def _put_in_order(path: Path, stream: BinaryIO, lengths: np.ndarray, order: np.ndarray) -> None:
    """Puts the lines of a file in `order`. It stays as it is where that is not possible: where other
    programs wrote to it or emptied it, where it has several names or is standard output, too, or where there is no
    room."""
    try:
        status = os.fstat(stream.fileno())
        shared = status.st_nlink != 1 or any(os.path.samestat(status, os.fstat(standard)) for standard in range(3))
        if shared or not is_file(stream.fileno()) or not os.path.samestat(status, os.stat(path)):
            return
        ends = np.cumsum(lengths, dtype=np.int64)
        if status.st_size == ends[-1]:
            lines = ((int(ends[row]) - int(lengths[row]), int(lengths[row])) for row in order)
            _replaced(path, stream, lines).close()
    except OSError:
        pass


def _keep_rows(path: Path, stream: BinaryIO, scores: bool) -> tuple[BinaryIO, KeptRows]:
    """The file with nothing but the rows of finished prompts, and those rows."""
    try:
        with open(path, "rb") as source:
            rows = read_rows(source, path, scores)
        size = sum(rows.lengths)
        if size != os.fstat(stream.fileno()).st_size:
            if not len(rows) or rows.starts[-1] + rows.lengths[-1] == size:  # which takes no room on the disk
                os.ftruncate(stream.fileno(), size)
            else:
                stream = _replaced(path, stream, rows.lines)
        return stream, rows
    except OSError as error:
        stream.close()
        raise UsageError(f"{path}: --resume cannot use it: {error.strerror or error}") from error
    except UsageError:
        stream.close()
        raise


def _replaced(path: Path, stream: BinaryIO, lines: Iterable[tuple[int, int]]) -> BinaryIO:
    """A file of these (start, length) of the one at `path`, which takes its place at once, so that no row is missing at
    any moment. It is locked before it has that name, and the old one is closed after that."""
    status = os.fstat(stream.fileno())
    place = Path(os.path.realpath(path))
    temporary = _temporary(place)
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        target = cast(BinaryIO, open(descriptor, "wb", buffering=0))
        try:
            lock(descriptor, path)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            own = os.fstat(descriptor)
            if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            with open(path, "rb", buffering=0) as source:
                buffered = io.BufferedWriter(cast(io.RawIOBase, target))
                for start, length in lines:
                    buffered.write(os.pread(source.fileno(), length, start))
                buffered.flush()
                buffered.detach()
            os.fsync(descriptor)
            if os.fstat(stream.fileno()).st_size != status.st_size:
                raise OSError(errno.EBUSY, "another program writes to it")
            os.replace(temporary, place)
        except BaseException:
            target.close()
            raise
    finally:
        temporary.unlink(missing_ok=True)
    stream.close()
    return target


def _temporary(place: Path) -> Path:
    """The name of the file that is to take the place of another one; whoever has that one's lock may use it."""
    return place.with_name(f".{place.name}.new")


def _line(row: Row) -> bytes:
    """One line of JSON in UTF-8. Half a surrogate pair, which UTF-8 cannot hold, stays as an escape."""
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(row, allow_nan=False) + "\n").encode("ascii")
