"""Devices, opened with the built-in shader library."""

from __future__ import annotations

import contextlib
import functools
import mmap
import numbers
import os
import shlex
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from types import NoneType

import numpy as np
from numpy.typing import DTypeLike

from .. import isolated
from ..errors import FindingsError, RunError, UsageError
from ..host import CHECKER, CUDA, processor_name
from . import archives, gpu_kernels, resources, tuning
from .buffers import Buffer, empty_buffer, new_buffer
from .choices import Choices, default_choices
from .core import _core
from .findings import Finding, finding
from .kernels import Dispatch, DispatchChain, Library
from .windows import window_of, windows


class Device:
    """A device and the kernels of the built-in shaders on it. See `open_device`.

    Threads: a device may be shared by threads; its command buffers execute in the order of their commits. Two
    threads that need a kernel for the first time at the same time may both compile it, which does no harm. `findings`
    are those of all threads together.
    """

    def __init__(self, core: _core.Device) -> None:
        self.core = core
        self.unified = core.unified  # the device's memory is the host's
        self._kernels: dict[str, _core.Kernel] = {}
        self._wrapped: weakref.WeakValueDictionary[tuple[int, int], _core.Buffer] = weakref.WeakValueDictionary()
        self._longest = core.max_buffer // mmap.PAGESIZE * mmap.PAGESIZE
        self._wrapping = threading.Lock()
        self._opening = threading.Lock()
        self._opened: _core.Library | None = None
        if self._kind != CHECKER:
            self._library()

    @property
    def name(self) -> str:
        return self.core.name

    @property
    def isa(self) -> str:
        """The instruction set that kernels use, such as "avx2" or "sm_90a"; empty where the device does not tell."""
        return self.core.isa

    @property
    def threads(self) -> int:
        """Worker threads; 0 for a device without."""
        return self.core.threads

    @functools.cached_property
    def simd_width(self) -> int:
        """Lanes of a simdgroup; 1 on a processor, where a threadgroup is one thread."""
        return self.kernel("clear_status").width

    @property
    def tensor_cores(self) -> bool:
        """Whether it is a GPU whose tensor cores the built-in kernels use: NVIDIA's."""
        return self._kind == CUDA

    @property
    def cores(self) -> int:
        """Cores of a GPU, each of which has a threadgroup of its own resident; 0 where the device does not tell."""
        return self.core.cores

    @functools.cached_property
    def choices(self) -> Choices:
        """How steps share out work where no bit depends on it. Pipelines that are built later follow another value."""
        default = default_choices(self._kind, self.core.hardware)
        if self._kind == CHECKER:
            return default
        return tuning.tuned_choices(self.described, self.shaders_key, default)

    @property
    def described(self) -> str:
        """The device in words: its hardware, its instruction set and its threads, on which its speed depends."""
        name = (processor_name() if self._kind == "cpu" else "") or self.core.hardware
        return ", ".join([self._kind, name, self.isa, *([f"{self.threads} threads"] if self.threads else [])])

    def shaders_key(self) -> str:
        """A name of the built-in shaders, which changes when they or the system do."""
        library = resources.shader_library(self._kind if self._kind in (CHECKER, CUDA) else self.isa)
        return archives.shaders_key(self.core.hardware, library or resources.shader_text())

    def free_bytes(self) -> int:
        """Bytes of the device's memory that nothing uses, of those that it can use without loss of speed."""
        return max(self.core.working_set - self.core.allocated, 0)

    def total_bytes(self) -> int:
        """Bytes of the device's own memory; where it has none, those that it can use without loss of speed."""
        return self.core.memory or self.core.working_set

    @property
    def command_buffers(self) -> int:
        """Command buffers that reached the queue so far, counted there."""
        return self.core.command_buffers

    @property
    def computing_command_buffers(self) -> int:
        """Those of them that did more than move bytes of the host to the device's own memory, or back."""
        return self.core.command_buffers - self.core.transfers

    @property
    def findings(self) -> list[Finding]:
        """The checker's findings in the runs waited for so far; empty on other devices."""
        return [finding(details) for details in self.core.findings]

    def clear_findings(self) -> None:
        self.core.findings.clear()

    def check(self) -> None:
        """Raises FindingsError, an AssertionError too, where the checker found something since the last check."""
        found = self.findings
        self.clear_findings()
        if found:
            raise FindingsError(found)

    def kernel(self, name: str) -> _core.Kernel:
        """The core's handle on a built-in kernel. Raises CompileError when there is none of that name."""
        if name not in self._kernels:
            self._kernels[name] = self._library().kernel(name)
        return self._kernels[name]

    def prepare(self, names: Iterable[str]) -> None:
        """Makes built-in kernels ready side by side, where each would be compiled when it is first asked for."""
        bundle = resources.shader_library(CUDA) if self._kind == CUDA else None
        if bundle is not None:
            gpu_kernels.compile_ahead(bundle, self.isa, set(names) - self._kernels.keys())
        if self.core.archives:
            for name in names:
                self.kernel(name)
            archives.save(self._library())

    @property
    def _kind(self) -> str:
        return self.core.name.partition(":")[0]

    def _library(self) -> _core.Library:
        """The built-in shaders. Those of the checker, which take minutes to compile, are opened when one is first
        needed: kernels of one's own do without."""
        with self._opening:
            if self._opened is None:
                kind = self._kind
                library = resources.shader_library(kind if kind in (CHECKER, CUDA) else self.core.isa)
                text = "" if library else resources.shader_text()
                self._opened = self.core.open_library(library) if library else self.core.compile(text)
                if self.core.archives:
                    archives.use(self.core, self._opened, library or text)
            return self._opened

    def compile(self, source: str) -> Library:
        """A library from Metal Shading Language text. Raises CompileError with the messages."""
        return Library(self.core, self.core.compile(source))

    def buffer(self, array: np.ndarray) -> Buffer:
        """Memory on the device that stays from run to run, with a copy of the array in it."""
        return new_buffer(self.core, array)

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike = np.float32) -> Buffer:
        """Memory on the device that nobody has written: on the checker, reading it before writing is a finding."""
        return empty_buffer(self.core, shape, dtype)

    def chain(self, dispatches: Iterable[Dispatch], label: str = "chain") -> DispatchChain:
        """Several kernels in one command buffer. Raises BuildError naming the dispatch that does not fit."""
        return DispatchChain(self.core, dispatches, label)

    def wrapped(self, memory: mmap.mmap, begin: int = 0, borders: Sequence[int] = ()) -> tuple[_core.Buffer, int]:
        """The Buffer over a memory map, and the place in it of byte `begin` of the map.

        The same Buffer as long as it is in use; a file that is mapped again, because it was opened again, is another
        map. A map that is longer than the device's longest buffer has several Buffers, which part at `borders`, where
        its tensors begin. Raises DeviceError where a tensor alone is too long.
        """
        with self._wrapping:
            first, end = window_of(windows(len(memory), borders, self._longest), begin)
            key = id(memory), first  # a Buffer keeps its memory, so the id is no other's
            buffer = self._wrapped.get(key)
            if buffer is None:
                buffer = self._wrapped[key] = self.core.wrap(memory, first, end)
            return buffer, begin - first


def open_device(name: str = "auto", *, threads: int = 0, schedules: int = 0, isa: str | None = None) -> Device:
    """The device called `name` ("auto": the system's default), with `threads` worker threads (0: its choice).

    "checker" runs every thread of a kernel and watches what it does; `threads` is then the most threads of a
    threadgroup (0: 1,024), and `schedules` is how many orders of its threads it tries for each dispatch, demanding one
    result (0: one order).

    `isa` is the instruction set of "cpu", such as "avx2" (None: that of OB_ISA, else the processor's best).

    Raises DeviceError, which lists the choices, when there is no such device or instruction set, and
    UsageError for a setting that the device cannot have.
    """
    if not isinstance(name, str) or not isinstance(isa, (str, NoneType)):
        raise UsageError(f"device {name!r:.60}, isa {isa!r:.60}: impossible; give names, such as cpu and avx2")
    for setting, count in (("threads", threads), ("schedules", schedules)):
        if not isinstance(count, numbers.Integral):
            raise UsageError(f"{setting} {count!r:.60}: impossible; give a whole number")
    resources.check_system()
    os.environ.setdefault("OB_METALC", shlex.join(isolated.command("metalc")))
    if name.partition(":")[0] in ("auto", CUDA):
        resources.name_gpu_compiler()
    return Device(_core.open_device(name, threads=threads, schedules=schedules, isa=isa))


@contextlib.contextmanager
def checked(*, threads: int = 0, schedules: int = 0) -> Iterator[Device]:
    """The checker device, for a test: ``with pipeline.checked(schedules=8) as device:``.

    At the end it raises FindingsError, which is an AssertionError and lists them, where the checker found something in
    the kernels that ran; also where it had to stop one of them, so that the run itself failed.
    """
    device = open_device("checker", threads=threads, schedules=schedules)
    try:
        yield device
    except RunError as error:
        if not device.findings:
            raise
        raise FindingsError(device.findings) from error
    device.check()


def as_device(device: str | Device, threads: int = 0, isa: str | None = None) -> Device:
    """`device` itself, or the device of that name, opened with these settings."""
    return device if isinstance(device, Device) else open_device(device, threads=threads, isa=isa)
