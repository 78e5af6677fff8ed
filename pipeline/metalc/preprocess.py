"""Preprocessing: macros and conditionals are expanded by the C++ compiler, the standard library is not.

Standard headers are replaced by empty files, so that what is left is the shader's own text with line
markers, and words such as `device` and `kernel` are still there to be parsed.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from . import toolchain
from .diagnostics import summary
from .errors import CompileError, at
from .tokens import place

# Standard headers a shader, or a header shared with the host, may name; all come with <metal_stdlib>.
_STANDARD = (
    "simd/simd.h", "stdint.h", "stddef.h", "stdbool.h", "limits.h", "float.h", "cstdint", "cstddef",
    "climits", "cfloat", "type_traits", "TargetConditionals.h", "metal_quadgroup", "metal_numeric",
)  # fmt: skip


def _write_stubs(folder: Path) -> None:
    names = [entry.name for entry in toolchain.stdlib_dir().iterdir() if entry.is_file()]
    for name in (*names, *_STANDARD):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#pragma once\n")


class Preprocessor:
    """Expands shaders; owns the folder of empty standard headers, so use it as a context manager."""

    def __init__(self, include=(), defines=()):
        self._stubs = tempfile.TemporaryDirectory(prefix="metalc-")
        _write_stubs(Path(self._stubs.name))
        self._command = [
            *toolchain.compiler(), "-E", "-x", "c++", "-std=c++17", "-nostdinc", "-nostdinc++", "-w",
            *toolchain.DEFINES, *(f"-D{define}" for define in defines),
            "-I", self._stubs.name, *(f"-I{os.fspath(folder)}" for folder in include),
        ]  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stubs.cleanup()

    def run(self, file) -> str:
        """The text of a shader with macros expanded and line markers kept."""
        result = subprocess.run([*self._command, os.fspath(file)], capture_output=True)
        errors = result.stderr.decode(errors="replace")
        if result.returncode:
            raise CompileError(f"{summary(errors, self._stubs.name)}\n{errors}")
        try:
            text = result.stdout.decode()
        except UnicodeDecodeError as error:
            name, line = place(result.stdout[: error.start].decode(), os.fspath(file))
            raise at(name, line, "the text is not UTF-8; save the file as UTF-8") from None
        return text.replace(self._stubs.name, "")
