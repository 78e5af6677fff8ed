"""The buffers of a run, each made when a dispatch first needs it: arguments, what structs point to, counts."""

from __future__ import annotations

import numpy as np

from ..device.core import _core
from ..errors import OnebufError, UsageError
from .buffers import BufferOption, storage
from .options import RunOptions
from .shaders import ArgumentInfo

__all__ = ["Memory"]


class Memory:
    """Buffers by the names that the options give them; `made` has those that a kernel can reach."""

    def __init__(self, device: _core.Device, options: RunOptions) -> None:
        self._device = device
        self._options = options.buffers
        self.made: dict[str, _core.Buffer] = {}

    def argument(self, name: str, kernel: _core.Kernel, argument: ArgumentInfo) -> _core.Buffer:
        """The buffer that is bound to an argument. A struct gets the layout that the argument has."""
        if name not in self.made:
            option = self._options[name]
            if option.members is None:
                return self.plain(name)
            self.made[name] = self._filled(name, np.frombuffer(self._packed(option, kernel, argument), np.uint8))
        return self.made[name]

    def plain(self, name: str) -> _core.Buffer:
        """A buffer whose contents say all about it."""
        if name not in self.made:
            option = self._options[name]
            if option.members is not None:
                raise UsageError(
                    f"--buffer {name}: only an argument of a kernel says how a struct lies in memory; give an array "
                    "of records, or bytes, as FILE.npy"
                )
            values = None if option.values is None else np.asarray(option.values, storage(option.dtype))
            self.made[name] = self._filled(name, values, option.nbytes)
        return self.made[name]

    def pointed(self, name: str, argument: ArgumentInfo) -> dict[str, tuple[str, bool]]:
        """The members that point to memory, such as "x" or "w[2]": the buffer's name, and whether it may be written."""
        found: dict[str, tuple[str, bool]] = {}
        for member, values in (self._options[name].members or {}).items():
            if member in argument.pointers:
                for number, value in enumerate(values):
                    if isinstance(value, str):
                        label = f"{member}[{number}]" if len(values) > 1 else member
                        found[label] = (value, argument.pointers[member][0])
        return found

    def _filled(self, name: str, values: np.ndarray | None, nbytes: int = 0) -> _core.Buffer:
        try:
            buffer = self._device.buffer(nbytes if values is None else values.nbytes)
        except OnebufError as error:
            raise UsageError(f"--buffer {name}: {error}") from None
        if values is not None:
            np.frombuffer(memoryview(buffer), values.dtype)[:] = values.reshape(-1)
        return buffer

    def _packed(self, option: BufferOption, kernel: _core.Kernel, argument: ArgumentInfo) -> bytes:
        if not argument.members:
            raise UsageError(
                f"--buffer {option.name}: '{argument.name}' ({argument.type}) has no members that numbers and names "
                "of buffers fill"
            )
        assert option.members is not None
        members: dict[str, float | list[float]] = {}
        for member, values in option.members.items():
            where = f"--buffer {option.name}: {argument.name}.{member}"
            found = [self._member(where, value, argument.pointers.get(member)) for value in values]
            members[member] = found if argument.counts.get(member, 1) > 1 or len(found) > 1 else found[0]
        try:
            return kernel.pack(argument.name, members)
        except OnebufError as error:
            raise UsageError(f"--buffer {option.name}: {error}") from None

    def _member(self, where: str, value: float | str, pointer: tuple[bool, int] | None) -> float:
        if pointer is None:
            if isinstance(value, str):
                raise UsageError(f"{where} takes a number, not the name {value!r}")
            return value
        if value == 0:
            return 0
        if not isinstance(value, str):
            raise UsageError(
                f"{where} points to memory; give the name of a --buffer, as in {where.rpartition('.')[2]}=weights, or 0"
            )
        if value not in self._options:
            raise UsageError(f"{where}: no --buffer has the name {value}")
        if self._options[value].members is None and self._options[value].nbytes < pointer[1]:
            raise UsageError(
                f"{where}: --buffer {value} has {self._options[value].nbytes} bytes, and one element has {pointer[1]}"
            )
        return self.plain(value).address
