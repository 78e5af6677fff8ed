"""A kernel run under the checker, with the buffers that the command line states."""

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..device.core import _core
from ..device.findings import Finding, finding
from ..errors import OnebufError, RunError, UsageError
from .buffers import storage
from .options import RunOptions
from .shaders import KernelInfo, Shader


@dataclass(frozen=True)
class Contents:
    """What a written buffer holds after the run."""

    index: int
    name: str
    dtype: str
    values: np.ndarray


@dataclass(frozen=True)
class RunResult:
    kernel: KernelInfo
    options: RunOptions
    completed: bool  # False where a thread had to be stopped
    findings: list[Finding]
    written: list[Contents]


def open_checker(schedules: int = 0):
    """The checker device alone, without the package's own shaders."""
    return _core.open_device("checker", schedules=schedules)


def find_kernel(shaders: list[Shader], name: str) -> tuple[Shader, KernelInfo]:
    found = [(shader, kernel) for shader in shaders for kernel in shader.kernels if kernel.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"--run {name}: {' and '.join(shader.file for shader, _ in found)} have it; give one of them")
    names = [kernel.name for shader in shaders for kernel in shader.kernels]
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    raise UsageError(f"--run {name}: no such kernel; there {'are' if len(names) > 1 else 'is'} {shown}")


def run_kernel(device, shader: Shader, kernel: KernelInfo, options: RunOptions) -> RunResult:
    """Runs a kernel. UsageError says what is missing or does not fit."""
    _check_bindings(kernel, options)
    buffers = {index: _buffer(device, option) for index, option in options.buffers.items()}
    size = {"grid" if options.by_threads else "threadgroups": options.grid}
    dispatch = _core.Dispatch(
        shader.library.kernel(kernel.name),
        [(index, buffer, 0, buffer.nbytes) for index, buffer in buffers.items()],
        label=kernel.name,
        threads=options.threads,
        threadgroup_memory=options.threadgroup_memory,
        **size,
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


def _check_bindings(kernel: KernelInfo, options: RunOptions) -> None:
    for kind, option, given in (
        ("buffer", "--buffer", options.buffers),
        ("threadgroup", "--threadgroup-memory", options.threadgroup_memory),
    ):
        wanted = {argument.index: argument for argument in kernel.arguments if argument.kind == kind}
        for index, argument in wanted.items():
            if index not in given:
                what = "BYTES" if kind == "threadgroup" else f"... for elements of {argument.size} bytes"
                raise UsageError(
                    f"kernel {kernel.name}: '{argument.name}' ({argument.type}) needs {option} {index}={what}"
                )
        for index in given:
            if index not in wanted:
                have = ", ".join(map(str, wanted)) or "none"
                raise UsageError(
                    f"{option} {index}: kernel {kernel.name} has no {kind} argument of that index; it has {have}"
                )
    for index, option in options.buffers.items():
        argument = next(each for each in kernel.arguments if each.kind == "buffer" and each.index == index)
        if option.nbytes < argument.size:
            raise UsageError(
                f"--buffer {index}: {option.nbytes} bytes are less than one element of '{argument.name}', which has {argument.size}"
            )


def _buffer(device, option):
    try:
        buffer = device.buffer(option.nbytes)
    except OnebufError as error:
        raise UsageError(f"--buffer {option.index}: {error}") from None
    if option.values is not None:
        view = np.frombuffer(buffer, storage(option.dtype))
        view[:] = np.asarray(option.values).reshape(-1)
    return buffer


@contextmanager
def _plain_interrupts():
    """Ctrl-C ends the process while a kernel runs, which may have no end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _values(option, buffer) -> np.ndarray:
    return np.frombuffer(buffer, storage(option.dtype)).reshape(option.shape)


def _contents(argument, options: RunOptions, buffers) -> Contents:
    option = options.buffers[argument.index]
    return Contents(argument.index, argument.name, option.dtype, _values(option, buffers[argument.index]))


def _save(options: RunOptions, buffers) -> None:
    for index, path in options.save.items():
        np.save(path, _values(options.buffers[index], buffers[index]))
