"""Building a bundle: one shared object per instruction set, from any number of .metal files.

Every product is named by the hash of all that went into it (preprocessed text, standard library, flags,
compiler), so unchanged inputs are never compiled twice and concurrent builds share one folder safely.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..host import cores
from . import generate, kernels, toolchain
from .cache import build_folder, prune
from .diagnostics import summary
from .errors import CompileError
from .parse import parse
from .preprocess import Preprocessor

__all__ = ["build", "stdlib_hash", "version"]

_Path: TypeAlias = str | os.PathLike[str]


class _Pool(Protocol):
    """Runs functions side by side, as an Executor does."""

    def map(self, job: Callable[..., Any], /, *iterables: Iterable[Any]) -> Iterator[Any]: ...


@dataclass(frozen=True, slots=True)
class _Unit:
    """One .metal file as C++."""

    file: str
    key: str
    source: str
    kernels: tuple[kernels.Kernel, ...]


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
    pool: _Pool | None = None,
    done: Callable[[str], None] | None = None,
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

    Raises:
        CompileError: a shader is wrong, or no C++ compiler is there.
    """
    targets = tuple(dict.fromkeys(isas or toolchain.default_isas()))
    for isa in targets:
        toolchain.check_isa(isa)
    names = _check_files(files)
    options = _options(optimize, sanitize, warnings)
    with build_folder(build_dir) as folder:
        with contextlib.nullcontext(pool) if pool else ThreadPoolExecutor(max(1, jobs or cores())) as pool:
            libraries = _libraries(folder, options, names, targets, include, defines, pool, done)
        if build_dir is None:
            prune(folder)
        return _publish(Path(out), dict(zip(targets, libraries)))


def _libraries(
    folder: Path,
    options: tuple[str, ...],
    names: Sequence[str],
    targets: Sequence[str],
    include: Sequence[_Path],
    defines: Sequence[str],
    pool: _Pool,
    done: Callable[[str], None] | None,
) -> list[Path]:
    """The shared object of each instruction set, in `folder`."""
    # The preprocessor's headers differ for the checker only.
    units = {isa: _units(pool, names, include, defines, isa) for isa in targets[:1]}
    for isa in targets[1:]:
        alike = next((other for other in units if (other == toolchain.CHECKER) == (isa == toolchain.CHECKER)), None)
        units[isa] = units[alike] if alike else _units(pool, names, include, defines, isa)
    pairs = [(unit, isa) for isa in targets for unit in units[isa]]
    pairs.sort(key=lambda pair: len(pair[0].source), reverse=True)  # the longest first: no core is idle at the end
    compile_one = functools.partial(_object, folder, options, done)
    keys = [(unit.key, isa) for unit, isa in pairs]
    objects = dict(zip(keys, pool.map(compile_one, *zip(*pairs))))
    groups = [[objects[unit.key, isa] for unit in units[isa]] for isa in targets]
    link_one = functools.partial(_link, folder, options)
    return list(pool.map(link_one, units.values(), groups, targets))


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


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


def stdlib_hash() -> str:
    """The hash of the headers that every shader is compiled with."""
    folders = toolchain.headers(toolchain.CHECKER)
    headers = [entry for folder in folders for entry in folder.iterdir() if entry.is_file()]
    return _hash_files([*headers, *toolchain.abi_dir().glob("metallib*.h")])


def version() -> str:
    """A text that changes with all that a shader's product depends on, the C++ compiler apart."""
    return f"{toolchain.VERSION} {_hash(_hash_files(Path(__file__).parent.glob('*.py')), stdlib_hash())}"


def _hash_files(paths: Iterable[Path]) -> str:
    return _hash(*(part for path in sorted(paths) for part in (path.name, path.read_bytes())))


def _units(
    pool: _Pool, files: Sequence[str], include: Sequence[_Path], defines: Sequence[str], isa: str
) -> list[_Unit]:
    with Preprocessor(include, defines, isa) as preprocessor:
        units = list(pool.map(functools.partial(_unit, preprocessor, isa), files))
    _check_names(units)
    return units


def _unit(preprocessor: Preprocessor, isa: str, file: str) -> _Unit:
    text = preprocessor.run(file)
    shader = parse(text, file)
    found = kernels.kernels(shader)
    key = _hash(file, text)
    return _Unit(file, key, generate.translation_unit(shader, found, key, isa == toolchain.CHECKER), tuple(found))


def _check_names(units: list[_Unit]) -> None:
    seen: dict[str, kernels.Kernel] = {}
    for unit in units:
        for kernel in unit.kernels:
            if kernel.name in seen:
                raise kernels.duplicate(kernel, seen[kernel.name])
            seen[kernel.name] = kernel
    if not seen:
        raise CompileError(f"{units[0].file}:1: no kernel found; declare one with `kernel void`")


def _run(command: Sequence[str]) -> str:
    """Runs the compiler; returns its warnings."""
    result = subprocess.run(command, capture_output=True)
    text = result.stderr.decode(errors="replace")
    if result.returncode:
        raise CompileError(f"{summary(text, str(toolchain.stdlib_dir()))}\n{text}")
    return text


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block succeeds."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


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
    key = _hash(toolchain.VERSION, toolchain.compiler_version(), stdlib_hash(), source, *flags, *inputs)
    product = folder / (key + suffix)
    if product.exists():
        os.utime(product)
        return product
    with _replacing(product) as temporary, tempfile.TemporaryDirectory(dir=folder) as scratch:
        cpp = Path(scratch) / "shader.cpp"
        cpp.write_text(source)
        warnings = _run([*command, "-o", str(temporary), str(cpp), *inputs])
    if warnings:
        print(warnings, end="", file=sys.stderr)
    return product


def _object(folder: Path, options: Iterable[str], done: Callable[[str], None] | None, unit: _Unit, isa: str) -> Path:
    product = _product(folder, unit.source, [*_command(options, isa, toolchain.isa_flags(isa)), "-c"], (), ".o")
    if done:
        done(f"{unit.file} for {isa}")
    return product


def _link(folder: Path, options: Iterable[str], units: Sequence[_Unit], objects: Sequence[Path], isa: str) -> Path:
    functions = [(k.name, f"{unit.key}_{n}") for unit in units for n, k in enumerate(unit.kernels)]
    # The checker answers the calls of its instrumented code itself: nothing of a sanitizer is linked.
    flags = ("-Wl,--compress-debug-sections=zlib",) if isa == toolchain.CHECKER else toolchain.isa_flags(isa)
    command = [*_command(options, isa, flags), "-shared"]
    return _product(folder, generate.library(functions, isa), command, [str(o) for o in objects], ".so")


def _publish(out: Path, libraries: dict[str, Path]) -> Path:
    if out.exists() and not out.is_dir():
        raise CompileError(f"{out}: is a file; a library is a folder, choose another name")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompileError(f"{out}: cannot be made: {error.strerror}") from None
    for isa, library in libraries.items():
        target = out / f"{isa}.so"
        if not target.exists() or not filecmp.cmp(library, target, shallow=False):
            with _replacing(target) as temporary:
                shutil.copyfile(library, temporary)
    for stale in out.glob("*.so"):
        if stale.stem not in libraries:
            stale.unlink()
    return out
