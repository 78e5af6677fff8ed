"""The JSONL file of rows, which has every finished row at every moment.

A row goes to the file when its prompt is finished, whatever the order, in one write of a whole line. So no row that was
finished is lost, however the process ends. The file belongs to one run at a time. When the run ends, its rows are put
in input order.
"""

from __future__ import annotations

import errno
import fcntl
import io
import itertools
import json
import os
import stat
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from ..errors import UsageError
from .resuming import KeptRow, read_rows
from .rows import Row

__all__ = ["RowWriter", "check_unused"]


def check_unused(path: Path, option: str = "--out") -> None:
    """Raises UsageError, for that option, where another run writes rows to `path` now."""
    if not path.is_file():  # not there yet; or a pipe, whose reader would take this for its end
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError:
        return  # opening it for rows will tell
    try:
        _lock(descriptor, path, option)
    finally:
        os.close(descriptor)


class RowWriter:
    """Writes rows to the file `path`, or to any binary `stream`, each by one `write` of a whole line.

    A file is emptied first; with `resume` it keeps the rows of prompts that an earlier run finished, `kept`. It is
    locked until the writer is closed; UsageError where another run has it.
    """

    def __init__(self, path: Path | None = None, stream: BinaryIO | None = None, resume: bool = False) -> None:
        self.kept: list[KeptRow] = []
        if stream is None:
            if path is None:
                raise ValueError("RowWriter: give a path or a stream")
            stream = _open(path)
            if resume:
                stream, self.kept = _keep_rows(path, stream)
            elif _is_file(stream.fileno()):
                os.ftruncate(stream.fileno(), 0)
        else:
            path = None
        self._path = path
        self._name = str(path) if path else "standard output"
        self._stream = stream
        self._indices = array("q", [row.index for row in self.kept])  # of each row in the file
        self._lengths = array("q", [row.length for row in self.kept])

    @property
    def rows(self) -> int:
        """The number of rows in the file."""
        return len(self._indices)

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
            done = f"{self.rows} rows are complete in it"
            raise UsageError(f"{self._name}: cannot be written: {error.strerror or error}; {done}") from error
        self._indices.append(row["index"])
        self._lengths.append(len(line))

    def close(self) -> None:
        """Puts the rows of a file in input order, and closes it. A stream stays open."""
        if self._path is None or self._stream.closed:
            return
        try:
            order = sorted(range(self.rows), key=self._indices.__getitem__)
            if order != list(range(self.rows)):
                _put_in_order(self._path, self._stream, self._lengths, order)
        finally:
            self._stream.close()

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
                _lock(descriptor, path)
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    if _is_file(descriptor):
                        with suppress(OSError):  # what a run left that was killed just at its end
                            _temporary(Path(os.path.realpath(path))).unlink(missing_ok=True)
                    return cast(BinaryIO, open(descriptor, "wb", buffering=0))
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # a run that ended just now has put its own file in this one's place
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _lock(descriptor: int, path: Path, option: str = "--out") -> None:
    """Takes the file for this process; the lock ends with the process, however that ends."""
    if not _is_file(descriptor):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(
                f"{option} {path}: another run writes its rows there; wait until it ends, or give another file"
            ) from None
        # Some network file systems have no locks. Nobody can be refused there.


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _put_in_order(path: Path, stream: BinaryIO, lengths: array[int], order: list[int]) -> None:
    """Puts the lines of a file in `order`. It stays as it is where that is not possible: where other programs wrote to
    it or emptied it, where it has several names or is standard output, too, or where there is no room."""
    try:
        status = os.fstat(stream.fileno())
        shared = status.st_nlink != 1 or any(os.path.samestat(status, os.fstat(standard)) for standard in range(3))
        if shared or not _is_file(stream.fileno()) or not os.path.samestat(status, os.stat(path)):
            return
        if status.st_size == sum(lengths):
            starts = list(itertools.accumulate(lengths, initial=0))
            _replaced(path, stream, [(starts[row], lengths[row]) for row in order]).close()
    except OSError:
        pass


def _keep_rows(path: Path, stream: BinaryIO) -> tuple[BinaryIO, list[KeptRow]]:
    """The file with nothing but the rows of finished prompts, and those rows."""
    try:
        with open(path, "rb") as source:
            rows = read_rows(source, path)
        if sum(row.length for row in rows) != os.fstat(stream.fileno()).st_size:
            stream = _replaced(path, stream, [(row.start, row.length) for row in rows])
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
            _lock(descriptor, path)
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
