"""Shaders compiled for the checker, their kernels, and what the lint says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import metalc, strict
from ..device.core import _core
from ..host import CHECKER
from ..metalc import kernels as parsed_kernels
from ..metalc.parse import parse
from ..metalc.preprocess import Preprocessor
from .constants import ConstantInfo, placeholders

__all__ = ["ArgumentInfo", "Compiled", "KernelInfo", "Shader", "open_checker"]


@dataclass(frozen=True)
class ArgumentInfo:
    """One argument that has an index.

    type              as it is declared
    size, alignment   in bytes, of the values that it points to
    members           names and offsets of a struct's members
    counts            elements of those that are arrays
    pointers          of those that point to memory: whether it may be written, and the size of an element
    """

    name: str
    index: int
    kind: str  # "buffer" or "threadgroup"
    type: str
    access: str  # "read", "read-write" or "threadgroup"
    size: int
    alignment: int
    members: dict[str, int]
    counts: dict[str, int]
    pointers: dict[str, tuple[bool, int]]


@dataclass(frozen=True)
class KernelInfo:
    """One kernel and its place in the file."""

    name: str
    file: str
    line: int
    arguments: list[ArgumentInfo]
    positions: list[str]  # its other arguments, such as thread_position_in_grid
    constants: list[ConstantInfo]  # function constants that it uses
    refused: str = ""  # why it cannot be run


@dataclass
class Shader:
    """One file, compiled into the bundle `folder` with `include` and `defines`. `error` says why it does not compile;
    `lint` is None where it was not linted. `library` is opened on the checker of `schedules`."""

    file: str
    folder: Path
    include: list[str]
    defines: list[str]
    error: str | None = None
    lint: list[strict.Diagnostic] | None = None
    kernels: list[KernelInfo] = field(default_factory=list)
    library: _core.Library | None = None
    schedules: int | None = None


def open_checker(schedules: int = 0) -> _core.Device:
    """The checker device alone, without the package's own shaders."""
    return _core.open_device(CHECKER, schedules=schedules)


class Compiled:
    """Files compiled below a folder, each once for the same folders of headers and the same macros, and the devices
    that run them: one for each number of orders of threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shaders: dict[tuple[str, ...], Shader] = {}
        self._devices: dict[int, _core.Device] = {}

    def shader(self, file: str, include: Sequence[str], defines: Sequence[str]) -> Shader:
        """The file, compiled; the result tells of a mistake in it."""
        key = (file, *(f"-I{each}" for each in include), *(f"-D{each}" for each in defines))
        if key not in self._shaders:
            folder = self._folder / f"{len(self._shaders)}.metallib"
            shader = self._shaders[key] = Shader(file, folder, [*include], [*defines])
            try:
                metalc.build([file], folder, [CHECKER], include, defines=defines, may_be_empty=True)
            except metalc.CompileError as error:
                shader.error = str(error).splitlines()[0]
        return self._shaders[key]

    def device(self, schedules: int) -> _core.Device:
        """The checker that tries so many orders of threads."""
        if schedules not in self._devices:
            self._devices[schedules] = open_checker(schedules)
        return self._devices[schedules]

    @staticmethod
    def lint(shader: Shader) -> None:
        """Fills in what the lint says. strict.Unavailable where libclang is not installed."""
        try:
            # Apple's compiler numbers buffers without an index by itself.
            shader.lint = strict.check([shader.file], shader.include, shader.defines, explicit_indices=False)
        except metalc.CompileError as error:
            shader.error = str(error).splitlines()[0]

    def list(self, shader: Shader, schedules: int) -> None:
        """Opens the compiled library on a device and fills in the kernels, by their place in the file."""
        if shader.schedules == schedules:
            return
        shader.library = library = self.device(schedules).open_library(shader.folder)
        shader.schedules = schedules
        if shader.kernels:
            return
        with Preprocessor(shader.include, shader.defines, CHECKER) as preprocessor:
            refused: list[parsed_kernels.Refused] = []
            found = parsed_kernels.kernels(parse(preprocessor.run(shader.file), shader.file), refused)
        kernels = [_describe(kernel, library) for kernel in found]
        kernels += [KernelInfo(each.name, each.file, each.line, [], [], [], each.message) for each in refused]
        shader.kernels = sorted(kernels, key=lambda each: (each.file != shader.file, each.file, each.line, each.name))


def _describe(parsed: parsed_kernels.Kernel, library: _core.Library) -> KernelInfo:
    constants = [
        ConstantInfo(each.name, each.index, each.type, each.required) for each in library.constants(parsed.name)
    ]
    reflected = library.kernel(parsed.name, placeholders(constants))
    types = {binding.parameter.name: binding.parameter.type_text for binding in parsed.bindings}
    return KernelInfo(
        parsed.name,
        parsed.file,
        parsed.line,
        sorted((_argument(each, types) for each in reflected.arguments), key=lambda each: (each.kind, each.index)),
        [binding.kind for binding in parsed.bindings if binding.index is None],
        constants,
    )


def _argument(reflected: _core.Argument, types: Mapping[str, str]) -> ArgumentInfo:
    kind = "threadgroup" if reflected.threadgroup else "buffer"
    access = "threadgroup" if reflected.threadgroup else "read-write" if reflected.writes else "read"
    return ArgumentInfo(
        reflected.name,
        reflected.index,
        kind,
        " ".join(types.get(reflected.name, "").split()),
        access,
        reflected.size,
        reflected.alignment,
        {name: offset for name, (offset, _) in reflected.members.items()},
        reflected.counts,
        reflected.pointers,
    )
