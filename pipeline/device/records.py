"""Struct arguments from their members by name. A member that points to memory takes an array or a Buffer, whose address
is then its value; the kernel's dispatch names that memory to the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ..errors import BuildError
from .buffers import Buffer, new_buffer
from .core import _core
from .signature import check_elements

__all__ = ["Member", "Record", "Records", "pack"]

Member: TypeAlias = float | np.ndarray | Buffer | None | Sequence[float | np.ndarray | Buffer | None]
"""A number; memory for a member that points to it, None for a null pointer; or a list of them where it is an array."""

Record: TypeAlias = Mapping[str, Member]
"""The members of a struct by name."""


@dataclass
class Records:
    """Structs as bytes.

    uses     memory that they point to, and whether the kernel may write it
    written  what the kernel may write: what was given, and the memory that stands for it
    """

    data: bytes = b""
    uses: list[tuple[Buffer, bool]] = field(default_factory=list)
    written: list[tuple[np.ndarray | Buffer, Buffer]] = field(default_factory=list)


def pack(
    device: _core.Device,
    kernel: _core.Kernel,
    argument: _core.Argument,
    value: Record | Sequence[Record],
    *,
    may_write: bool,
) -> Records:
    """A struct, or an array of structs. BuildError and its kin say which member does not fit. `may_write`: arrays may
    stand for memory that the kernel writes."""
    records = Records()
    for each in [value] if isinstance(value, Mapping) else value:
        if not isinstance(each, Mapping):
            raise BuildError(f"kernel {kernel.name}: {argument.name} takes structs, members by name, not {each!r}")
        packer = _Packer(device, kernel.name, argument, records, may_write)
        members = {name: packer.value(name, member) for name, member in each.items()}
        records.data += kernel.pack(argument.name, members)
    return records


@dataclass(frozen=True)
class _Packer:
    device: _core.Device
    kernel: str
    argument: _core.Argument
    records: Records
    may_write: bool

    def value(self, name: str, member: Member) -> float | list[float]:
        """The value of a member in the bytes of its struct."""
        if name not in self.argument.pointers:
            return member  # type: ignore[return-value]  # the core refuses what is no number
        if isinstance(member, (list, tuple)):
            return [self._address(f"{name}[{number}]", name, each) for number, each in enumerate(member)]
        return self._address(name, name, member)

    def _address(self, label: str, name: str, given: object) -> int:
        writes, size = self.argument.pointers[name]
        where = f"kernel {self.kernel}: {self.argument.name}.{label}"
        if given is None:
            return 0
        if not isinstance(given, (Buffer, np.ndarray)):
            raise BuildError(f"{where} points to memory; give an array, a Buffer, or None, not {given!r}")
        check_elements(where, given, size, writes=writes, may_write=self.may_write)
        buffer = given if isinstance(given, Buffer) else new_buffer(self.device, given)
        self.records.uses.append((buffer, writes))
        if writes:
            self.records.written.append((given, buffer))
        return buffer.core.address
