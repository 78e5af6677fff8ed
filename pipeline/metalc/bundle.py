"""Building a bundle: one shared object per instruction set, from any number of .metal files.

Every product is named by the hash of all that went into it (preprocessed text, standard library, flags,
compiler), so unchanged inputs are never compiled twice and concurrent builds share one folder safely.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from ..host import cores
from . import cuda, generate, nvrtc, slots, toolchain
from .cache import build_folder, prune
from .diagnostics import summary
from .errors import CompileError
from .store import hash_of, replacing
from .units import Pool, Unit, read_all

__all__ = ["build", "stdlib_hash", "version"]

_Path: TypeAlias = str | os.PathLike[str]


def build(
    files: _Path | Iterable[_Path],
    out: _Path,
    isas: Iterable[str] | None = None,
    include: Sequence[_Path] = (),
    jobs: int | None = None,
    *,
    optimize: str = "3",
    sanitize: Sequence[str] = (),
    defines: Sequence[str] = (),
    build_dir: _Path | None = None,
    warnings: bool = False,
    pool: Pool | None = None,
    done: Callable[[str], None] | None = None,
    archs: Sequence[str] = (),
    ahead: Sequence[str] = ("*",),
    may_be_empty: bool = False,
) -> Path:
    """Compiles .metal files into the bundle `out` and returns its path.

    Args:
        files: the .metal files; all become one library.
        out: folder NAME.metallib, made or brought up to date.
        isas: instruction sets, default `default_isas()`; shared objects of others are removed.
        include: folders for #include "...".
        jobs: compilers run at once, default the cores of this process.
        optimize: level of -O.
        sanitize: sanitizers of the C++ compiler, such as ("address", "undefined").
        defines: macros, each NAME or NAME=VALUE.
        build_dir: where objects are kept, default a folder in the user's cache.
        warnings: print the compiler's warnings.
        pool: what runs the compilers, with an Executor's `map`, in place of `jobs` threads.
        done: called after each object with words that name it.
        archs: GPU architectures that kernels are compiled for ahead of time, where `isas` has cuda.
        ahead: the names of these kernels, patterns as of a shell.
        may_be_empty: whether there may be no kernels, or only such as take what no device here can give them, like
            textures. Such kernels are left out of the bundle, and it is an error where there are no others.

    Raises:
        CompileError: a shader is wrong, or no C++ compiler is there, or, for `archs`, no NVRTC.
    """
    targets = tuple(dict.fromkeys(isas or toolchain.default_isas()))
    for isa in targets:
        toolchain.check_isa(isa)
    for arch in archs:
        nvrtc.check_arch(arch)
    names = _check_files(files)
    options = _options(optimize, sanitize, warnings)
    with build_folder(build_dir) as folder:
        with contextlib.nullcontext(pool) if pool else ThreadPoolExecutor(max(1, jobs or cores())) as pool:
            # The preprocessor's headers and macros are the same for all instruction sets of a processor.
            units: dict[str, list[Unit]] = {}
            for isa in targets:
                alike = next((other for other in units if toolchain.defines(other) == toolchain.defines(isa)), None)
                units[isa] = units[alike] if alike else read_all(pool, names, include, defines, isa, may_be_empty)
            pairs = [(unit, isa) for isa in targets for unit in units[isa]]
            pairs.sort(
                key=lambda pair: len(pair[0].source), reverse=True
            )  # the longest first: no core is idle at the end
            compile_one = functools.partial(_object, folder, options, done)
            keys = [(unit.key, isa) for unit, isa in pairs]
            objects = dict(zip(keys, pool.map(compile_one, *zip(*pairs))))
            groups = [[objects[unit.key, isa] for unit in units[isa]] for isa in targets]
            link_one = functools.partial(_link, folder, options)
            libraries = list(pool.map(link_one, units.values(), groups, targets))
            gpu = units.get(toolchain.CUDA, [])
            cubins = cuda.cubins(folder, pool, gpu, archs, ahead, done)
        if build_dir is None:
            prune(folder)
        return _publish(Path(out), dict(zip(targets, libraries)), gpu, cubins)


def _check_files(files: _Path | Iterable[_Path]) -> list[str]:
    given = [files] if isinstance(files, (str, os.PathLike)) else files
    names = list(dict.fromkeys(os.fspath(file) for file in given))
    if not names:
        raise CompileError("metalc: no .metal files given")
    for name in names:
        if not os.path.isfile(name):
            raise CompileError(f"{name}: no such file; check the path of the shader")
    return names


def _options(optimize: str, sanitize: Sequence[str], warnings: bool) -> tuple[str, ...]:
    options = [f"-O{optimize}", *(("-Wall", "-Wextra", "-Wno-unknown-pragmas") if warnings else ("-w",))]
    if sanitize:
        options += [f"-fsanitize={','.join(sanitize)}", "-fno-sanitize-recover=undefined", "-g"]
    return tuple(options)


def stdlib_hash() -> str:
    """The hash of the headers that every shader is compiled with."""
    folders = toolchain.headers(toolchain.CHECKER)
    headers = [entry for folder in folders for entry in folder.iterdir() if entry.is_file()]
    return _hash_files([*headers, *toolchain.abi_dir().glob("metallib*.h")])


def version() -> str:
    """A text that changes with all that a shader's product depends on, the C++ compiler apart."""
    own = (*Path(__file__).parent.glob("*.py"), *toolchain.cuda_dir().iterdir())
    return f"{toolchain.VERSION} {hash_of(_hash_files(own), stdlib_hash())}"


def _hash_files(paths: Iterable[Path]) -> str:
    return hash_of(*(part for path in sorted(paths) for part in (path.name, path.read_bytes())))


def _run(command: Sequence[str]) -> str:
    """Runs the compiler; returns its warnings."""
    result = subprocess.run(command, capture_output=True)
    text = result.stderr.decode(errors="replace")
    if result.returncode:
        raise CompileError(f"{summary(text, str(toolchain.stdlib_dir().parent), str(toolchain.abi_dir()))}\n{text}")
    return text


def _command(options: Iterable[str], isa: str, flags: Iterable[str]) -> list[str]:
    return [
        *toolchain.compiler(),
        *toolchain.FLAGS,
        *toolchain.defines(isa),
        *options,
        *flags,
        *(f"-I{folder}" for folder in toolchain.headers(isa)),
        f"-I{toolchain.abi_dir()}",
        f"-fdebug-prefix-map={os.getcwd()}=.",
    ]


def _product(folder: Path, source: str, command: list[str], inputs: Sequence[str], suffix: str) -> Path:
    """Compiles C++ text to folder/KEY.suffix unless it is there already."""
    # The key has the content of the include folders, and neither their paths nor the folder that this runs in.
    flags = [word for word in command if not word.startswith(("-I", "-fdebug-prefix-map"))]
    key = hash_of(toolchain.VERSION, toolchain.compiler_version(), stdlib_hash(), source, *flags, *inputs)
    product = folder / (key + suffix)
    if product.exists():
        os.utime(product)
        return product
    with replacing(product) as temporary, tempfile.TemporaryDirectory(dir=folder) as scratch:
        cpp = Path(scratch) / "shader.cpp"
        cpp.write_text(source)
        warnings = _run([*command, "-o", str(temporary), str(cpp), *inputs])
    if warnings:
        print(warnings, end="", file=sys.stderr)
    return product


def _object(folder: Path, options: Iterable[str], done: Callable[[str], None] | None, unit: Unit, isa: str) -> Path:
    product = _product(folder, unit.source, [*_command(options, isa, toolchain.isa_flags(isa)), "-c"], (), ".o")
    if done:
        done(f"{unit.file} for {isa}")
    return product


def _link(folder: Path, options: Iterable[str], units: Sequence[Unit], objects: Sequence[Path], isa: str) -> Path:
    functions = [(k.name, f"{unit.key}_{n}") for unit in units for n, k in enumerate(unit.kernels)]
    # The checker answers the calls of its instrumented code itself: nothing of a sanitizer is linked.
    flags = toolchain.link_flags(isa)
    command = [*_command(options, isa, flags), "-shared"]
    encoded = [f"{unit.key}_{n}" for unit in units for n, k in enumerate(unit.kernels) if slots.any_of(k)]
    source = generate.library(functions, isa) + slots.library(encoded)
    if isa == toolchain.CUDA:
        source += cuda.table(units)
    return _product(folder, source, command, [str(o) for o in objects], ".so")


def _publish(out: Path, libraries: dict[str, Path], gpu: Sequence[Unit], cubins: dict[Path, Path]) -> Path:
    if out.exists() and not out.is_dir():
        raise CompileError(f"{out}: is a file; a library is a folder, choose another name")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompileError(f"{out}: cannot be made: {error.strerror}") from None
    cuda.publish(out / toolchain.CUDA, gpu, cubins)  # before the object that names its files
    for isa, library in libraries.items():
        target = out / f"{isa}.so"
        if not target.exists() or not filecmp.cmp(library, target, shallow=False):
            with replacing(target) as temporary:
                shutil.copyfile(library, temporary)
    for stale in out.glob("*.so"):
        if stale.stem not in libraries:
            stale.unlink()
    return out
