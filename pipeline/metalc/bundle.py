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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..host import cache_folder, cores
from . import generate, generate_cuda, kernels, toolchain
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
    cuda: str = ""  # CUDA C++, for cuda

    @property
    def cuda_name(self) -> str:
        return f"{Path(self.file).stem}-{_hash(self.cuda)}.cu"


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
    folder = _build_folder(build_dir)
    options = _options(optimize, sanitize, warnings)
    with contextlib.nullcontext(pool) if pool else ThreadPoolExecutor(max(1, jobs or cores())) as pool:
        # The preprocessor's headers and macros are the same for all instruction sets of a processor.
        units: dict[str, list[_Unit]] = {}
        for isa in targets:
            alike = next((other for other in units if toolchain.defines(other) == toolchain.defines(isa)), None)
            units[isa] = units[alike] if alike else _units(pool, names, include, defines, isa)
        pairs = [(unit, isa) for isa in targets for unit in units[isa]]
        pairs.sort(key=lambda pair: len(pair[0].source), reverse=True)  # the longest first: no core is idle at the end
        compile_one = functools.partial(_object, folder, options, done)
        keys = [(unit.key, isa) for unit, isa in pairs]
        objects = dict(zip(keys, pool.map(compile_one, *zip(*pairs))))
        groups = [[objects[unit.key, isa] for unit in units[isa]] for isa in targets]
        link_one = functools.partial(_link, folder, options)
        libraries = list(pool.map(link_one, units.values(), groups, targets))
    if build_dir is None:
        _prune(folder)
    return _publish(Path(out), dict(zip(targets, libraries)), units.get(toolchain.CUDA, []))


def _check_files(files: _Path | Iterable[_Path]) -> list[str]:
    given = [files] if isinstance(files, (str, os.PathLike)) else files
    names = list(dict.fromkeys(os.fspath(file) for file in given))
    if not names:
        raise CompileError("metalc: no .metal files given")
    for name in names:
        if not os.path.isfile(name):
            raise CompileError(f"{name}: no such file; check the path of the shader")
    return names


def _build_folder(build_dir: _Path | None) -> Path:
    if build_dir is not None:
        folder = Path(build_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = cache_folder() / "objects"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"onebuf-{os.getuid()}" / "objects"
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _prune(folder: Path) -> None:
    """Keeps the cache small: files that were not used for a month go."""
    oldest = time.time() - 30 * 24 * 3600
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()


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
    shader = parse(text, file, instantiate=isa != toolchain.CUDA)
    found = kernels.kernels(shader)
    key = _hash(file, text)
    source = generate.translation_unit(shader, found, key, isa)
    return _Unit(file, key, source, tuple(found), generate_cuda.unit(shader, found) if isa == toolchain.CUDA else "")


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
    source = generate.library(functions, isa)
    if isa == toolchain.CUDA:
        source += _cuda_table(units)
    return _product(folder, source, command, [str(o) for o in objects], ".so")


def _cuda_table(units: Sequence[_Unit]) -> str:
    entries = {
        kernel.name: generate_cuda.Entry(generate_cuda.symbol(kernel, number), index, number)
        for index, unit in enumerate(units)
        for number, kernel in enumerate(unit.kernels)
    }
    return generate_cuda.table([unit.cuda_name for unit in units], [entries[name] for name in sorted(entries)])


def _publish(out: Path, libraries: dict[str, Path], units: Sequence[_Unit]) -> Path:
    if out.exists() and not out.is_dir():
        raise CompileError(f"{out}: is a file; a library is a folder, choose another name")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompileError(f"{out}: cannot be made: {error.strerror}") from None
    _publish_cuda(out / toolchain.CUDA, units)  # before the object that names its files
    for isa, library in libraries.items():
        target = out / f"{isa}.so"
        if not target.exists() or not filecmp.cmp(library, target, shallow=False):
            with _replacing(target) as temporary:
                shutil.copyfile(library, temporary)
    for stale in out.glob("*.so"):
        if stale.stem not in libraries:
            stale.unlink()
    return out


def _publish_cuda(out: Path, units: Sequence[_Unit]) -> None:
    """Writes the units of CUDA C++; what belongs to other texts goes."""
    texts = {unit.cuda_name: unit.cuda for unit in units}
    if texts:
        out.mkdir(exist_ok=True)
    for name, text in texts.items():
        if not (out / name).exists():
            with _replacing(out / name) as temporary:
                temporary.write_text(text)
    stems = {Path(name).stem for name in texts}
    for stale in [*out.glob("*.cu"), *out.glob("*/*.cubin")]:
        if stale.stem not in stems and stale.stem.rpartition("-")[0] not in stems:
            stale.unlink()
