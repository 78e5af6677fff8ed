"""Files of the converted checkpoint: which tensors go into which, and where; all known before anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..checkpoints.checkpoint import WEIGHTS
from ..checkpoints.safetensors import DTYPE_BITS
from .encoding import tensor_bytes
from .tensors import Output

__all__ = ["MOST_BYTES", "Shard", "index", "make_shards"]

MOST_BYTES = 5_000_000_000  # of a file, as mlx-lm and Hugging Face keep it; a larger tensor has a file of its own
ALIGNMENT = 64  # where a file's data begins, so that it can be used where it is mapped
HEADER_BYTES = 512  # at most for one tensor, beside its name


@dataclass
class Shard:
    """One file: its outputs, its header, and where the bytes of each tensor lie in it."""

    name: str
    outputs: list[Output]
    header: bytes = b""
    offsets: dict[str, int] = field(default_factory=dict)  # from the start of the file
    size: int = 0


def make_shards(outputs: list[Output], most: int = MOST_BYTES) -> list[Shard]:
    """The outputs in their order, in as few files as their order allows."""
    groups: list[list[Output]] = []
    room = 0
    for output in outputs:
        needed = sum(tensor_bytes(dtype, shape) + HEADER_BYTES + 6 * len(name) for name, dtype, shape in output.parts())
        if not groups or needed > room:
            groups.append([])
            room = most - 1024
        groups[-1].append(output)
        room -= needed
    names = (
        [WEIGHTS]
        if len(groups) == 1
        else [f"model-{i:05}-of-{len(groups):05}.safetensors" for i in range(1, len(groups) + 1)]
    )
    return [_placed(Shard(name, group)) for name, group in zip(names, groups)]


def _placed(shard: Shard) -> Shard:
    """Places tensors of wide elements first, so that each lies at a multiple of its element's size."""
    parts = [part for output in shard.outputs for part in output.parts()]
    parts.sort(key=lambda part: -DTYPE_BITS[part[1]])
    entries: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, dtype, shape in parts:
        begin, end = end, end + tensor_bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        shard.offsets[name] = begin
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    shard.header = len(text).to_bytes(8, "little") + text
    shard.offsets = {name: len(shard.header) + begin for name, begin in shard.offsets.items()}
    shard.size = len(shard.header) + end
    return shard


def index(shards: list[Shard]) -> dict[str, Any]:
    """The contents of model.safetensors.index.json, which mlx-lm writes for a single file, too."""
    where = {name: shard.name for shard in shards for name in shard.offsets}
    total = sum(shard.size - len(shard.header) for shard in shards)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
