"""Running one's own kernels: arrays go in as NumPy arrays, and results come back in them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..errors import BuildError, RunError
from . import records
from .buffers import Buffer, new_buffer
from .core import _core
from .records import Record
from .signature import Sizes, Value, check_count, check_names, check_value, three

__all__ = ["Dispatch", "DispatchChain", "Kernel", "Library"]

StructOrValue: TypeAlias = Record | Sequence[Record] | np.ndarray | np.generic
"""A struct argument's members by name, several structs, or one value with a dtype, such as np.uint32(4)."""


class Library:
    """Compiled Metal Shading Language. See `Device.compile`.

    Threads: a library and its kernels never change, so that threads may share them.
    """

    def __init__(self, device: _core.Device, core: _core.Library) -> None:
        self.core = core
        self._device = device

    @property
    def kernel_names(self) -> list[str]:
        return self.core.kernel_names

    def kernel(self, name: str, constants: Mapping[str, object] | None = None) -> Kernel:
        """The kernel called `name`. Raises CompileError where the library has none.

        constants: {name: value} for its function constants: a number, a bool, or a sequence for a vector. CompileError
        names those that lack a value, BuildError those that the kernel does not use.
        """
        return Kernel(self._device, self.core.kernel(name, constants))


class Kernel:
    """A kernel of one's own: ``device.compile(source).kernel("name")``.

    Threads: a kernel never changes; threads may run it at the same time with arrays of their own.
    """

    def __init__(self, device: _core.Device, core: _core.Kernel) -> None:
        self.core = core
        self._device = device
        self._buffers = sorted((each for each in core.arguments if not each.threadgroup), key=lambda each: each.index)
        self._threadgroup = {each.name: each.index for each in core.arguments if each.threadgroup}

    @property
    def name(self) -> str:
        return self.core.name

    @property
    def arguments(self) -> tuple[_core.Argument, ...]:
        """The arguments as the signature has them: names, slots, sizes of elements, and which are written."""
        return self.core.arguments

    @property
    def threads(self) -> int:
        """Threads of the largest threadgroup."""
        return self.core.threads

    def __repr__(self) -> str:
        return f"Kernel({self.name}: {', '.join(each.name for each in self.arguments)})"

    def run(
        self,
        *values: Value,
        threadgroups: Sizes | Buffer | None = None,
        grid: Sizes | None = None,
        threads: Sizes | None = None,
        constants: Mapping[str, StructOrValue] | None = None,
        threadgroup_memory: Mapping[str, int] | None = None,
        resources: Iterable[Buffer] = (),
    ) -> tuple[np.ndarray, ...]:
        """Runs the kernel once and waits. Gives the arrays that it writes, in the order of its arguments, then those
        that structs point to.

        values: the buffer arguments in the order of their slots, but for those in `constants`. An array is copied
        to the device, and back where the kernel writes it: the given array itself has the results, as has the
        ``array`` of a `Buffer`. A scalar is a NumPy value such as ``np.uint32(4)``.
        threadgroups: how many, or a Buffer of three uint32 that hold it when the kernel starts; grid: how many threads
        in all, instead. threads: of a threadgroup, by default as many as the kernel allows. Each is x, (x, y) or
        (x, y, z).
        constants: {argument: {member: number}} for struct arguments, or {argument: value with a dtype}. A member that
        points to memory takes an array or a `Buffer`, or None; one that is an array takes a list. For an array
        of structs, give a list of them.
        resources: memory whose ``gpu_address`` the program itself put where the kernel finds it.
        threadgroup_memory: {argument: bytes} for ``[[threadgroup(n)]]`` arguments, whose length the host gives.

        Raises ShapeError, DTypeError or BuildError for a call that does not fit the kernel's signature, before it runs;
        RunError where it fails, also where the checker had to stop a thread.
        """
        dispatch = Dispatch(
            self,
            *values,
            threadgroups=threadgroups,
            grid=grid,
            threads=threads,
            constants=constants,
            threadgroup_memory=threadgroup_memory,
            resources=resources,
            _in_place=True,
        )
        self._device.chain([dispatch.core], self.name).run()
        written = []
        for argument, value, buffer in zip(dispatch.positional, values, dispatch.buffers):
            if argument.writes:
                if isinstance(value, np.ndarray):
                    np.copyto(value, buffer.array)
                written.append(value if isinstance(value, np.ndarray) else buffer.array)
        for given, buffer in dispatch.pointed:
            if isinstance(given, np.ndarray):
                np.copyto(given, buffer.array)
            written.append(given if isinstance(given, np.ndarray) else buffer.array)
        return tuple(written)


class Dispatch:
    """One kernel and its arguments, for `Device.chain`.

    The arguments are those of `Kernel.run`; memory that the kernel writes must be a `Buffer`.
    """

    def __init__(
        self,
        kernel: Kernel,
        *values: Value,
        threadgroups: Sizes | Buffer | None = None,
        grid: Sizes | None = None,
        threads: Sizes | None = None,
        constants: Mapping[str, StructOrValue] | None = None,
        threadgroup_memory: Mapping[str, int] | None = None,
        resources: Iterable[Buffer] = (),
        label: str = "",
        _in_place: bool = False,  # arrays that the kernel writes are copied back by the caller
    ) -> None:
        self.kernel = kernel
        given = dict(constants or {})
        check_names(kernel.name, given, [each.name for each in kernel._buffers], "buffer argument", "constants")
        self.positional = [each for each in kernel._buffers if each.name not in given]
        check_count(kernel.name, self.positional, len(values))
        for argument, value in zip(self.positional, values):
            check_value(kernel.name, argument, value, may_write=_in_place)
        self.buffers = [
            value if isinstance(value, Buffer) else new_buffer(kernel._device, np.asarray(value)) for value in values
        ]
        bindings = [(each.index, made.core, 0, made.nbytes) for each, made in zip(self.positional, self.buffers)]
        packed = None
        uses = [(each, True) for each in resources]
        self.pointed: list[tuple[np.ndarray | Buffer, Buffer]] = []  # given, and the memory that stands for it
        for name, constant in given.items():
            argument = next(each for each in kernel._buffers if each.name == name)
            if not isinstance(constant, (Mapping, list, tuple)):
                check_value(kernel.name, argument, constant, may_write=False)
                raw = new_buffer(kernel._device, np.asarray(constant))
                bindings.append((argument.index, raw.core, 0, raw.nbytes))
                continue
            made = records.pack(kernel._device, kernel.core, argument, constant, may_write=_in_place)
            uses += made.uses
            self.pointed += made.written
            if packed is None and not argument.writes and len(made.data) == argument.size:
                packed = (argument.index, made.data)  # these bytes travel with the dispatch
            else:
                raw = new_buffer(kernel._device, np.frombuffer(made.data, np.uint8))
                bindings.append((argument.index, raw.core, 0, raw.nbytes))
        if (threadgroups is None) == (grid is None):
            raise BuildError(f"kernel {kernel.name}: give either threadgroups or grid, the threads in all")
        counts = None
        if isinstance(threadgroups, Buffer):
            counts, threadgroups = (threadgroups.core, 0), 1
        self.core = _core.Dispatch(
            kernel.core,
            bindings,
            packed,
            three(kernel.name, "threadgroups", 1 if threadgroups is None else threadgroups),
            label=label,
            grid=three(kernel.name, "grid", grid) if grid is not None else None,
            threads=three(kernel.name, "threads", threads) if threads is not None else None,
            threadgroup_memory=self._threadgroup_memory(threadgroup_memory or {}),
            uses=[(each.core, writes) for each, writes in uses],
            counts=counts,
        )

    def _threadgroup_memory(self, given: Mapping[str, int]) -> dict[int, int]:
        kernel = self.kernel
        check_names(kernel.name, given, list(kernel._threadgroup), "threadgroup argument", "threadgroup_memory")
        for name, index in kernel._threadgroup.items():
            if name not in given:
                raise BuildError(
                    f"kernel {kernel.name}: {name} [[threadgroup({index})]] has no length; "
                    f"give threadgroup_memory={{{name!r}: BYTES}}"
                )
        return {kernel._threadgroup[name]: nbytes for name, nbytes in given.items()}


class DispatchChain:
    """Dispatches that run as one command buffer, in their order, with barriers where one needs another's results.

    Made by `Device.chain`.

    Threads: a chain runs for one caller at a time, because its memory exists once; `run` raises RunError where
    another thread is in it. Read what it wrote before another thread may run it again.
    """

    def __init__(self, device: _core.Device, dispatches: Iterable[Dispatch], label: str) -> None:
        self.dispatches = tuple(dispatches)
        for dispatch in self.dispatches:
            if not isinstance(dispatch, Dispatch):
                raise BuildError(f"a chain takes pipeline.Dispatch, not {type(dispatch).__name__}")
        self.core = device.chain([dispatch.core for dispatch in self.dispatches], label)
        self._busy = threading.Lock()

    def __len__(self) -> int:
        return len(self.dispatches)

    def __iter__(self) -> Iterator[Dispatch]:
        return iter(self.dispatches)

    def run(self) -> None:
        """Commits the command buffer and waits. Raises RunError where it failed, or when another thread is running
        this chain."""
        if not self._busy.acquire(blocking=False):
            raise RunError(
                f"{self.core.label} runs in another thread already; make a chain and buffers for each thread, or lock"
            )
        try:
            self.core.run()
        finally:
            self._busy.release()
