"""Where the files are that the package brings along: beside the code when installed, in the source
tree when the package is imported from a checkout.
"""

from pathlib import Path

from .errors import OnebufError

_PACKAGE = Path(__file__).resolve().parent
_TREE = _PACKAGE.parent


def shader_library() -> Path:
    """The compiled shaders: what newLibraryWithURL takes."""
    return _first("compiled shaders", _PACKAGE / "onebuf.metallib")


def shader_sources() -> Path:
    """The folder of the .metal files and args.h."""
    return _first("shader sources", _PACKAGE / "shaders", _TREE / "shaders")


def metal_stdlib() -> Path:
    """The folder that makes `#include <metal_stdlib>` work in C++."""
    return _first(
        "metal_stdlib", _PACKAGE / "include" / "metal_stdlib", _TREE / "shaders" / "metal_stdlib"
    )


def metallib_header_dir() -> Path:
    """The folder of metallib.h."""
    header = _first(
        "metallib.h",
        _PACKAGE / "include" / "metallib.h",
        _TREE / "objc" / "metal" / "metallib.h",
    )
    return header.parent


def data() -> Path:
    """The folder of the built-in model."""
    return _first("package data", _PACKAGE / "data")


def _first(what: str, *paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    if (_TREE / "setup.py").exists():
        raise OnebufError(f"no {what} at {paths[0]}: run make build")
    raise OnebufError(f"no {what} at {paths[0]}: reinstall onebuf")
