"""Preprocessing: macros and conditionals are expanded by the C++ compiler, the standard library is not.

Standard headers are replaced by empty files, so that what is left is the shader's own text with line
markers, and words such as `device` and `kernel` are still there to be parsed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import toolchain
from .diagnostics import summary
from .errors import CompileError, at
from .tokens import place

__all__ = ["Preprocessor"]

# Standard headers a shader, or a header shared with the host, may name; all come with <metal_stdlib>.
_STANDARD = (
    "simd/simd.h",
    "stdint.h",
    "stddef.h",
    "stdbool.h",
    "limits.h",
    "float.h",
    "cstdint",
    "cstddef",
    "climits",
    "cfloat",
    "type_traits",
    "TargetConditionals.h",
    "stdalign.h",
    "math.h",
    "cmath",
    "simd/types.h",
    "simd/vector_types.h",
    "simd/matrix_types.h",
)


# Headers of the language that need no text of their own here.
_EMPTY = (
    "metal_quadgroup",
    "metal_numeric",
    "metal_numerics",
    "metal_assert",
    "metal_uniform",
    "metal_graphics",
    "metal_packed_vector",
    "metal_vector",
    "metal_extended_vector",
    "metal_scalar",
    "metal_utility",
    "metal_function_constant",
    "metal_visible_function_table",
)

# Headers of parts that are not supported, with what to do instead.
_UNSUPPORTED = {
    "metal_tensor": "tensors are not supported; use device pointers or simdgroup_matrix",
    "metal_cooperative_tensor": "tensors are not supported; use device pointers or simdgroup_matrix",
    "MetalPerformancePrimitives/MetalPerformancePrimitives.h": (
        "tensor operations are not supported; use simdgroup_matrix"
    ),
    "metal_raytracing": "ray tracing is not supported; traverse a structure in device buffers",
    "metal_mesh": "mesh shaders are not supported; only compute kernels run",
    "metal_imageblocks": "imageblocks are not supported; use threadgroup memory",
    "metal_command_buffer": "indirect command buffers are not supported; encode commands on the host",
}


def _write_stubs(folder: Path, isa: str) -> None:
    names = [entry.name for entry in toolchain.stdlib_dir().iterdir() if entry.is_file()]
    if isa in (toolchain.CHECKER, toolchain.CUDA):  # threads stand alone: no header for a processor's own vectors
        names = [name for name in names if not name.startswith("metal_lanes")]
    texts = dict.fromkeys((*names, *_STANDARD, *_EMPTY), "#pragma once\n")
    texts |= {name: f"#error {message}\n" for name, message in _UNSUPPORTED.items()}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        # GCC takes empty files of one time and size for one file under `#pragma once`: where the clock moved on between
        # them, the markers in its output would differ, and with them the keys of what is compiled.
        os.utime(path, (0, 0))


class Preprocessor:
    """Expands shaders; owns the folder of empty standard headers, so use it as a context manager."""

    def __init__(
        self, include: Iterable[str | os.PathLike[str]] = (), defines: Iterable[str] = (), isa: str = ""
    ) -> None:
        self._stubs = tempfile.TemporaryDirectory(prefix="metalc-")
        _write_stubs(Path(self._stubs.name), isa)
        self._command = [
            *toolchain.compiler(),
            "-E",
            "-x",
            "c++",
            "-std=c++17",
            "-nostdinc",
            "-nostdinc++",
            "-w",
            *toolchain.defines(isa),
            *(f"-D{define}" for define in defines),
            "-I",
            self._stubs.name,
            *(f"-I{os.fspath(folder)}" for folder in include),
        ]

    def __enter__(self) -> Preprocessor:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stubs.cleanup()

    def run(self, file: str | os.PathLike[str]) -> str:
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
