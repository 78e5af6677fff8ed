"""Standard input, output and error, made safe for a program that may run for hours without anybody watching."""

from __future__ import annotations

import fcntl
import io
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["flush_output", "open_streams", "unfailing"]


def open_streams() -> None:
    """Makes standard output and error take any text, whatever the caller did with them.

    A caller may have closed a descriptor, put a full disk behind it, or let a program empty the file behind it while
    it grows. Messages that cannot be written are dropped, because they must not end the work that they speak of.
    """
    _fill_descriptors()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # None where the caller closed the descriptor
    messages = sys.stderr or open(os.devnull, "w")
    is_standard = messages is sys.__stderr__  # else it is somebody's own
    sys.stderr = unfailing(messages) if is_standard else messages
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a text may hold what the terminal's encoding lacks
    for descriptor in (1, 2):
        _append(descriptor)


def flush_output() -> None:
    """Drops what standard output cannot take any more, so that the interpreter does not complain of it at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def unfailing(stream: TextIO) -> TextIO:
    """A text stream to the file of `stream`, of which each line goes out at once and no failure is reported."""
    try:
        raw = _Unfailing(stream.fileno(), "w", closefd=False)
    except OSError:  # no file is behind it
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, errors="replace", line_buffering=True)


class _Unfailing(io.FileIO):
    """A file that drops what it cannot write."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            super().write(data)
        except OSError:
            pass
        return memoryview(data).nbytes


def _fill_descriptors() -> None:
    """Opens the null device for standard descriptors that are closed: the next file would get their numbers, and
    whoever writes a message to number 2 would write it into that file."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _append(descriptor: int) -> None:
    """Lets writes go to the file's end, wherever that is: without it, a log that was emptied by a program that rotates
    logs would begin with as many NUL bytes as it had bytes before."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
    except OSError:
        pass
