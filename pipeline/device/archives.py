"""Archives of compiled kernels, on devices that have such: what one start has compiled, the next need not compile.

They are files of the user's cache, one for each device, system and version of the shaders. Whatever is wrong with one,
kernels are compiled as if there were none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from pathlib import Path

from ..errors import OnebufError
from ..host import cache_folder, private_folder
from .core import _core

__all__ = ["save", "shaders_key", "use"]

_MONTH = 30 * 24 * 3600  # seconds


def use(device: _core.Device, library: _core.Library, shaders: Path | str) -> None:
    """Makes a library use the archive of its device. `shaders` is the path of the library, or its text. OB_ARCHIVE=0
    turns archives off."""
    if os.environ.get("OB_ARCHIVE") == "0":
        return
    with contextlib.suppress(OSError, OnebufError):
        folder = cache_folder()
        if private_folder(folder) and private_folder(folder / "archives"):
            _forget_old(folder / "archives")
            path = folder / "archives" / f"{shaders_key(device.hardware, shaders)}.binarchive"
            library.use_archive(device, path)
            if path.exists():
                os.utime(path)


def save(library: _core.Library) -> None:
    """Writes what was added to the archive. Where that is not possible, the next start compiles again."""
    with contextlib.suppress(OnebufError):
        library.save_archive()


def shaders_key(hardware: str, shaders: Path | str) -> str:
    """Changes with all that compiled kernels depend on."""
    digest = hashlib.sha256(f"{hardware}\0{platform.version()}\0".encode())
    files = [shaders] if isinstance(shaders, Path) else []
    if files and files[0].is_dir():
        files = sorted(path for path in files[0].rglob("*") if path.is_file())
    for path in files:
        size, changed = path.stat().st_size, path.stat().st_mtime_ns
        digest.update(f"{path}\0{size}\0{changed}\0".encode(errors="surrogateescape"))
    if isinstance(shaders, str):
        digest.update(shaders.encode())
    return digest.hexdigest()[:24]


def _forget_old(folder: Path) -> None:
    """Removes archives that nobody has used for a month."""
    for path in folder.glob("*.binarchive*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _MONTH:
                path.unlink()
