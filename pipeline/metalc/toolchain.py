"""The C++ compiler, the instruction sets and the files of the compiler itself.

Environment: CXX names the C++ compiler (default: g++, then clang++, then c++).
"""

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..host import CHECKER, CUDA, GENERIC, SHADER_SETS
from .errors import CompileError
from .target import target

__all__ = [
    "CHECKER",
    "CUDA",
    "FLAGS",
    "ISA_FLAGS",
    "VERSION",
    "check_isa",
    "compiler",
    "compiler_version",
    "default_isas",
    "defines",
    "headers",
    "isa_flags",
    "processor_flags",
    "processor_isas",
    "runnable_isas",
]

VERSION = "1"

ISA_FLAGS: dict[str, tuple[str, ...]] = {
    "baseline": ("-march=x86-64",),
    "avx2": ("-march=x86-64-v3",),
    "avx512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    GENERIC: (),
    # Every access is announced before it happens, indices and alignment are checked, code stays as it was written.
    # DWARF 4: addr2line of binutils 2.40 takes the first file of version 5 for another one.
    CHECKER: (
        "-O1",
        "-gdwarf-4",
        "-fsanitize=thread",
        "-fsanitize=bounds,alignment,integer-divide-by-zero",
        "--param=tsan-instrument-func-entry-exit=0",
        "-fno-optimize-sibling-calls",
        "-fno-inline-functions-called-once",
        "-fno-omit-frame-pointer",
        "-fstack-clash-protection",  # a frame larger than the guard below a stack touches it all the same
    ),
    CUDA: ("-O1",),  # tables, without the functions that nothing calls; NVRTC compiles the shaders
}
# For GCC: code in the order of its source, since lanes that part meet again by their places in it. And no record of
# where variables are, which takes a third of the compiler's time: findings want lines alone.
_FOR_GCC = (
    "-fno-var-tracking",
    "-fno-reorder-blocks",
    "-fno-thread-jumps",
    "-fno-tree-ch",
    "-fno-tree-dominator-opts",
    "-fno-guess-branch-probability",
)

# inf and NaN are relied on and the order of additions is the shader's: no -ffast-math.
FLAGS = (
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fopenmp-simd",
    "-fno-exceptions",
    "-fno-rtti",
    "-Wno-psabi",
    "-fsigned-char",
    "-fno-strict-aliasing",
    "-fmax-errors=20",
    "-fPIC",
    "-fvisibility=hidden",
)

# The macros that Apple's compiler predefines. __METAL_CPU__, __METAL_CHECKER__ or __METAL_CUDA__ says what this is.
_DEFINES = ("-D__METAL__=1", "-D__METAL_MACOS__=1", "-D__METAL_VERSION__=320", "-D__HAVE_BFLOAT__=1")

_PACKAGE = Path(__file__).resolve().parent.parent


def _first(*paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    raise CompileError(f"{paths[0]}: not found; reinstall the package")


def stdlib_dir() -> Path:
    """The folder of <metal_stdlib>."""
    return _first(_PACKAGE / "include" / "metal_stdlib")


def abi_dir() -> Path:
    """The folder of metallib.h, in the source tree or else in the installed package."""
    return _first(_PACKAGE.parent / "objc" / "metal" / "abi" / "metallib.h", _PACKAGE / "include" / "metallib.h").parent


def checker_dir() -> Path:
    """The folder of the headers that take the place of others where kernels are run thread by thread."""
    return _first(_PACKAGE / "include" / "metal_checker")


def cuda_dir() -> Path:
    """The folder of the headers that take the place of others for NVRTC."""
    return _first(_PACKAGE / "include" / "metal_cuda")


def defines(isa: str) -> tuple[str, ...]:
    """The macros that shaders are compiled with."""
    return (*_DEFINES, f"-D__METAL_{isa.upper() if isa in (CHECKER, CUDA) else 'CPU'}__=1")


def headers(isa: str) -> tuple[Path, ...]:
    """The folders of the standard library's headers, in the order of searching. For cuda they are those of the C++
    object, which runs no kernel: its types are the checker's."""
    return (checker_dir(), stdlib_dir()) if isa in (CHECKER, CUDA) else (stdlib_dir(),)


def cuda_headers() -> tuple[Path, ...]:
    """The folders of the headers that NVRTC sees, in the order of searching."""
    return (cuda_dir(), stdlib_dir())


def isa_flags(isa: str) -> tuple[str, ...]:
    """The C++ compiler's flags for an instruction set."""
    in_order = isa == CHECKER and "clang" not in compiler_version()
    return (*ISA_FLAGS[isa], *_FOR_GCC) if in_order else ISA_FLAGS[isa]


def link_flags(isa: str) -> tuple[str, ...]:
    """The C++ compiler's flags where it links the objects of an instruction set."""
    if target().is_mac:  # the code needs nothing of C++'s library, and Zig would build it first
        return (*(isa_flags(isa) if isa != CHECKER else ()), "-nostdlib++")
    # On a Mac the sections of debugging stay in the objects.
    return isa_flags(isa) if isa != CHECKER else ("-Wl,--compress-debug-sections=zlib",)


def processor_isas() -> tuple[str, ...]:
    """The instruction sets of this kind of machine, the one that all of them have first."""
    if target().is_x86:
        return tuple(name for name in SHADER_SETS if name != GENERIC)
    return (GENERIC,)


def processor_flags() -> set[str]:
    """The words that the system describes the processor with; none where it has no /proc/cpuinfo."""
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


def runnable_isas() -> tuple[str, ...]:
    """The instruction sets that this processor has, as far as the system tells."""
    needs = {"avx2": {"avx2", "fma", "bmi2"}, "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}
    flags = processor_flags()
    return tuple(isa for isa in processor_isas() if needs.get(isa, set()) <= flags)


def default_isas() -> tuple[str, ...]:
    """The instruction sets that a library is compiled for on this machine, and the checker."""
    return (*processor_isas(), CHECKER)


def check_isa(isa: str) -> None:
    """Raises CompileError for an instruction set that this kind of machine has not."""
    known = (*default_isas(), CUDA)
    if isa not in known:
        raise CompileError(f"metalc: unknown instruction set {isa!r}; this machine has {', '.join(known)}")


def compiler() -> tuple[str, ...]:
    """The C++ compiler as the first words of a command line."""
    named = os.environ.get("CXX")
    if named:
        try:
            command = tuple(shlex.split(named))
        except ValueError:
            command = ()
        if command and shutil.which(command[0]):
            return command
        raise CompileError(
            f"metalc: C++ compiler not found: CXX={named}; unset CXX or install g++ (apt-get install g++)"
        )
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return (name,)
    raise CompileError(
        "metalc: no C++ compiler found; install one (apt-get install g++; on macOS: xcode-select --install)"
    )


@functools.lru_cache(maxsize=8)
def _version(command: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as folder:  # Zig leaves a file behind
        where = folder if os.path.isabs(command[0]) else None
        result = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=where)
    if result.returncode:
        raise CompileError(f"metalc: {' '.join(command)} --version failed; is CXX a C++ compiler?\n{result.stderr}")
    return result.stdout.splitlines()[0]


def compiler_version() -> str:
    """The first line of the compiler's --version."""
    return _version(compiler())
