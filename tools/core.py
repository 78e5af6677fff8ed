"""Builds the extension pipeline._core: Cython's C over the Objective-C core and the Metal stand-in, which on macOS
stands beside Apple's Metal."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import cross_linux
import cross_mac
import objects
import toolchain

from pipeline.metalc.target import Target, target

LIMITED_API = "0x030B0000"  # Py_LIMITED_API: Python 3.11
NAME = "_core.abi3.so"
# Below objc/, by system: the folders that are left out, because Apple has its own or there is no hardware; and how the
# names of files end that are for other systems.
LEFT_OUT = {"darwin": (("metal/api", "metal/cuda", "foundation"), "Linux"), "linux": ((), "Darwin")}
INCLUDES = ["-Iobjc", "-Ishaders"]


def objc_sources(system: str = "", root: Path = Path("objc")) -> list[Path]:
    """What is compiled for a system, by default the one that is built for."""
    folders, ending = LEFT_OUT.get(system or target().system, LEFT_OUT["linux"])
    found = [path for kind in ("*.m", "*.c") for path in root.rglob(kind) if not path.stem.endswith(ending)]
    return sorted(path for path in found if path.parent.relative_to(root).as_posix() not in folders)


def count() -> int:
    """How many files are compiled."""
    return len(objc_sources()) + 1


@dataclass
class Core:
    """The compilation of the core. `python` is an interpreter that has Cython; it may come later than the compilers."""

    root: Path
    folder: Path
    pool: objects.Pool
    rank: int
    done: Callable[[str], None]
    say: Callable[[str], None]

    def compile_objc(self) -> list[Future]:
        """Starts what needs no Python package. Raises ToolchainError."""
        self._tools = toolchain.find()
        shop = self._shop(self._tools.identity)
        jobs = []
        for source in objc_sources():
            flags = self._tools.objc_flags if source.suffix == ".m" else self._tools.c_flags
            jobs.append(self.pool.submit(self.rank, self._object, shop, source, [*flags, *INCLUDES]))
        return jobs

    def compile_cython(self, python: str) -> Future:
        """Starts what needs Cython. Raises ToolchainError."""
        version = subprocess.run([python, "-m", "cython", "--version"], capture_output=True, text=True)
        if version.returncode:
            raise toolchain.ToolchainError("no Cython: pip install cython")
        shop = self._shop(f"{self._tools.identity}\n{version.stdout}{version.stderr}")
        return self.pool.submit(0, self._cython_then_c, shop, python)  # the longest of the core's: it does not wait

    def link(self, compiled: list[Path]) -> Path:
        out = self.folder / NAME
        command = [*self._tools.compiler, *self._tools.link_flags, *map(str, compiled), "-o", str(out)]
        crossing = target().is_mac and target() != Target.here()
        inputs = [*compiled, *(cross_mac.link_inputs() if crossing else ())]
        self._shop(self._tools.identity).make(out, command + self._tools.libraries, inputs)
        return out

    def _shop(self, identity: str) -> objects.Workshop:
        return objects.Workshop(self.root, self.folder, identity, self.say)

    def _cython_then_c(self, shop: objects.Workshop, python: str) -> Path:
        pyx = sorted(path for ending in ("*.pyx", "*.pxd", "*.pxi") for path in Path("pyx").glob(ending))
        generated = self.folder / "_core.c"
        cython = [python, "-m", "cython", "-3", "-Ipyx", "--module-name", "pipeline._core", "pyx/_core.pyx"]
        shop.make(generated, [*cython, "-o", str(generated)], pyx)
        limited = [f"-DPy_LIMITED_API={LIMITED_API}", "-Wno-unused-parameter"]
        headers = toolchain.python_headers()
        if not target().is_mac and target() != Target.here():
            headers += cross_linux.python_headers(self.root / self.folder)
        limited += [f"-I{folder}" for folder in headers]
        return self._object(shop, generated, [*self._tools.c_flags, *INCLUDES, *limited])

    def _object(self, shop: objects.Workshop, source: Path, flags: list[str]) -> Path:
        name = source.name if source.parent == self.folder else "-".join(source.parts)
        out, deps = self.folder / f"{name}.o", self.folder / f"{name}.d"
        command = [*self._tools.compiler, *flags, "-MMD", "-MF", str(deps), "-c", str(source), "-o", str(out)]
        shop.make(out, command, [source], deps)
        self.done(str(source))
        return out


def build(core: Core, python: str, after: Callable[[], None] = lambda: None) -> Path:
    """Compiles and links; returns the extension. `after` waits for Python's packages and may raise."""
    jobs = core.compile_objc()
    after()
    jobs.append(core.compile_cython(python))
    return core.link([job.result() for job in jobs])
