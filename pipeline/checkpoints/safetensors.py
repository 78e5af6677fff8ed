"""The header of a safetensors file, read and checked against the file's size before anything is mapped.

The format (https://huggingface.co/docs/safetensors): eight bytes of little-endian header length N, N bytes of JSON
that may end in spaces, then the data. The JSON maps a tensor's name to its dtype, its shape and its span within the
data. Spans follow one another without gaps or overlaps and end where the file ends, so a header that passes
`read_header` cannot make a later mapping read outside the file or outside its own tensor.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import CheckpointError
from .files import open_file, repeated_key
from .tensor_info import TensorInfo, quoted

__all__ = ["DTYPE_BITS", "Header", "read_header"]

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
MAX_DIMENSIONS = 16
_MAX_EXTENT = 2**63 - 1

_FIX = "download or convert the file again"

# Bits per element. Types below one byte exist (F4, F6_*): a tensor of them must fill whole bytes.
DTYPE_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True)
class Header:
    """A checked header. `size` is the file's size when it was checked, in bytes."""

    file: Path
    size: int
    data_offset: int
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def read_header(file: Path) -> Header:
    """The checked header of `file`. CheckpointError names the file, the tensor and what to do."""
    file = Path(file)
    try:
        with open_file(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            raw = _read_raw(file, stream, size)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    entries = _parse(file, raw)
    metadata = _metadata(file, entries.pop("__metadata__", None))
    data_offset = 8 + len(raw)
    tensors = {name: _tensor(file, name, entry, data_offset, size) for name, entry in entries.items()}
    _check_spans(file, tensors, data_offset, size)
    return Header(file, size, data_offset, tensors, metadata)


def _read_raw(file: Path, stream: FileIO, size: int) -> bytes:
    """The header's bytes; its length is checked against the file before anything is read."""
    if size < 8:
        raise CheckpointError(f"{file}: {size} bytes are too few for a safetensors file; {_FIX}")
    length = int.from_bytes(_read_exactly(file, stream, 8), "little")
    if length > MAX_HEADER_BYTES or length > size - 8:
        found = f"its header claims {length:,} bytes, the file has {size:,}"
        raise CheckpointError(f"{file}: truncated, or not a safetensors file: {found}; {_FIX}")
    return _read_exactly(file, stream, length)


def _read_exactly(file: Path, stream: FileIO, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = stream.read(count - len(parts))
        if not part:
            raise CheckpointError(f"{file}: it ends inside its header; {_FIX}")
        parts += part
    return bytes(parts)


def _parse(file: Path, raw: bytes) -> dict[str, Any]:
    """The header as a dictionary; a name that comes twice is refused, where `json` would keep the last one."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if (key := repeated_key(pairs)) is not None:
            raise CheckpointError(f"{file}: header: {quoted(key)} appears twice; {_FIX}")
        return dict(pairs)

    if not raw.startswith(b"{"):
        raise CheckpointError(f"{file}: not a safetensors file: its header does not start with a brace; {_FIX}")
    try:
        entries: dict[str, Any] = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: header: not UTF-8 at byte {8 + error.start}; {_FIX}") from error
    except RecursionError as error:
        raise CheckpointError(f"{file}: header: nested too deeply; {_FIX}") from error
    except ValueError as error:  # JSONDecodeError, and integers too long to convert
        raise CheckpointError(f"{file}: header: not JSON: {error}; {_FIX}") from error
    return entries


def _metadata(file: Path, metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{file}: header: __metadata__ must map strings to strings; {_FIX}")
    return metadata


def _tensor(file: Path, name: str, entry: object, data_offset: int, size: int) -> TensorInfo:
    """The checked tensor of one entry: each field has its type, the shape takes the span's bytes, the span lies inside
    the file."""

    def bad(what: str) -> CheckpointError:
        return CheckpointError(f"{file}: tensor {quoted(name)}: {what}; {_FIX}")

    if not isinstance(entry, dict):
        raise bad(f"its entry is {_kind(entry)}, not an object")
    dtype, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise bad(f"dtype {quoted(dtype)} is not one that safetensors defines")
    if not _is_extents(shape) or len(shape) > MAX_DIMENSIONS:
        raise bad(f"shape {quoted(shape)} is not a list of at most {MAX_DIMENSIONS} sizes")
    if not _is_extents(span) or len(span) != 2:
        raise bad(f"data_offsets {quoted(span)} is not a pair of byte offsets")
    begin, end = span
    if begin > end:
        raise bad(f"its data begins at {begin:,} and ends before that, at {end:,}")
    if end > size - data_offset:
        raise bad(f"its data ends at byte {data_offset + end:,}, the file at {size:,}: truncated")
    bits = DTYPE_BITS[dtype]
    for extent in shape:
        bits *= extent
        if bits >= 2**64:  # on the way to a size of 0 too: other readers count in 64 bits
            raise bad(f"shape {quoted(shape)} of {dtype} takes over 2⁶⁴ bits, its data has {end - begin:,} bytes")
    if bits % 8:
        raise bad(f"shape {shape} of {dtype} does not fill whole bytes")
    if bits // 8 != end - begin:
        raise bad(f"shape {quoted(shape)} of {dtype} takes {_count(bits // 8)} bytes, its data has {end - begin:,}")
    return TensorInfo(name, dtype, tuple(shape), file, data_offset + begin, end - begin)


def _check_spans(file: Path, tensors: dict[str, TensorInfo], data_offset: int, size: int) -> None:
    """Checks that the spans tile the data: an overlap or a gap means that some offset is wrong."""
    position, previous = data_offset, ""
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.nbytes)):
        if tensor.offset < position:
            raise CheckpointError(
                f"{file}: tensor {quoted(tensor.name)} overlaps {quoted(previous)} at byte {tensor.offset:,}; {_FIX}"
            )
        if tensor.offset > position:
            gap = f"{tensor.offset - position:,} bytes before tensor {quoted(tensor.name)}"
            raise CheckpointError(f"{file}: {gap} belong to no tensor; {_FIX}")
        position, previous = tensor.offset + tensor.nbytes, tensor.name
    if position != size:
        raise CheckpointError(f"{file}: {size - position:,} bytes after the last tensor belong to none; {_FIX}")


def _is_extents(value: object) -> TypeGuard[list[int]]:
    """Whether this is a list of integers from 0 to 2**63 - 1; JSON's true and false are no integers."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _MAX_EXTENT for item in value)


def _kind(value: object) -> str:
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), type(value).__name__)


def _count(number: int) -> str:
    return f"{number:,}" if number <= _MAX_EXTENT else "more than 2**63"
