"""Running one's own kernels: arrays go in as NumPy arrays, and every mistake in the call gets one clear line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..errors import BuildError, DTypeError, ShapeError
from .core import _core

Sizes: TypeAlias = int | Sequence[int]
"""x, (x, y) or (x, y, z); what is left out is 1."""

StructOrValue: TypeAlias = Mapping[str, float] | np.ndarray | np.generic
"""A struct argument's members by name, or one value with a dtype, such as np.uint32(4)."""


class Buffer:
    """Memory of a device that stays from run to run, seen by the host as an array. See :meth:`Device.buffer`.

    Threads: writing `array` while a command buffer that uses the memory is in flight is a race, as on any device.
    """

    def __init__(self, core: _core.Buffer, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.core = core
        self.shape = shape
        self.dtype = dtype

    @property
    def array(self) -> np.ndarray:
        """The memory as an array, without a copy."""
        count = int(np.prod(self.shape))
        return np.frombuffer(memoryview(self.core), self.dtype, count).reshape(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"Buffer({self.dtype} {self.shape})"


Value: TypeAlias = np.ndarray | np.generic | Buffer
"""A buffer argument of a kernel."""


def new_buffer(device: _core.Device, array: np.ndarray) -> Buffer:
    """A Buffer that holds a copy of the array."""
    values = np.asarray(array)
    buffer = empty_buffer(device, values.shape, values.dtype)
    buffer.array[...] = values
    return buffer


def empty_buffer(device: _core.Device, shape: int | Sequence[int], dtype: DTypeLike) -> Buffer:
    """A Buffer that nobody has written."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    kind = np.dtype(dtype)
    if kind.hasobject or not kind.isnative:
        raise DTypeError(f"a buffer of {kind.str} is not possible; give numbers in the machine's byte order")
    return Buffer(device.buffer(int(np.prod(sizes)) * kind.itemsize), sizes, kind)


class Library:
    """Compiled Metal Shading Language. See :meth:`Device.compile`.

    Threads: a library and its kernels never change, so that threads may share them.
    """

    def __init__(self, device: _core.Device, core: _core.Library) -> None:
        self.core = core
        self._device = device

    @property
    def kernel_names(self) -> list[str]:
        return self.core.kernel_names

    def kernel(self, name: str) -> Kernel:
        """The kernel called `name`. Raises CompileError where the library has none."""
        return Kernel(self._device, self.core.kernel(name))


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
        threadgroups: Sizes | None = None,
        grid: Sizes | None = None,
        threads: Sizes | None = None,
        constants: Mapping[str, StructOrValue] | None = None,
        threadgroup_memory: Mapping[str, int] | None = None,
    ) -> tuple[np.ndarray, ...]:
        """Runs the kernel once and waits. Gives the arrays that it writes, in the order of its arguments.

        values: the buffer arguments in the order of their slots, but for those in `constants`. An array is copied
        to the device, and back where the kernel writes it: the given array itself has the results, as has the
        ``array`` of a :class:`Buffer`. A scalar is a NumPy value such as ``np.uint32(4)``.
        threadgroups: how many; grid: how many threads in all, instead. threads: of a threadgroup, by default as many
        as the kernel allows. Each is x, (x, y) or (x, y, z).
        constants: {argument: {member: number}} for struct arguments, or {argument: value with a dtype}.
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
            _in_place=True,
        )
        self._device.chain([dispatch.core], self.name).run()
        written = []
        for argument, value, buffer in zip(dispatch.positional, values, dispatch.buffers):
            if argument.writes:
                if isinstance(value, np.ndarray):
                    np.copyto(value, buffer.array)
                written.append(value if isinstance(value, np.ndarray) else buffer.array)
        return tuple(written)


class Dispatch:
    """One kernel and its arguments, for :meth:`Device.chain`.

    The arguments are those of :meth:`Kernel.run`; memory that the kernel writes must be a :class:`Buffer`.
    """

    def __init__(
        self,
        kernel: Kernel,
        *values: Value,
        threadgroups: Sizes | None = None,
        grid: Sizes | None = None,
        threads: Sizes | None = None,
        constants: Mapping[str, StructOrValue] | None = None,
        threadgroup_memory: Mapping[str, int] | None = None,
        label: str = "",
        _in_place: bool = False,  # arrays that the kernel writes are copied back by the caller
    ) -> None:
        self.kernel = kernel
        given = dict(constants or {})
        self._check_names(given, [each.name for each in kernel._buffers], "buffer argument", "constants")
        self.positional = [each for each in kernel._buffers if each.name not in given]
        self._check_count(values)
        for argument, value in zip(self.positional, values):
            _check_value(kernel.name, argument, value, may_write=_in_place)
        self.buffers = [
            value if isinstance(value, Buffer) else new_buffer(kernel._device, np.asarray(value)) for value in values
        ]
        bindings = [(each.index, made.core, 0, made.nbytes) for each, made in zip(self.positional, self.buffers)]
        packed = None
        for name, constant in given.items():
            argument = next(each for each in kernel._buffers if each.name == name)
            if isinstance(constant, Mapping) and packed is None:
                packed = (argument.index, kernel.core.pack(name, constant))
                continue
            raw = self._constant(argument, constant)
            bindings.append((argument.index, raw.core, 0, raw.nbytes))
        if (threadgroups is None) == (grid is None):
            raise BuildError(f"kernel {kernel.name}: give either threadgroups or grid, the threads in all")
        self.core = _core.Dispatch(
            kernel.core,
            bindings,
            packed,
            _three(kernel.name, "threadgroups", threadgroups) if threadgroups is not None else (1, 1, 1),
            label=label,
            grid=_three(kernel.name, "grid", grid) if grid is not None else None,
            threads=_three(kernel.name, "threads", threads) if threads is not None else None,
            threadgroup_memory=self._threadgroup_memory(threadgroup_memory or {}),
        )

    def _check_count(self, values: Sequence[Value]) -> None:
        if len(values) == len(self.positional):
            return
        names = ", ".join(f"{each.name} [[buffer({each.index})]]" for each in self.positional) or "none"
        count = f"{len(self.positional)} argument{'' if len(self.positional) == 1 else 's'}"
        raise BuildError(f"kernel {self.kernel.name}: takes {count}, {names}; {len(values)} given")

    def _check_names(self, given: Iterable[str], known: Sequence[str], what: str, where: str) -> None:
        for name in given:
            if name not in known:
                raise BuildError(
                    f"kernel {self.kernel.name}: {where} names {name!r}, which is no {what}; "
                    f"it has {', '.join(known) or 'none'}"
                )

    def _constant(self, argument: _core.Argument, value: StructOrValue) -> Buffer:
        """A constant in memory of its own, for arguments beyond the one whose bytes travel with the dispatch."""
        if isinstance(value, Mapping):
            packed = self.kernel.core.pack(argument.name, value)
            return new_buffer(self.kernel._device, np.frombuffer(packed, np.uint8))
        _check_value(self.kernel.name, argument, value, may_write=False)
        return new_buffer(self.kernel._device, np.asarray(value))

    def _threadgroup_memory(self, given: Mapping[str, int]) -> dict[int, int]:
        kernel = self.kernel
        self._check_names(given, list(kernel._threadgroup), "threadgroup argument", "threadgroup_memory")
        for name, index in kernel._threadgroup.items():
            if name not in given:
                raise BuildError(
                    f"kernel {kernel.name}: {name} [[threadgroup({index})]] has no length; "
                    f"give threadgroup_memory={{{name!r}: BYTES}}"
                )
        return {kernel._threadgroup[name]: nbytes for name, nbytes in given.items()}


class DispatchChain:
    """Dispatches that run as one command buffer, in their order, with barriers where one needs another's results.

    Made by :meth:`Device.chain`.

    Threads: a chain runs for one caller at a time where its kernels write; the memory is its dispatches' own.
    """

    def __init__(self, device: _core.Device, dispatches: Iterable[Dispatch], label: str) -> None:
        self.dispatches = tuple(dispatches)
        for dispatch in self.dispatches:
            if not isinstance(dispatch, Dispatch):
                raise BuildError(f"a chain takes pipeline.Dispatch, not {type(dispatch).__name__}")
        self.core = device.chain([dispatch.core for dispatch in self.dispatches], label)

    def __len__(self) -> int:
        return len(self.dispatches)

    def __iter__(self) -> Iterator[Dispatch]:
        return iter(self.dispatches)

    def run(self) -> None:
        """Commits the command buffer and waits. Raises RunError where it failed."""
        self.core.run()


def _check_value(kernel: str, argument: _core.Argument, value: object, *, may_write: bool) -> None:
    """Demands that an argument of a kernel can be bound to the value: elements of its size, and memory to write."""
    where = f"kernel {kernel}: {argument.name} [[buffer({argument.index})]]"
    if isinstance(value, Buffer):
        if value.nbytes < argument.size:
            raise ShapeError(f"{where} needs {argument.size} bytes or more, the buffer has {value.nbytes}")
        return
    if not isinstance(value, (np.ndarray, np.generic)):
        raise DTypeError(
            f"{where} is {type(value).__name__}; give a NumPy array or value, such as np.uint32(4), or a Buffer"
        )
    if argument.writes and not may_write:
        raise BuildError(f"{where} is written; give device.buffer(array), whose .array shows the result")
    if argument.writes and not (isinstance(value, np.ndarray) and value.flags.writeable):
        raise BuildError(f"{where} is written; give an array that can be written, or a Buffer")
    if not value.nbytes:
        raise ShapeError(f"{where} has shape {value.shape}; give one element or more")
    last = value.shape[-1] if value.shape else 1
    if argument.size not in (value.dtype.itemsize, value.dtype.itemsize * last):
        raise DTypeError(
            f"{where} has elements of {argument.size} bytes, the array is {value.dtype} {value.shape}, "
            f"of {value.dtype.itemsize}; convert it, or give a vector's numbers as its last axis"
        )


def _three(kernel: str, what: str, sizes: Sizes) -> tuple[int, int, int]:
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if not 1 <= len(given) <= 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in given):
        raise BuildError(f"kernel {kernel}: {what} = {sizes!r}; give one to three whole numbers of at least 1")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z
