"""Files mapped into memory, read only, with a line that names one which is cut short while it is in use."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from .. import host
from ..device.core import _core
from ..errors import CheckpointError

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["FileMap", "map_file"]


class FileMap(mmap.mmap):
    """A map that is watched (objc/core/OBFileMaps.h) as long as it lives."""

    _watch: _core.FileWatch


def map_file(file: Path, stream: BinaryIO, size: int) -> FileMap:
    """The first `size` bytes of `stream`, the open `file`. CheckpointError where it has another size by now."""
    try:
        mapping = FileMap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # it is empty by now
        raise CheckpointError(f"{file}: its size changed while it was opened; wait until it is complete") from error
    if len(mapping) != size:
        raise CheckpointError(f"{file}: its size changed while it was opened; wait until it is complete")
    mapping._watch = _core.watch_file(mapping, file, host.exit_code)
    return mapping
