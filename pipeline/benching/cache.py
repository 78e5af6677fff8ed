"""The cache folder of the benchmark's models, and files that appear in it complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError
from ..graph.plan import human
from ..host import cache_folder

__all__ = ["complete_folder", "make_room", "models_folder"]

SPARE_BYTES = 64 << 20  # left free on the disk


def models_folder() -> Path:
    """The folder of models in the cache."""
    return cache_folder() / "models"


def make_room(folder: Path, nbytes: int, what: str) -> None:
    """Makes `folder`. UsageError where it cannot be, or where the disk has no room for `nbytes` more."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _unwritable(folder, error) from error
    if free < nbytes + SPARE_BYTES:
        raise UsageError(
            f"{folder}: {what} takes {human(nbytes)}, {human(free)} are free; cut the shape with --layers "
            "and --vocab, or set OB_CACHE to a folder on a larger disk"
        )


@contextlib.contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the body ends well, and is removed otherwise."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    try:
        yield folder
        folder.chmod(0o755)
        try:
            os.rename(folder, target)
        except OSError:
            if not target.is_dir():  # else another process wrote the same meanwhile
                raise
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"{folder}: cannot be written: {error.strerror or error}; set OB_CACHE to a folder that can")
