"""Kernels run under the checker, with the buffers that the command line states."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..device.core import _core
from ..device.findings import Finding, finding
from ..errors import BuildError, RunError, UsageError
from . import constants
from .allowed import Allowed, sorted_out
from .bindings import check_bindings
from .buffers import BufferOption, storage
from .dispatches import DispatchOption
from .expected import Difference, Expected, difference
from .memory import Memory
from .options import RunOptions
from .shaders import ArgumentInfo, KernelInfo, Shader, open_checker

COUNTS_BYTES = 12  # three uint32

__all__ = ["Contents", "RunResult", "find_kernel", "open_checker", "run_kernels"]


@dataclass(frozen=True)
class Contents:
    """A buffer that a kernel may write, after the run. `index` and `argument` are of the first kernel that may."""

    name: str
    index: int
    argument: str
    dtype: str
    values: np.ndarray


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run."""

    kernels: list[KernelInfo]
    options: RunOptions
    completed: bool  # False where a thread had to be stopped
    findings: list[Finding]  # that nobody allows
    allowed: list[tuple[Finding, Allowed]]
    differences: list[Difference]
    notes: list[str]  # what the run cannot have shown, and what allows nothing
    written: list[Contents]

    @property
    def failed(self) -> bool:
        """Whether there is something to mend."""
        return bool(self.findings or self.differences)


def find_kernel(shaders: list[Shader], dispatch: DispatchOption) -> tuple[Shader, KernelInfo]:
    """The one kernel of a dispatch's name. UsageError where there is none, or more than one."""
    name, option = dispatch.kernel, dispatch.option
    found = [(shader, kernel) for shader in shaders for kernel in shader.kernels if kernel.name == name]
    if len(found) == 1:
        if found[0][1].refused:
            raise UsageError(f"{option}: {found[0][1].refused}")
        return found[0]
    if found:
        raise UsageError(f"{option}: {' and '.join(shader.file for shader, _ in found)} have it; give one of them")
    names = [kernel.name for shader in shaders for kernel in shader.kernels]
    if not names:
        raise UsageError(f"{option}: {' and '.join(each.file for each in shaders)}: no compute kernels there")
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    raise UsageError(f"{option}: no such kernel; there {'are' if len(names) > 1 else 'is'} {shown}")


def run_kernels(device: _core.Device, shaders: list[Shader], options: RunOptions) -> RunResult:
    """Runs the kernels of the options. UsageError says what is missing or does not fit."""
    found = [find_kernel(shaders, dispatch) for dispatch in options.dispatches]
    _check_constants(options, [kernel for _, kernel in found])
    memory = Memory(device, options)
    dispatches = []
    for dispatch, (shader, kernel) in zip(options.dispatches, found):
        given = {name: text for name, text in options.constants.items() if _uses(kernel, name)}
        core = _specialised(shader, kernel, constants.values(kernel.name, kernel.constants, given))
        check_bindings(kernel, dispatch, options.buffers)
        bound = {
            index: memory.argument(name, core, _argument(kernel, index)) for index, name in dispatch.bindings.items()
        }
        dispatches.append(
            _core.Dispatch(
                core,
                [(index, buffer, 0, buffer.nbytes) for index, buffer in bound.items()],
                label=kernel.name,
                threadgroups=(1, 1, 1) if dispatch.by_threads else dispatch.grid,
                grid=dispatch.grid if dispatch.by_threads else None,
                threads=dispatch.threads,
                threadgroup_memory=dispatch.threadgroup_memory,
                uses=_uses_of(memory, kernel, dispatch),
                counts=None if dispatch.counts is None else _counts(memory, dispatch),
            )
        )
    device.findings.clear()  # of an earlier run
    completed = True
    try:
        with _plain_interrupts():
            device.chain(dispatches, "check").run()
    except RunError:
        completed = False
        if not device.findings:
            raise
    kernels = [kernel for _, kernel in found]
    findings, allowed, unused = sorted_out(map(finding, device.findings), options.allowed)
    differences = [_difference(each, options, memory.made) for each in options.expect]
    notes = [note for dispatch in options.dispatches for note in _notes(dispatch)]
    notes += [note for dispatch in options.dispatches for note in _empty(memory, dispatch)]
    notes += [f"--allow {each}: nothing was found there" for each in unused]
    found_differences = [each for each in differences if each is not None]
    written = _written(options, kernels, memory)
    _save(options, memory.made)
    return RunResult(kernels, options, completed, findings, allowed, found_differences, notes, written)


def _uses_of(memory: Memory, kernel: KernelInfo, dispatch: DispatchOption) -> list[tuple[_core.Buffer, bool]]:
    """What the structs of a dispatch point to, and whether it may be written."""
    return [
        (memory.made[name], writes)
        for index, struct in dispatch.bindings.items()
        for name, writes in memory.pointed(struct, _argument(kernel, index)).values()
    ]


def _counts(memory: Memory, dispatch: DispatchOption) -> tuple[_core.Buffer, int]:
    assert dispatch.counts is not None
    name, offset = dispatch.counts
    buffer = memory.plain(name)
    if offset + COUNTS_BYTES > buffer.nbytes:
        raise UsageError(
            f"{dispatch.option}: --buffer {name} has {buffer.nbytes} bytes; three counts of threadgroups at offset "
            f"{offset} take {COUNTS_BYTES}"
        )
    return buffer, offset


def _uses(kernel: KernelInfo, name: str) -> bool:
    return any(each.name == name for each in kernel.constants)


def _check_constants(options: RunOptions, kernels: list[KernelInfo]) -> None:
    """A constant must be one of some kernel that runs; with one kernel, its own message says so."""
    for name in options.constants:
        if not any(_uses(kernel, name) for kernel in kernels):
            constants.values(kernels[0].name, kernels[0].constants, {name: options.constants[name]})


def _notes(dispatch: DispatchOption) -> list[str]:
    full = math.prod(dispatch.threads)
    most = math.prod(map(min, dispatch.grid, dispatch.threads)) if dispatch.by_threads else full
    if 2 * most > full:
        return []
    asked, count = ",".join(map(str, dispatch.grid)), math.prod(dispatch.grid)
    option, other = (
        ("grid=", "threadgroups=") if dispatch.option.startswith("--dispatch") else ("--grid ", "--threadgroups ")
    )
    return [
        f"{option}{asked} counts threads: no threadgroup has more than {most} of its {full}, so nothing shows what "
        f"the others would do. For {count} whole threadgroup{'' if count == 1 else 's'} write {other}{asked}"
    ]


def _empty(memory: Memory, dispatch: DispatchOption) -> Iterator[str]:
    """A note where the counts of an indirect dispatch are none, as far as the end of the run shows."""
    if dispatch.counts is None:
        return
    name, offset = dispatch.counts
    counts = np.frombuffer(memoryview(memory.made[name]), np.uint32, 3, offset)
    if not counts.all():
        held = ",".join(map(str, counts))
        yield f"buffer {name} has {held} threadgroups for {dispatch.kernel} at the end; with these, nothing runs"


def _specialised(shader: Shader, kernel: KernelInfo, values: Mapping[str, object]) -> _core.Kernel:
    if shader.library is None:
        raise ValueError(f"{shader.file}: list_kernels was not called")
    try:
        return shader.library.kernel(kernel.name, values)
    except BuildError as error:  # a value that its type does not hold
        raise UsageError(f"--constant: {error}") from None


def _argument(kernel: KernelInfo, index: int) -> ArgumentInfo:
    return next(each for each in kernel.arguments if each.kind == "buffer" and each.index == index)


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
    values = np.frombuffer(memoryview(buffer), storage(option.dtype))
    return values if option.members is not None else values.reshape(option.shape)


def _difference(expected: Expected, options: RunOptions, buffers: dict[str, _core.Buffer]) -> Difference | None:
    option = options.buffers[expected.name]
    if expected.name not in buffers:
        raise UsageError(f"--expect {expected.name}={expected.source}: no kernel has that buffer")
    return difference(expected, option, _values(option, buffers[expected.name]))


def _written(options: RunOptions, kernels: list[KernelInfo], memory: Memory) -> list[Contents]:
    """The buffers that a kernel may write, each once."""
    found: dict[str, Contents] = {}

    def add(name: str, index: int, argument: str) -> None:
        option = options.buffers[name]
        values = _values(option, memory.made[name])
        found.setdefault(name, Contents(name, index, argument, option.dtype, values))

    for kernel, dispatch in zip(kernels, options.dispatches):
        for argument in kernel.arguments:
            if argument.index not in dispatch.bindings or argument.kind != "buffer":
                continue
            bound = dispatch.bindings[argument.index]
            if argument.access == "read-write":
                add(bound, argument.index, argument.name)
            for label, (name, writes) in memory.pointed(bound, argument).items():
                if writes:
                    add(name, argument.index, f"{argument.name}.{label}")
    return list(found.values())


def _save(options: RunOptions, buffers: dict[str, _core.Buffer]) -> None:
    for name, path in options.save.items():
        if name not in buffers:
            raise UsageError(f"--save {name}={path}: no kernel has that buffer")
        np.save(path, _values(options.buffers[name], buffers[name]))
