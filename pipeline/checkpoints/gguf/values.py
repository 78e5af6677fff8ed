"""Metadata values of a GGUF file: a cursor that never leaves the file, and arrays that stay there until read."""

from __future__ import annotations

import functools
import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from ...errors import CheckpointError
from ..tensor_info import quoted

__all__ = ["FIX", "SCALARS", "STRING", "Array", "Cursor", "key_name"]

FIX = "download or convert the file again"

MAX_DEPTH = 4  # of arrays in arrays
MAX_KEY_BYTES = 65_535  # of a key, by the format; of a tensor's name, too

STRING, ARRAY, BOOL = 8, 9, 7
SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    BOOL: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = SCALARS[4], SCALARS[10]
_ARRAY_HEAD = struct.Struct("<IQ")
_LEAST_BYTES = {STRING: _U64.size, ARRAY: _ARRAY_HEAD.size} | {kind: scalar.size for kind, scalar in SCALARS.items()}


_Data: TypeAlias = bytes | mmap.mmap


class Cursor:
    """Reads a header front to back. `data` is the file's bytes or its map; the header may take the first `end` of them.

    Every read says what it is for, and nothing is read or counted that `end` does not leave room for.
    """

    def __init__(self, data: _Data, end: int, file: Path) -> None:
        self.data = data
        self.end = end
        self.file = file
        self.position = 0

    def error(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.file}: {what}; {FIX}")

    def need(self, count: int, what: str) -> None:
        """Raises CheckpointError unless `count` more bytes are there."""
        if count > self.end - self.position:
            raise self.error(
                f"truncated, or not a GGUF file: {what} at byte {self.position:,} takes {count:,} bytes, "
                f"{self.end - self.position:,} are left of its header"
            )

    def number(self, form: struct.Struct, what: str) -> Any:
        self.need(form.size, what)
        (value,) = form.unpack_from(self.data, self.position)
        self.position += form.size
        return value

    def u32(self, what: str) -> int:
        value: int = self.number(_U32, what)
        return value

    def u64(self, what: str) -> int:
        value: int = self.number(_U64, what)
        return value

    def string(self, what: str, most: int | None = None) -> str:
        length = self.u64(f"the length of {what}")
        if most is not None and length > most:
            raise self.error(f"{what} at byte {self.position:,} has {length:,} bytes, more than {most:,}")
        self.need(length, what)
        begin, self.position = self.position, self.position + length
        return _text(self.data, begin, self.position, lambda: self.error(f"{what} at byte {begin:,} is not UTF-8"))

    def value(self, what: str) -> bool | int | float | str | Array:
        """A metadata value with its type: a number, a bool, a str or an Array."""
        kind = self.u32(f"the type of {what}")
        if kind == STRING:
            return self.string(what)
        if kind == ARRAY:
            return self._array(what, 1)
        if kind not in SCALARS:
            raise self.error(f"{what} has value type {kind}, which is not one that GGUF defines")
        value: int | float = self.number(SCALARS[kind], what)
        if kind != BOOL:
            return value
        if value > 1:
            raise self.error(f"{what} is a boolean of value {value}, neither 0 nor 1")
        return bool(value)

    def _array(self, what: str, depth: int) -> Array:
        """An array, walked to its end, so that reading it later cannot fail for want of bytes."""
        if depth > MAX_DEPTH:
            raise self.error(f"{what} has arrays in arrays, more than {MAX_DEPTH} deep")
        kind, count = self.u32(f"the element type of {what}"), self.u64(f"the length of {what}")
        if kind not in _LEAST_BYTES:
            raise self.error(f"{what} has elements of type {kind}, which is not one that GGUF defines")
        self.need(count * _LEAST_BYTES[kind], f"{what}, with {count:,} elements,")
        begin = self.position
        if kind == STRING:
            self._skip_strings(count, what)
        elif kind == ARRAY:
            for _ in range(count):
                self._array(what, depth + 1)
        else:
            self.position += count * _LEAST_BYTES[kind]
        return Array(self, what, kind, count, begin)

    def _skip_strings(self, count: int, what: str) -> None:
        position, last, unpack, data = self.position, self.end - _U64.size, _U64.unpack_from, self.data
        for number in range(count):  # of a vocabulary: opening a file waits for this loop
            if position > last:
                raise self._outside(what, count, number)
            position += 8 + unpack(data, position)[0]
        if position > self.end:
            raise self._outside(what, count, count - 1)
        self.position = position

    def _outside(self, what: str, count: int, number: int) -> CheckpointError:
        return self.error(
            f"truncated: {what} has {count:,} strings, of which number {number:,} ends outside the header"
        )


class Array:
    """An array of the metadata, read from the file each time it is iterated; its length is known without that."""

    def __init__(self, cursor: Cursor, what: str, kind: int, count: int, begin: int) -> None:
        self._data, self._file = cursor.data, cursor.file
        self._what, self._count, self._begin = what, count, begin
        self.kind = kind

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self._what}: {self._count:,} elements>"

    def __iter__(self) -> Iterator[Any]:
        if self.kind == STRING:
            return self._strings()
        if self.kind == ARRAY:
            return self._arrays()
        if self.kind == BOOL:
            return map(bool, self._data[self._begin : self._begin + self._count])
        return self._numbers()

    def _numbers(self) -> Iterator[Any]:
        form = SCALARS[self.kind]
        raw = self._data[self._begin : self._begin + self._count * form.size]
        return (value for (value,) in form.iter_unpack(raw))

    def _strings(self) -> Iterator[str]:
        position, unpack, data = self._begin, _U64.unpack_from, self._data
        for i in range(self._count):
            begin = position + 8
            position = begin + unpack(data, position)[0]
            yield _text(data, begin, position, functools.partial(self._not_text, i))

    def _not_text(self, number: int) -> CheckpointError:
        return CheckpointError(f"{self._file}: {self._what}: string number {number:,} is not UTF-8; {FIX}")

    def _arrays(self) -> Iterator[Array]:
        cursor = Cursor(self._data, len(self._data), self._file)
        cursor.position = self._begin
        for _ in range(self._count):
            yield cursor._array(self._what, 1)


def _text(data: _Data, begin: int, end: int, error: Callable[[], CheckpointError]) -> str:
    try:
        return str(data[begin:end], "utf-8")
    except UnicodeDecodeError:
        raise error() from None


def key_name(key: str) -> str:
    """The name of a key in messages, whatever it holds."""
    return f"key {quoted(key)}"
