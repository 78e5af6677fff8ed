"""The header of a GGUF file, version 2 or 3: read, and checked against the file's size, before anything trusts it.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), all little-endian: "GGUF", version u32, number
of tensors u64, number of metadata pairs u64; the pairs (key, type u32, value); for each tensor its name, its number of
dimensions u32, those u64 with the contiguous one first, its type u32 and its offset u64 from the start of the data,
which is the next multiple of the alignment. Strings are a length u64 and UTF-8.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ...errors import CheckpointError, UnsupportedError
from ..files import open_file
from ..tensor_info import TensorInfo, quoted
from .types import block_type
from .values import FIX, MAX_KEY_BYTES, Cursor, key_name

__all__ = ["MAGIC", "Header", "parse_header", "read_header"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_PAIRS, MAX_TENSORS = 1 << 14, 1 << 16  # the largest real files have some 100 pairs and 2,000 tensors
MAX_HEADER_BYTES = 1 << 28  # vocabularies are most of a header: some 20 MB

_LEAST_PAIR = 8 + 4 + 1  # an empty key, a type and a byte
_LEAST_TENSOR = 8 + 4 + 4 + 8  # a name, no dimension, type and offset
_OLDER = {b"ggml": "GGML", b"lmgg": "GGML", b"ggmf": "GGMF", b"fmgg": "GGMF", b"ggjt": "GGJT", b"tjgg": "GGJT"}


_Entry: TypeAlias = tuple[list[int], int, int]  # dimensions, the number of the type, offset


@dataclass(frozen=True)
class Header:
    """A checked header. `size` is the file's size when it was checked; arrays of `metadata` are read when used."""

    file: Path
    size: int
    version: int
    alignment: int
    data_offset: int
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read_header(file: Path) -> Header:
    """The checked header of `file`. CheckpointError names the file, the key or tensor, and what to do."""
    file = Path(file)
    try:
        with open_file(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size < len(MAGIC) + 4 + 8 + 8:
                raise CheckpointError(f"{file}: {size} bytes are too few for a GGUF file; {FIX}")
            data = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # shorter than a moment ago
        raise CheckpointError(f"{file}: its size changed while it was opened; wait until it is complete") from error
    return parse_header(file, data, size)


def parse_header(file: Path, data: bytes | mmap.mmap, size: int) -> Header:
    """The header in `data`, the bytes or the map of a file of `size` bytes."""
    cursor = Cursor(data, min(size, MAX_HEADER_BYTES), file)
    version = _version(cursor)
    tensor_count = _count(cursor, "tensors", MAX_TENSORS)
    pair_count = _count(cursor, "metadata pairs", MAX_PAIRS)
    cursor.need(
        pair_count * _LEAST_PAIR + tensor_count * _LEAST_TENSOR, f"{pair_count:,} pairs and {tensor_count:,} tensors"
    )
    metadata: dict[str, Any] = {}
    for _ in range(pair_count):
        _read_pair(cursor, metadata)
    alignment = _alignment(cursor, metadata)
    entries: dict[str, _Entry] = {}
    for _ in range(tensor_count):
        _read_tensor(cursor, entries)
    data_offset = -(-cursor.position // alignment) * alignment if entries else cursor.position
    tensors = {name: _placed(cursor, name, entry, data_offset, alignment, size) for name, entry in entries.items()}
    _check_overlap(cursor, tensors)
    return Header(file, size, version, alignment, data_offset, metadata, tensors)


def _version(cursor: Cursor) -> int:
    magic = bytes(cursor.data[: len(MAGIC)])
    if magic != MAGIC:
        if magic in _OLDER:
            raise UnsupportedError(f"{cursor.file}: {_OLDER[magic]}, the format before GGUF; convert the model again")
        raise CheckpointError(f"{cursor.file}: not a GGUF file: it starts with {magic!r}, not {MAGIC!r}; {FIX}")
    cursor.position = len(MAGIC)
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    if version & 0xFFFF == 0 and version:
        raise UnsupportedError(
            f"{cursor.file}: a big-endian GGUF file; convert it to little-endian, for example with gguf-convert-endian"
        )
    raise UnsupportedError(
        f"{cursor.file}: version {version} of GGUF; versions 2 and 3 are supported: convert the model again"
    )


def _count(cursor: Cursor, what: str, most: int) -> int:
    count = cursor.u64(f"the number of {what}")
    if count > most:
        raise cursor.error(f"truncated, or not a GGUF file: it claims {count:,} {what}, of which {most:,} are possible")
    return count


def _read_pair(cursor: Cursor, metadata: dict[str, Any]) -> None:
    key = cursor.string("a metadata key", MAX_KEY_BYTES)
    if not key:
        raise cursor.error(f"a metadata key before byte {cursor.position:,} is empty")
    if key in metadata:
        raise cursor.error(f"{key_name(key)} appears twice")
    metadata[key] = cursor.value(key_name(key))


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.error(f'key "general.alignment" must be a power of two, found {quoted(repr(alignment))}')
    return alignment


def _read_tensor(cursor: Cursor, entries: dict[str, _Entry]) -> None:
    name = cursor.string("a tensor's name", MAX_KEY_BYTES)
    if name in entries:
        raise cursor.error(f"tensor {quoted(name)} appears twice")
    dimensions = cursor.u32(f"tensor {quoted(name)}")
    if dimensions > MAX_DIMENSIONS:
        raise cursor.error(f"tensor {quoted(name)} has {dimensions:,} dimensions, more than {MAX_DIMENSIONS}")
    extents = [cursor.u64(f"tensor {quoted(name)}") for _ in range(dimensions)]
    entries[name] = extents, cursor.u32(f"tensor {quoted(name)}"), cursor.u64(f"tensor {quoted(name)}")


def _placed(cursor: Cursor, name: str, entry: _Entry, data_offset: int, alignment: int, size: int) -> TensorInfo:
    """The tensor with its size, which follows from its type and shape and must lie inside the file."""
    extents, type_number, offset = entry

    def bad(what: str) -> CheckpointError:
        return cursor.error(f"tensor {quoted(name)}: {what}")

    try:
        block = block_type(type_number)
    except CheckpointError as error:
        raise UnsupportedError(f"{cursor.file}: tensor {quoted(name)} {error}") from None
    count = 1
    for extent in extents:
        count *= max(extent, 1)  # without the zeros: other readers multiply in 64 bits, in any order
        if count >= 2**63:
            raise bad(f"shape {extents[::-1]} has more elements than 64 bits count")
    if 0 in extents:
        count = 0
    if (extents[0] if extents else 1) % block.elements:
        raise bad(f"rows of {extents[0] if extents else 1:,} are not whole blocks of {block.elements} ({block.name})")
    nbytes = count // block.elements * block.nbytes
    if offset % alignment:
        raise bad(f"its offset {offset:,} is not a multiple of the alignment {alignment:,}")
    if offset + nbytes > size - data_offset:
        raise bad(f"its data ends at byte {data_offset + offset + nbytes:,}, the file at {size:,}: truncated")
    return TensorInfo(name, block.name, tuple(extents[::-1]), cursor.file, data_offset + offset, nbytes)


def _check_overlap(cursor: Cursor, tensors: dict[str, TensorInfo]) -> None:
    previous = None
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.nbytes)):
        if previous is not None and tensor.offset < previous.offset + previous.nbytes:
            raise cursor.error(
                f"tensor {quoted(tensor.name)} overlaps {quoted(previous.name)} at byte {tensor.offset:,}"
            )
        previous = tensor
