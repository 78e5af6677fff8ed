"""Devices, opened with the built-in shader library."""

from __future__ import annotations

import os
import sys

from . import resources


class Device:
    """A device and the kernels of the built-in shaders on it. See :func:`open_device`."""

    def __init__(self, core):
        self.core = core
        self._kernels = {}
        self._wrapped = {}
        library = resources.shader_library("checker" if core.name == "checker" else core.isa)
        self._library = core.open_library(library) if library else core.compile(resources.shader_text())

    @property
    def name(self) -> str:
        return self.core.name

    @property
    def isa(self) -> str:
        """The instruction set that kernels use, such as "avx2"; empty for a device that is no processor."""
        return self.core.isa

    @property
    def threads(self) -> int:
        """Worker threads; 0 for a device without."""
        return self.core.threads

    @property
    def command_buffers(self) -> int:
        """Command buffers that reached the queue so far, counted there."""
        return self.core.command_buffers

    @property
    def findings(self) -> list:
        """What the checker found in the runs waited for so far, as findings.Finding; empty elsewhere."""
        from .findings import finding

        return [finding(details) for details in self.core.findings]

    def clear_findings(self) -> None:
        self.core.findings.clear()

    def kernel(self, name: str):
        """A kernel of the built-in shaders. Raises CompileError when there is none of that name."""
        if name not in self._kernels:
            self._kernels[name] = self._library.kernel(name)
        return self._kernels[name]

    def compile(self, source: str):
        """A library from Metal Shading Language text. Raises CompileError with the messages."""
        return self.core.compile(source)

    def wrapped(self, key, memory):
        """The Buffer over a memory map, made once for `key`."""
        if key not in self._wrapped:
            self._wrapped[key] = self.core.wrap(memory)
        return self._wrapped[key]


def open_device(name: str = "auto", *, threads: int = 0, schedules: int = 0, isa: str | None = None) -> Device:
    """The device called `name` ("auto": the system's default), with `threads` worker threads (0: its choice).

    "checker" runs every thread of a kernel and watches what it does; `threads` is then the most threads of a
    threadgroup (0: 1,024), and `schedules` is how many orders of its
    threads it tries for each dispatch, demanding one result (0: one order).

    `isa` is the instruction set of "cpu", such as "avx2" (None: that of OB_ISA, else the processor's best).

    Raises DeviceError, which lists the choices, when there is no such device or instruction set, and
    UsageError for a setting that the device cannot have.
    """
    os.environ.setdefault("OB_METALC", f"{sys.executable} -m pipeline.metalc")
    from .core import _core

    return Device(_core.open_device(name, threads=threads, schedules=schedules, isa=isa))


def as_device(device, threads: int = 0, isa: str | None = None) -> Device:
    """`device` itself, or the device of that name, opened with these settings."""
    return device if isinstance(device, Device) else open_device(device, threads=threads, isa=isa)
