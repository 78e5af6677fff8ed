"""Compiles the shaders with Apple's offline compiler, which comes with Xcode."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import objects

XCRUN = ["xcrun", "-sdk", "macosx"]
STANDARD = "-std=metal3.1"  # the first with bfloat


def available() -> bool:
    """Whether the compiler runs; where it does not, shaders are compiled when a device is opened.

    Xcode 26 has a `metal` that only says how to download the compiler, so that finding it is not enough.
    """
    if shutil.which(XCRUN[0]) is None:
        return False
    return subprocess.run([*XCRUN, "metal", "--version"], capture_output=True).returncode == 0


def build(shop: objects.Workshop, sources: list[Path], out: Path, pool: objects.Pool) -> None:
    """Compiles and links all into the library `out`; does nothing where there is no compiler."""
    if not available():
        return

    def compile(source: Path) -> Path:
        part, deps = shop.folder / f"{source.stem}.air", shop.folder / f"{source.stem}.air.d"
        command = [*XCRUN, "metal", STANDARD, "-O2", "-fno-fast-math", "-MMD", "-MF", str(deps), "-c"]
        shop.make(part, [*command, str(source), "-o", str(part)], [source], deps)
        return part

    parts = list(pool.map(compile, sources))
    made = shop.folder / out.name
    shop.make(made, [*XCRUN, "metallib", *map(str, parts), "-o", str(made)], parts)
    if made != out:
        objects.install(made, out)
