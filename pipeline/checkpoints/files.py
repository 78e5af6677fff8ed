"""Opening and reading files of a checkpoint: only regular ones, without waiting, and no more of them than is sensible.

A checkpoint comes from elsewhere. A FIFO or a device in place of a file, or a link to one, would block a reader or fill
its memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

from ..errors import CheckpointError

__all__ = ["MOST_JSON_BYTES", "exists", "open_file", "read_file", "repeated_key"]

MOST_JSON_BYTES = 100_000_000  # as much as safetensors allows for a header

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def repeated_key(pairs: Iterable[tuple[str, object]]) -> str | None:
    """The first key of a JSON object that is there twice, where `json` would keep the last one; None where none is."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def exists(path: Path) -> bool:
    """Whether there is something at `path`; a name that no file can have is none."""
    try:
        return path.exists()
    except OSError:
        return False


def open_file(file: Path) -> FileIO:
    """The regular file `file`, open for reading without a buffer. Raises OSError as `open` does, and CheckpointError
    for what is no regular file; neither a FIFO nor a device is waited for."""
    _check_regular(file, os.stat(file).st_mode)  # first by its name: opening some devices does something
    stream = FileIO(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    try:
        _check_regular(file, os.fstat(stream.fileno()).st_mode)
    except BaseException:
        stream.close()
        raise
    return stream


def _check_regular(file: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    raise CheckpointError(f"{file}: is {kind}, and a file is needed; download it again")


def read_file(file: Path, most: int = MOST_JSON_BYTES) -> bytes:
    """The bytes of a regular file. Raises OSError as `open` does, and CheckpointError for one that is no regular file
    or has more than `most` bytes."""
    with open_file(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= most:
            content = bytearray(stream.read(size + 1))  # a file may grow, and those of /proc have no size
            while len(content) <= most and (part := stream.read(1 << 20)):
                content += part
            if len(content) <= most:
                return bytes(content)
            size = len(content)
    raise CheckpointError(f"{file}: has {size:,} bytes, more than the {most:,} that such a file may have")
