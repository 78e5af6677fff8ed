"""The arguments of a call, held against the kernel's signature: every mistake gets one clear line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from ..errors import BuildError, DTypeError, ShapeError
from .buffers import Buffer
from .core import _core

__all__ = ["Sizes", "Value", "check_count", "check_elements", "check_names", "check_value", "three"]

Sizes: TypeAlias = int | Sequence[int]
"""x, (x, y) or (x, y, z); what is left out is 1."""

Value: TypeAlias = np.ndarray | np.generic | Buffer
"""A buffer argument of a kernel."""


def check_count(kernel: str, wanted: Sequence[_core.Argument], given: int) -> None:
    """Demands one value for each argument."""
    if given == len(wanted):
        return
    names = ", ".join(f"{each.name} [[buffer({each.index})]]" for each in wanted) or "none"
    count = f"{len(wanted)} argument{'' if len(wanted) == 1 else 's'}"
    raise BuildError(f"kernel {kernel}: takes {count}, {names}; {given} given")


def check_names(kernel: str, given: Iterable[str], known: Sequence[str], what: str, where: str) -> None:
    """Demands that the names in the setting `where` are among the kernel's arguments of the kind `what`."""
    for name in given:
        if name not in known:
            raise BuildError(
                f"kernel {kernel}: {where} names {name!r}, which is no {what}; it has {', '.join(known) or 'none'}"
            )


def check_value(kernel: str, argument: _core.Argument, value: object, *, may_write: bool) -> None:
    """Demands that an argument of a kernel can be bound to the value: elements of its size, and memory to write."""
    where = f"kernel {kernel}: {argument.name} [[buffer({argument.index})]]"
    if not isinstance(value, (Buffer, np.ndarray, np.generic)):
        raise DTypeError(
            f"{where} is {type(value).__name__}; give a NumPy array or value, such as np.uint32(4), or a Buffer"
        )
    if argument.members and not isinstance(value, Buffer) and value.dtype.names is None:
        raise DTypeError(
            f"{where} is a struct of {', '.join(argument.members)}, not {value.dtype}; "
            "give its members in constants, or an array of records"
        )
    check_elements(where, value, argument.size, writes=argument.writes, may_write=may_write)


def check_elements(
    where: str, value: np.ndarray | np.generic | Buffer, size: int, *, writes: bool, may_write: bool
) -> None:
    """Demands elements of `size` bytes, and memory that can be written where the kernel does; `may_write`: an array
    is copied back. Bytes may be anything."""
    if isinstance(value, Buffer):
        if value.nbytes < size:
            raise ShapeError(f"{where} needs {size} bytes or more, the buffer has {value.nbytes}")
        return
    if writes and not may_write:
        raise BuildError(f"{where} is written; give device.buffer(array), whose .array shows the result")
    if writes and not (isinstance(value, np.ndarray) and value.flags.writeable):
        raise BuildError(f"{where} is written; give an array that can be written, or a Buffer")
    if not value.nbytes:
        raise ShapeError(f"{where} has shape {value.shape}; give one element or more")
    last = value.shape[-1] if value.shape else 1
    if size not in (value.dtype.itemsize, value.dtype.itemsize * last):
        raise DTypeError(
            f"{where} has elements of {size} bytes, the array is {value.dtype} {value.shape}, "
            f"of {value.dtype.itemsize}; convert it, or give a vector's numbers as its last axis"
        )


def three(kernel: str, what: str, sizes: Sizes) -> tuple[int, int, int]:
    """(x, y, z) of a grid or of a threadgroup."""
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if not 1 <= len(given) <= 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in given):
        raise BuildError(f"kernel {kernel}: {what} = {sizes!r}; give one to three whole numbers of at least 1")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z
