"""The compiled core as a type checker sees it: the handles of pyx/, and the constants of shaders/args.h."""

import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, NewType, Self

from typing_extensions import Buffer as SupportsBuffer

DataType = NewType("DataType", int)
"""An MTLDataType: 3 is float, 33 is uint."""

PAGE_SIZE: Final[int]

LINEAR_OUTPUTS: Final[int]
LINEAR_ROWS: Final[int]
ROPE_HEADS: Final[int]
ATTENTION_TILE: Final[int]
ATTENTION_HEAD_DIM: Final[int]
ATTENTION_V_DIM: Final[int]
ATTENTION_PART: Final[int]
ATTENTION_PARTS: Final[int]
ATTENTION_PART_END: Final[int]
TENSOR_ATTENTION_HEADS: Final[int]
TENSOR_ATTENTION_PART: Final[int]
STAGE_THREADS: Final[int]
ROW_THREADS: Final[int]
ROW_GATE_UP_THREADS: Final[int]
ROW_BUSY: Final[int]
ROW_TILES: Final[int]
ROW_EXPERTS: Final[int]
ROW3_TILES: Final[int]
ROW_GATE_UP_TILES: Final[int]
ROW_CHUNKS: Final[int]
ROW_SHARES: Final[int]
ROW_TOP_K: Final[int]
NORM_HEAD: Final[int]
NORM_ALL: Final[int]
CACHE_BLOCK: Final[int]
CACHE_GROUP: Final[int]
F32: Final[int]
F16: Final[int]
BF16: Final[int]
CONV_CHANNELS: Final[int]
DELTA_VALUES: Final[int]
GATED_HEADS: Final[int]
MAX_TOP_K: Final[int]
SAMPLE_PART: Final[int]
SAMPLE_BLOCK: Final[int]
SAMPLE_LIST: Final[int]
MAX_LOGPROBS: Final[int]
NONE: Final[int]
STORED: Final[dict[str | None, int]]
ACTIVATIONS: Final[dict[str, int]]
GATE_ALONE: Final[int]
CHUNKED: Final[int]
TILED: Final[int]

class Handle:
    """One object of the core, which ``close()`` gives back."""

    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class Device(Handle):
    @property
    def findings(self) -> list[dict[str, str]]: ...
    @property
    def name(self) -> str: ...
    @property
    def hardware(self) -> str: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def schedules(self) -> int: ...
    @property
    def max_buffer(self) -> int: ...
    @property
    def allocated(self) -> int: ...
    @property
    def unified(self) -> bool: ...
    @property
    def working_set(self) -> int: ...
    @property
    def cores(self) -> int: ...
    @property
    def memory(self) -> int: ...
    @property
    def transfers(self) -> int: ...
    @property
    def resident(self) -> int: ...
    @property
    def archives(self) -> bool: ...
    @property
    def command_buffers(self) -> int: ...
    def open_library(self, path: str | os.PathLike[str]) -> Library: ...
    def compile(self, source: str) -> Library: ...
    def buffer(self, nbytes: int, *, private: bool = False) -> Buffer: ...
    def wrap(self, memory: SupportsBuffer, begin: int = 0, end: int | None = None) -> Buffer: ...
    def write(self, transfers: Iterable[Transfer]) -> None: ...
    def read(self, transfers: Iterable[Transfer]) -> None: ...
    def upload(self, transfers: Iterable[Transfer]) -> None: ...
    def chain(self, dispatches: Iterable[Dispatch], label: str = "chain") -> Chain: ...

def open_device(name: str = "auto", *, threads: int = 0, schedules: int = 0, isa: str | None = None) -> Device: ...
def device_names() -> list[str]: ...
def device_problem(name: str) -> str: ...

class Library(Handle):
    @property
    def kernel_names(self) -> list[str]: ...
    @property
    def archive_counts(self) -> tuple[int, int]: ...
    def use_archive(self, device: Device, path: str | os.PathLike[str]) -> None: ...
    def save_archive(self) -> None: ...
    def kernel(self, name: str, constants: Mapping[str, object] | None = None) -> Kernel: ...
    def constants(self, name: str) -> tuple[Constant, ...]: ...

class Constant:
    """A function constant that a kernel uses; `type` is an MTLDataType."""

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def required(self) -> bool: ...

class Argument:
    """One argument of a kernel, as its signature has it. `members` is {name: (offset, MTLDataType)} for a struct,
    `counts` {name: elements} of those that are arrays, `pointers` {name: (writes, size of an element)} of those that
    point to memory."""

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def threadgroup(self) -> bool: ...
    @property
    def writes(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def alignment(self) -> int: ...
    @property
    def members(self) -> dict[str, tuple[int, DataType]]: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def pointers(self) -> dict[str, tuple[bool, int]]: ...

class Kernel(Handle):
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> tuple[Argument, ...]: ...
    @property
    def threads(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def native(self) -> bool: ...
    def argument(self, name: str) -> Argument | None: ...
    def pack(self, name: str, values: Mapping[str, float | Sequence[float]]) -> bytes: ...

class Buffer(Handle):
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def private(self) -> bool: ...
    @property
    def readonly(self) -> bool: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

Size = tuple[int, int, int]
"""(x, y, z) of a grid or of a threadgroup."""

Transfer = tuple[Buffer, int, SupportsBuffer]
"""(buffer, byte offset, the host's bytes) of a write or read."""

Binding = tuple[int, Buffer, int, int]
"""(slot, buffer, byte offset, bytes) of one buffer argument."""

class Dispatch:
    kernel: Kernel
    bindings: tuple[Binding, ...]
    constants: tuple[int, bytes] | None
    threadgroups: Size
    rows_per_threadgroup: int
    label: str
    rows_member: str | None
    grid: Size | None
    threads: Size | None
    threadgroup_memory: dict[int, int]
    leading: bool
    uses: tuple[tuple[Buffer, bool], ...]
    counts: tuple[Buffer, int] | None

    def __init__(
        self,
        kernel: Kernel,
        bindings: Iterable[Binding],
        constants: tuple[int, bytes] | None = None,
        threadgroups: Sequence[int] = (1, 1, 1),
        rows_per_threadgroup: int = 0,
        label: str = "",
        *,
        rows_member: str | None = None,
        grid: Sequence[int] | None = None,
        threads: Sequence[int] | None = None,
        threadgroup_memory: Mapping[int, int] | None = None,
        leading: bool = False,
        uses: Iterable[tuple[Buffer, bool]] = (),
        counts: tuple[Buffer, int] | None = None,
    ) -> None: ...

class Chain(Handle):
    @property
    def label(self) -> str: ...
    @property
    def dispatches(self) -> tuple[Dispatch, ...]: ...
    def __len__(self) -> int: ...
    @property
    def conflicts(self) -> list[int]: ...
    def commit(self, rows: int = 0, leading: int = 0) -> Run: ...
    def run(self, rows: int = 0) -> Run: ...
    def trace(self, rows: int = 0) -> list[tuple[float, float]]: ...

class Run(Handle):
    def wait(self) -> None: ...
    @property
    def done(self) -> bool: ...
    @property
    def encode_seconds(self) -> float: ...
    @property
    def device_seconds(self) -> tuple[float, float]: ...

Access = tuple[int, int, int, bool]
"""(resource, begin, end, writes) of one argument of a dispatch, as plan_barriers reads it."""

def plan_barriers(dispatches: Iterable[Iterable[Access]]) -> list[int]: ...

class FileWatch: ...

def watch_file(memory: SupportsBuffer, name: str | os.PathLike[str], exit_code: int = 0) -> FileWatch: ...
