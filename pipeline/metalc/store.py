"""What the compiler keeps: products named by the hash of all that went into them, in one folder that several builds
may use at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from ..host import cache_folder

__all__ = ["build_folder", "hash_of", "prune", "replacing"]

_Path: TypeAlias = str | os.PathLike[str]


def build_folder(build_dir: _Path | None) -> Path:
    """The folder of products: `build_dir`, else one in the user's cache."""
    if build_dir is not None:
        folder = Path(build_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = cache_folder() / "objects"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"onebuf-{os.getuid()}" / "objects"
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def prune(folder: Path) -> None:
    """Keeps the cache small: files that were not used for a month go."""
    oldest = time.time() - 30 * 24 * 3600
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()


def hash_of(*parts: str | bytes) -> str:
    """A name for a sequence of texts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block succeeds."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
