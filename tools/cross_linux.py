"""What makes a wheel for Linux on another kind of processor: Debian's cross compilers.

apt-get install g++-aarch64-linux-gnu gobjc-aarch64-linux-gnu
python tools/make_wheel.py dist --target linux_aarch64
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from pipeline.metalc import CompileError, target

TAGS = ("linux_aarch64",)


def choose(tag: str) -> None:
    """Makes this process compile for the machines of a wheel's tag. Raises CompileError."""
    machine = tag.removeprefix("linux_")
    names = {"CC": f"{machine}-linux-gnu-gcc", "CXX": f"{machine}-linux-gnu-g++"}
    if not all(map(shutil.which, names.values())):
        packages = f"g++-{machine}-linux-gnu gobjc-{machine}-linux-gnu"
        raise CompileError(f"a wheel for {tag} needs cross compilers here: apt-get install {packages}")
    os.environ.update(names)
    target.choose(target.Target("linux", machine))


def python_headers(folder: Path) -> list[str]:
    """A folder below `folder` that stands for the other machine's part of Python's headers, which Debian keeps apart.
    What the limited API reads of it is the same on every 64-bit Linux."""
    here, there = sysconfig.get_config_var("MULTIARCH"), f"{target.target().machine}-linux-gnu"
    version = f"python{sysconfig.get_python_version()}"
    own = Path("/usr/include") / here / version / "pyconfig.h"
    if not own.exists() or (Path("/usr/include") / there / version / "pyconfig.h").exists():
        return []
    made = folder / "headers" / there / version / "pyconfig.h"
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(f'#include "{own}"\n')
    return [str(folder / "headers")]
