"""NVRTC, CUDA's compiler as a library: from a unit of CUDA C++ to a cubin for one architecture.

It is found in NVIDIA's wheels (the extra `cuda`), else among the system's libraries. It compiles one program at a time
in a process, so kernels are compiled side by side in processes of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path

from .errors import CompileError

__all__ = ["FLAGS", "check_arch", "compile_apart", "compile_unit", "find", "version"]

# No -use_fast_math: inf, NaN and subnormals are relied on.
FLAGS = ("--std=c++17", "-default-device", "--disable-warnings")
MAJORS = (13, 12)  # of libnvrtc.so.N

_PACKAGE = Path(__file__).resolve().parents[2]
# Where nothing but this package and Python's own is found.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pipeline.metalc.nvrtc import main; sys.exit(main(*sys.argv[2:]))"
)
_ARCH = re.compile(r"(sm|compute)_\d+[af]?")


def check_arch(arch: str) -> None:
    """Raises CompileError for what is no name of an architecture."""
    if not _ARCH.fullmatch(arch):
        raise CompileError(f"metalc: unknown GPU architecture {arch!r}; name one such as sm_80 or sm_90a")


def _candidates() -> Iterator[str]:
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*"), reverse=True):
            if path.name.removeprefix("libnvrtc.so.").isdigit():
                yield str(path)
    for major in MAJORS:
        yield f"libnvrtc.so.{major}"
    for major in MAJORS:
        yield f"/usr/local/cuda/lib64/libnvrtc.so.{major}"


@functools.cache
def find() -> ctypes.CDLL | None:
    """The library, or None where it is not installed."""
    for name in _candidates():
        with contextlib.suppress(OSError):
            return _open(name)
    return None


def _open(name: str) -> ctypes.CDLL:
    library = ctypes.CDLL(name)
    library.nvrtcGetErrorString.restype = c_char_p
    library.nvrtcCreateProgram.argtypes = [POINTER(c_void_p), c_char_p, c_char_p, c_int, c_void_p, c_void_p]
    library.nvrtcCompileProgram.argtypes = [c_void_p, c_int, POINTER(c_char_p)]
    library.nvrtcDestroyProgram.argtypes = [POINTER(c_void_p)]
    for output in ("ProgramLog", "CUBIN", "PTX"):
        getattr(library, f"nvrtcGet{output}Size").argtypes = [c_void_p, POINTER(c_size_t)]
        getattr(library, f"nvrtcGet{output}").argtypes = [c_void_p, c_char_p]
    return library


def _library() -> ctypes.CDLL:
    library = find()
    if library is None:
        raise CompileError("metalc: NVRTC is not installed; install it (pip install nvidia-cuda-nvrtc)")
    return library


def version() -> str:
    """NVRTC's version, such as 13.0; empty where it is not installed."""
    library = find()
    if library is None:
        return ""
    major, minor = c_int(), c_int()
    library.nvrtcVersion(byref(major), byref(minor))
    return f"{major.value}.{minor.value}"


def compile_unit(
    text: str, name: str, arch: str, number: int | None = None, library: ctypes.CDLL | None = None
) -> bytes:
    """Compiles kernel `number` of a unit, or all of them: to a cubin for sm_N, to PTX for compute_N.

    Raises:
        CompileError: NVRTC refuses the text, or is not installed.
    """
    check_arch(arch)
    library, program = library or _library(), c_void_p()
    flags = [*FLAGS, f"--gpu-architecture={arch}", *(() if number is None else (f"-DMETALLIB_KERNEL={number}",))]
    _check(library, library.nvrtcCreateProgram(byref(program), text.encode(), name.encode(), 0, None, None), name)
    try:
        options = (c_char_p * len(flags))(*(flag.encode() for flag in flags))
        status = library.nvrtcCompileProgram(program, len(flags), options)
        if status:
            log = _output(library, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            first = next((line for line in log.splitlines() if "error" in line), "")
            raise CompileError(f"{_place(first) or f'{name}: NVRTC: {_message(library, status)}'}\n{log}")
        if arch.startswith("compute_"):
            return _output(library, program, "PTX").rstrip(b"\0")
        return _output(library, program, "CUBIN")
    finally:
        library.nvrtcDestroyProgram(byref(program))


def _place(line: str) -> str:
    """NVRTC's `file(12): error: text` as `file:12: text`."""
    return re.sub(r"^(.*)\((\d+)\): (?:catastrophic )?error(?: #[\w-]+)?: ", r"\1:\2: ", line)


def _output(library: ctypes.CDLL, program: c_void_p, kind: str) -> bytes:
    size = c_size_t()
    _check(library, getattr(library, f"nvrtcGet{kind}Size")(program, byref(size)), kind)
    text = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{kind}")(program, text), kind)
    return text.raw


def _message(library: ctypes.CDLL, status: int) -> str:
    return str(library.nvrtcGetErrorString(status).decode())


def _check(library: ctypes.CDLL, status: int, name: str) -> None:
    if status:
        raise CompileError(f"{name}: NVRTC: {_message(library, status)}")


def compile_apart(unit: Path, number: int | None, arch: str, out: Path) -> None:
    """Does compile_unit in a process of its own: several can run at once, and a crash of NVRTC stays there."""
    which = "all" if number is None else str(number)
    command = [sys.executable, "-I", "-c", _START, str(_PACKAGE), _library()._name, str(unit), which, arch, str(out)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode < 0:
        raise CompileError(f"{unit.name}: NVRTC ended by signal {-result.returncode}; kernel: {which}, GPU: {arch}")
    if result.returncode:
        raise CompileError(result.stderr.rstrip("\n"))


def main(library: str, unit: str, which: str, arch: str, out: str) -> int:
    """Compiles a unit, or one kernel of it, to a file."""
    path, number = Path(unit), None if which == "all" else int(which)
    try:
        Path(out).write_bytes(compile_unit(path.read_text(), path.name, arch, number, _open(library)))
    except CompileError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
