"""The header of a GGUF file, version 3: metadata, tensors, and where each tensor lies."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from ..checkpoints.gguf.types import TYPES
from ..checkpoints.gguf.values import ARRAY, BOOL, SCALARS, STRING, Array
from ..errors import CheckpointError
from .encoding import tensor_bytes
from .shards import Shard
from .tensors import Output

__all__ = ["Typed", "make_file"]

ALIGNMENT = 32
U8, U32, I32, F32, U64, I64 = 0, 4, 5, 6, 10, 11
NUMBERS = {block.name: number for number, block in TYPES.items()}
MOST_DIMENSIONS = 4


class Typed:
    """A value with the number of its type, where that is not the one for its Python type."""

    def __init__(self, kind: int, value: Any) -> None:
        self.kind = kind
        self.value = value


def make_file(name: str, metadata: Mapping[str, Any], outputs: list[Output]) -> Shard:
    """The file with that name in which the outputs lie one behind another."""
    shard = Shard(name, outputs)
    entries, end, begins = b"", 0, {}
    for output in outputs:
        for tensor, dtype, shape in output.parts():
            if len(shape) > MOST_DIMENSIONS:
                raise CheckpointError(f"{tensor}: has {len(shape)} dimensions, more than GGUF's {MOST_DIMENSIONS}")
            form = f"<I{len(shape)}QIQ"
            entries += _text(tensor) + struct.pack(form, len(shape), *reversed(shape), NUMBERS[dtype], end)
            begins[tensor] = end
            end += -(-tensor_bytes(dtype, shape) // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(begins), len(metadata))
    head += b"".join(_text(key) + struct.pack("<I", _kind(value)) + _value(value) for key, value in metadata.items())
    head += entries
    head += bytes(-len(head) % ALIGNMENT)
    shard.header = head
    shard.offsets = {tensor: len(head) + begin for tensor, begin in begins.items()}
    shard.size = len(head) + end
    return shard


def _kind(value: Any) -> int:
    if isinstance(value, Typed):
        return value.kind
    if isinstance(value, (list, Array)):
        return ARRAY
    if isinstance(value, int) and not isinstance(value, bool):
        return U32 if 0 <= value < 2**32 else U64 if value >= 0 else I32 if value >= -(2**31) else I64
    return {bool: BOOL, float: F32, str: STRING}[type(value)]


def _value(value: Any) -> bytes:
    if isinstance(value, Array):
        items = list(value)
        return struct.pack("<IQ", value.kind, len(items)) + b"".join(_item(value.kind, item) for item in items)
    if isinstance(value, list):
        kinds = {_kind(item) for item in value} or {U32}
        kind = kinds.pop() if len(kinds) == 1 else F32 if F32 in kinds else I32
        bare = (item.value if isinstance(item, Typed) else item for item in value)
        return struct.pack("<IQ", kind, len(value)) + b"".join(_item(kind, item) for item in bare)
    return _item(_kind(value), value.value if isinstance(value, Typed) else value)


def _item(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        return _value(value)
    return SCALARS[kind].pack(value)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
