"""Strict MSL: what Apple's Metal compiler refuses though C++ accepts it, found without that compiler.

    for diagnostic in strict.check(["add.metal"]):
        print(diagnostic)

A shader is lowered to C++ for OpenCL, which has Metal's address spaces, and read by Clang's library
(libclang, from PyPI; nothing else of the package needs it) against the declarations of
pipeline/include/metal_strict. Clang's own errors, with those that Metal does not share left out, and the rules of
words.py, kernels.py and tree.py make the diagnostics.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ..metalc.errors import CompileError
from .diagnostic import Diagnostic
from .engine import INSTALL, Unavailable, available

__all__ = ["INSTALL", "CompileError", "Diagnostic", "Unavailable", "available", "check"]


def check(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    include: Sequence[str | os.PathLike[str]] = (),
    defines: Sequence[str] = (),
    *,
    explicit_indices: bool = True,
) -> list[Diagnostic]:
    """Checks .metal files.

    Args:
        files: paths of .metal files.
        include: folders for #include "...".
        defines: macros, each NAME or NAME=VALUE.
        explicit_indices: refuse buffers without an index. Apple's compiler numbers them itself, and other people's
            shaders rely on that.

    Returns:
        One diagnostic per mistake, by file and line; a mistake in a header once for each way it shows.

    Raises:
        Unavailable: libclang is not installed.
        CompileError: a file cannot be preprocessed.
    """
    given = [files] if isinstance(files, (str, os.PathLike)) else files
    if not available():
        raise Unavailable(INSTALL)
    from .checking import check_file  # needs libclang, an optional package

    found = {
        diagnostic for file in given for diagnostic in check_file(os.fspath(file), include, defines, explicit_indices)
    }
    return sorted(found)
