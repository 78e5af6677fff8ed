"""A kernel run under the checker, with the buffers that the command line states."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..device.core import _core
from ..device.findings import Finding, finding
from ..errors import BuildError, OnebufError, RunError, UsageError
from ..host import CHECKER
from . import constants
from .buffers import BufferOption, storage
from .options import RunOptions
from .shaders import ArgumentInfo, KernelInfo, Shader

__all__ = ["Contents", "RunResult", "find_kernel", "open_checker", "run_kernel"]


@dataclass(frozen=True)
class Contents:
    """A buffer that the kernel may write, after the run."""

    index: int
    name: str
    dtype: str
    values: np.ndarray


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run."""

    kernel: KernelInfo
    options: RunOptions
    completed: bool  # False where a thread had to be stopped
    findings: list[Finding]
    written: list[Contents]

    @property
    def notes(self) -> list[str]:
        """What the run cannot have shown."""
        options = self.options
        full = math.prod(options.threads)
        most = math.prod(map(min, options.grid, options.threads)) if options.by_threads else full
        if 2 * most > full:
            return []
        asked = ",".join(map(str, options.grid))
        return [
            f"--grid {asked} counts threads: no threadgroup has more than {most} of its {full}, so nothing shows what "
            f"the others would do. For {math.prod(options.grid)} whole threadgroups write --threadgroups {asked}"
        ]


def open_checker(schedules: int = 0) -> _core.Device:
    """The checker device alone, without the package's own shaders."""
    return _core.open_device(CHECKER, schedules=schedules)


def find_kernel(shaders: list[Shader], name: str) -> tuple[Shader, KernelInfo]:
    """The one kernel of that name. UsageError where there is none, or more than one."""
    found = [(shader, kernel) for shader in shaders for kernel in shader.kernels if kernel.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"--run {name}: {' and '.join(shader.file for shader, _ in found)} have it; give one of them")
    names = [kernel.name for shader in shaders for kernel in shader.kernels]
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    raise UsageError(f"--run {name}: no such kernel; there {'are' if len(names) > 1 else 'is'} {shown}")


def run_kernel(device: _core.Device, shader: Shader, kernel: KernelInfo, options: RunOptions) -> RunResult:
    """Runs a kernel. UsageError says what is missing or does not fit."""
    values = constants.values(kernel.name, kernel.constants, options.constants)
    _check_bindings(kernel, options)
    buffers = {index: _buffer(device, option) for index, option in options.buffers.items()}
    if shader.library is None:
        raise ValueError(f"{shader.file}: list_kernels was not called")
    dispatch = _core.Dispatch(
        _specialised(shader.library, kernel.name, values),
        [(index, buffer, 0, buffer.nbytes) for index, buffer in buffers.items()],
        label=kernel.name,
        threadgroups=(1, 1, 1) if options.by_threads else options.grid,
        grid=options.grid if options.by_threads else None,
        threads=options.threads,
        threadgroup_memory=options.threadgroup_memory,
    )
    completed = True
    try:
        with _plain_interrupts():
            device.chain([dispatch], "check").run()
    except RunError:
        completed = False
        if not device.findings:
            raise
    written = [
        _contents(argument, options, buffers) for argument in kernel.arguments if argument.access == "read-write"
    ]
    result = RunResult(kernel, options, completed, [finding(details) for details in device.findings], written)
    _save(options, buffers)
    return result


def _specialised(library: _core.Library, name: str, values: Mapping[str, object]) -> _core.Kernel:
    try:
        return library.kernel(name, values)
    except BuildError as error:  # a value that its type does not hold
        raise UsageError(f"--constant: {error}") from None


def _check_bindings(kernel: KernelInfo, options: RunOptions) -> None:
    bound: tuple[tuple[str, str, Collection[int]], ...] = (
        ("buffer", "--buffer", options.buffers),
        ("threadgroup", "--threadgroup-memory", options.threadgroup_memory),
    )
    for kind, name, given in bound:
        wanted = {argument.index: argument for argument in kernel.arguments if argument.kind == kind}
        for index, argument in wanted.items():
            if index not in given:
                what = "BYTES" if kind == "threadgroup" else f"... for elements of {argument.size} bytes"
                raise UsageError(
                    f"kernel {kernel.name}: '{argument.name}' ({argument.type}) needs {name} {index}={what}"
                )
        for index in given:
            if index not in wanted:
                have = ", ".join(map(str, wanted)) or "none"
                raise UsageError(
                    f"{name} {index}: kernel {kernel.name} has no {kind} argument of that index; it has {have}"
                )
    for index, option in options.buffers.items():
        argument = next(each for each in kernel.arguments if each.kind == "buffer" and each.index == index)
        if option.nbytes < argument.size:
            raise UsageError(
                f"--buffer {index}: {option.nbytes} bytes are less than one element of '{argument.name}', "
                f"which has {argument.size}"
            )


def _buffer(device: _core.Device, option: BufferOption) -> _core.Buffer:
    try:
        buffer = device.buffer(option.nbytes)
    except OnebufError as error:
        raise UsageError(f"--buffer {option.index}: {error}") from None
    if option.values is not None:
        view = np.frombuffer(memoryview(buffer), storage(option.dtype))
        view[:] = np.asarray(option.values).reshape(-1)
    return buffer


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Lets Ctrl-C end the process while a kernel runs, which may have no end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _values(option: BufferOption, buffer: _core.Buffer) -> np.ndarray:
    return np.frombuffer(memoryview(buffer), storage(option.dtype)).reshape(option.shape)


def _contents(argument: ArgumentInfo, options: RunOptions, buffers: dict[int, _core.Buffer]) -> Contents:
    option = options.buffers[argument.index]
    return Contents(argument.index, argument.name, option.dtype, _values(option, buffers[argument.index]))


def _save(options: RunOptions, buffers: dict[int, _core.Buffer]) -> None:
    for index, path in options.save.items():
        np.save(path, _values(options.buffers[index], buffers[index]))
