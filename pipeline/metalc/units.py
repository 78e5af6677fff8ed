"""Units: each .metal file as C++, with what was found in it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import generate, generate_cuda, toolchain
from .errors import CompileError
from .kernels import Kernel, Refused, duplicate, kernels
from .parse import parse
from .preprocess import Preprocessor
from .store import hash_of

__all__ = ["Pool", "Unit", "read", "read_all"]


class Pool(Protocol):
    """Runs functions side by side, as an Executor does."""

    def map(self, job: Callable[..., Any], /, *iterables: Iterable[Any]) -> Iterator[Any]: ...


@dataclass(frozen=True, slots=True)
class Unit:
    """One .metal file."""

    file: str
    key: str
    source: str  # C++
    kernels: tuple[Kernel, ...]
    refused: tuple[Refused, ...]
    cuda: str  # CUDA C++; empty but for cuda

    @property
    def cuda_name(self) -> str:
        return f"{Path(self.file).stem}-{hash_of(self.cuda)}.cu"


def read_all(
    pool: Pool,
    files: Sequence[str],
    include: Sequence[str | os.PathLike[str]],
    defines: Sequence[str],
    isa: str,
    may_be_empty: bool = False,
) -> list[Unit]:
    """The units of all files; no two kernels have one name. `may_be_empty`: there may be none that can be run."""
    with Preprocessor(include, defines, isa) as preprocessor:
        units = list(pool.map(functools.partial(read, preprocessor, isa), files))
    _check_names(units, may_be_empty)
    return units


def read(preprocessor: Preprocessor, isa: str, file: str) -> Unit:
    """The unit of one file."""
    text = preprocessor.run(file)
    shader = parse(text, file, instantiate=isa != toolchain.CUDA, turns=isa == toolchain.CHECKER)
    refused: list[Refused] = []
    found = kernels(shader, refused)
    key = hash_of(file, text)
    source = generate.translation_unit(shader, found, key, isa)
    cuda = generate_cuda.unit(shader, found) if isa == toolchain.CUDA else ""
    return Unit(file, key, source, tuple(found), tuple(refused), cuda)


def _check_names(units: list[Unit], may_be_empty: bool) -> None:
    seen: dict[str, Kernel] = {}
    for unit in units:
        for kernel in unit.kernels:
            if kernel.name in seen:
                raise duplicate(kernel, seen[kernel.name])
            seen[kernel.name] = kernel
    refused = [each for unit in units for each in unit.refused]
    if not seen and refused and not may_be_empty:
        raise CompileError(refused[0].message)
    if not seen and not refused and not may_be_empty:
        raise CompileError(f"{units[0].file}:1: no kernel found; declare one with `kernel void`")
