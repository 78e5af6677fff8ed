"""Files mapped into memory, read only, with a line that names one which is cut short while it is in use."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import host
from ..errors import CheckpointError

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["FileMap", "map_file"]

_CORE = __name__.partition(".")[0] + "._core"


class FileMap(mmap.mmap):
    """A map that is watched (objc/core/OBFileMaps.h) from the first `watch` with the core on, as long as it
    lives."""

    _watch: Any = None

    def watch(self, file: Path) -> None:
        """Watches it, unless it is watched or the core is not loaded: nothing computes with it then, and whoever only
        looks at a checkpoint does not need the core."""
        core = sys.modules.get(_CORE)
        if self._watch is None and core is not None:
            self._watch = core.watch_file(self, file, host.exit_code)


def map_file(file: Path, stream: BinaryIO, size: int) -> FileMap:
    """The first `size` bytes of `stream`, the open `file`. CheckpointError where it has another size by now."""
    try:
        mapping = FileMap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # it is empty by now
        raise CheckpointError(f"{file}: its size changed while it was opened; wait until it is complete") from error
    if len(mapping) != size:
        raise CheckpointError(f"{file}: its size changed while it was opened; wait until it is complete")
    mapping.watch(file)
    return mapping
