"""The shaders that the package brings along: beside the code when installed, in the source tree when
the package is imported from a checkout.
"""

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from ..errors import DeviceError, OnebufError
from ..host import CHECKER, CUDA, GENERIC

_PACKAGE = Path(__file__).resolve().parents[1]
_TREE = _PACKAGE.parent
OLDEST_MACOS = 14
_SHADERS_ALONE = ("baseline", GENERIC, CHECKER, CUDA)  # the rest have native kernels too


def shader_library(isa: str = "") -> Path | None:
    """The compiled shaders, or None on a Mac where they were installed without Metal's offline
    compiler; shader_text() is then compiled when a device is opened. A Mac has two libraries: Apple's, and one for the
    devices of this package, which is meant where `isa` says an instruction set.

    In a source tree they are there for one instruction set, the processor's best, until another is asked for: `isa`,
    such as "avx2" or "checker", is then compiled, which takes a minute and is said on standard error.
    """
    mac = sys.platform == "darwin"
    library = _PACKAGE / ("onebuf-host.metallib" if mac and isa else "onebuf.metallib")
    if library.exists() or mac and isa and (_TREE / "tools" / "builder.py").exists():
        if isa and not library.is_file() and not _has(library, isa):
            _add(library, isa)
        return library
    if mac:
        return None
    raise OnebufError(f"{library}: no compiled shaders there: {remedy()}")


def _has(library: Path, isa: str) -> bool:
    alone = isa in _SHADERS_ALONE or sys.platform == "darwin"
    return (library / ("" if alone else "native") / f"{isa}.so").exists()


def _add(library: Path, isa: str) -> None:
    """Compiles what is missing; the device takes the next best where OB_ISAS or a wheel's builder left it out."""
    builder, chosen = _TREE / "tools" / "builder.py", os.environ.get("OB_ISAS")
    if chosen or not builder.exists():
        if isa in (CHECKER, CUDA):
            cure = f"add {isa} to OB_ISAS, which is {chosen!r}, or unset it" if chosen else remedy()
            raise OnebufError(f"{library}: not compiled for {'the checker' if isa == CHECKER else isa}: {cure}")
        return
    command = [sys.executable, str(builder), isa]
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.__stderr__).returncode:
        raise OnebufError(f"{library}: what {isa} needs did not build, as said above: run make build")


def check_system() -> None:
    """Raises DeviceError on a macOS that is too old: its Metal has no bfloat, which a compiler would say in pages."""
    release = platform.mac_ver()[0]
    if sys.platform == "darwin" and int(release.partition(".")[0] or 0) < OLDEST_MACOS:
        raise DeviceError(f"macOS {release}: its Metal has no bfloat; update to macOS {OLDEST_MACOS} or newer")


def name_gpu_compiler() -> None:
    """Names the NVRTC of NVIDIA's wheels in OB_NVRTC, where they are installed and nothing else is named: the system
    does not look for libraries there."""
    spec = None if "OB_NVRTC" in os.environ else importlib.util.find_spec("nvidia")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    found = sorted(path for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*[0-9]"))
    if found:
        os.environ["OB_NVRTC"] = str(found[-1])


def shader_text() -> str:
    """All shaders as one text that names no file of its own."""
    folder = next(filter(Path.is_dir, (_PACKAGE / "shaders", _TREE / "shaders")), None)
    if folder is None:
        raise OnebufError(f"{_PACKAGE / 'shaders'}: no shader sources there: {remedy()}")
    return "\n".join(map(_with_headers, sorted(folder.glob("*.metal"))))


def _with_headers(path: Path) -> str:
    """The text of a shader with #include "..." replaced by the file; include guards keep it once."""
    include = re.compile(r'^#include "([\w./]+)"', re.MULTILINE)
    return include.sub(lambda found: _with_headers(path.parent / found[1]), path.read_text())


def remedy() -> str:
    """How to get what was not built."""
    in_tree = (_TREE / "setup.py").exists()
    return "run make build" if in_tree else "reinstall with pip install --force-reinstall onebuf"
