"""The JSONL file of rows, which has every finished row at every moment.

A row goes to the file when its prompt is finished, whatever the order, in one write of a whole line. So no row that was
finished is lost, however the process ends. The file belongs to one run at a time. When the run ends, its rows are put
in input order.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from array import array
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from ..errors import UsageError
from .rows import Row

__all__ = ["RowWriter", "check_unused"]


def check_unused(path: Path) -> None:
    """Raises UsageError where another run writes rows to `path` now."""
    if not path.is_file():  # not there yet; or a pipe, whose reader would take this for its end
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError:
        return  # opening it for rows will tell
    try:
        _lock(descriptor, path)
    finally:
        os.close(descriptor)


class RowWriter:
    """Writes rows to the file `path`, or to any binary `stream`, each by one `write` of a whole line.

    A file is emptied first. It is locked until the writer is closed; UsageError where another run has it.
    """

    def __init__(self, path: Path | None = None, stream: BinaryIO | None = None) -> None:
        if stream is None:
            if path is None:
                raise ValueError("RowWriter: give a path or a stream")
            stream = _open(path)
        else:
            path = None
        self._path = path
        self._name = str(path) if path else "standard output"
        self._stream = stream
        self._indices, self._lengths = array("q"), array("q")  # of each row that was written

    @property
    def rows(self) -> int:
        """The number of rows that were written."""
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
                _put_in_order(self._path, self._stream.fileno(), self._lengths, order)
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
    """The file at `path` for this run alone, emptied. What is written goes to its end, wherever that is: another
    program may empty the file meanwhile."""
    try:
        while True:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                _lock(descriptor, path)
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    if _is_file(descriptor):
                        os.ftruncate(descriptor, 0)
                    return cast(BinaryIO, open(descriptor, "wb", buffering=0))
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # a run that ended just now has put its own file in this one's place
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _lock(descriptor: int, path: Path) -> None:
    """Takes the file for this process; the lock ends with the process, however that ends."""
    if not _is_file(descriptor):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(
                f"--out {path}: another run writes its rows there; wait until it ends, or give another file"
            ) from None
        # Some network file systems have no locks. Nobody can be refused there.


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _put_in_order(path: Path, descriptor: int, lengths: array[int], order: list[int]) -> None:
    """Puts the lines of a file in `order`, by a new file that takes its place, so that no row is missing at any moment.

    The file stays as it is where that is not possible: where other programs wrote to it or emptied it, where it has
    several names or is standard output, too, or where there is no room.
    """
    try:
        status = os.fstat(descriptor)
        shared = status.st_nlink != 1 or any(os.path.samestat(status, os.fstat(standard)) for standard in range(3))
        if shared or not _is_file(descriptor) or not os.path.samestat(status, os.stat(path)):
            return
        if status.st_size != sum(lengths):
            return
        place = Path(os.path.realpath(path))
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        starts, position = array("q"), 0
        for length in lengths:
            starts.append(position)
            position += length
        temporary.unlink(missing_ok=True)
        try:
            with open(path, "rb", buffering=0) as source, open(temporary, "xb") as target:
                os.fchmod(target.fileno(), stat.S_IMODE(status.st_mode))
                os.fchown(target.fileno(), status.st_uid, status.st_gid)
                for row in order:
                    target.write(os.pread(source.fileno(), lengths[row], starts[row]))
                target.flush()
                os.fsync(target.fileno())
                if os.fstat(target.fileno()).st_size == os.fstat(descriptor).st_size == status.st_size:
                    os.replace(temporary, place)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:
        pass


def _line(row: Row) -> bytes:
    """One line of JSON in UTF-8. Half a surrogate pair, which UTF-8 cannot hold, stays as an escape."""
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(row, allow_nan=False) + "\n").encode("ascii")
