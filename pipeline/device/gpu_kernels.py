"""Kernels of a GPU that are compiled ahead, side by side: NVRTC compiles one at a time in a process.

A GPU's library compiles a kernel when a pipeline state is made of it, unless its machine code is in the library's
folder or in the cache. A chain needs dozens of kernels, so it has all of them compiled first.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..host import cache_folder, cores

__all__ = ["compile_ahead"]

_TABLE = "kernels.json"


def compile_ahead(library: Path, architecture: str, names: Iterable[str]) -> int:
    """Compiles those of the kernels of `library` whose machine code is nowhere yet, and puts it into the cache, where
    the library finds it. Returns how many they are.

    What cannot be compiled here is left to the library, which says why.
    """
    folder = library / "cuda"
    try:
        places = json.loads((folder / _TABLE).read_text())
    except (OSError, ValueError):
        return 0
    wanted = {
        Path(places[name][0]).stem + f"-{places[name][1]}.cubin": places[name] for name in names if name in places
    }
    missing = {name: place for name, place in wanted.items() if not (folder / architecture / name).exists()}
    if not missing:
        return 0
    from ..metalc import nvrtc  # only where something is missing

    if nvrtc.find() is None:
        return 0
    major, _, minor = nvrtc.version().partition(".")
    cache = cache_folder() / "cuda" / f"{architecture}-{int(major) * 1000 + int(minor) * 10}"
    missing = {name: place for name, place in missing.items() if not (cache / name).exists()}
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return 0

    def compile_one(name: str) -> None:
        unit, number = missing[name]
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            product = Path(scratch) / name
            nvrtc.compile_apart(folder / unit, number, architecture, product)
            product.replace(cache / name)

    with ThreadPoolExecutor(min(cores(), len(missing) or 1)) as pool:
        for job in [pool.submit(compile_one, name) for name in missing]:
            job.exception()  # the library compiles it again and says why
    return len(missing)
