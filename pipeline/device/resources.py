"""The shaders that the package brings along: beside the code when installed, in the source tree when
the package is imported from a checkout.
"""

import re
import sys
from pathlib import Path

from ..errors import OnebufError

_PACKAGE = Path(__file__).resolve().parents[1]
_TREE = _PACKAGE.parent


def shader_library() -> Path | None:
    """The compiled shaders, or None on a Mac where they were installed without Metal's offline
    compiler; shader_text() is then compiled when a device is opened."""
    library = _PACKAGE / "onebuf.metallib"
    if library.exists():
        return library
    if sys.platform == "darwin":
        return None
    raise OnebufError(f"{library}: no compiled shaders there: {remedy()}")


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
