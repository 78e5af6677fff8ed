"""The folders in which compiled objects are kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..host import cache_folder, private_folder

__all__ = ["build_folder", "prune"]

_MONTH = 30 * 24 * 3600  # seconds


@contextlib.contextmanager
def build_folder(named: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder `named`; without one, a folder of the user's cache, or one under the temporary folder, if no other
    user can write there; else a new folder, which goes at the end."""
    if named is not None:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    cache, fallback = cache_folder(), Path(tempfile.gettempdir()) / f"onebuf-objects-{os.geteuid()}"
    if private_folder(cache) and private_folder(cache / "objects"):
        yield cache / "objects"
    elif private_folder(fallback):
        yield fallback
    else:
        with tempfile.TemporaryDirectory(prefix="onebuf-objects-") as name:
            yield Path(name)


def prune(folder: Path) -> None:
    """Keeps a cache small: files that were not used for a month go."""
    oldest = time.time() - _MONTH
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()
