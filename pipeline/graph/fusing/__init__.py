"""Where few rows decode on a GPU with tensor cores: fewer dispatches for a layer, with the same bits.

A norm goes into the kernels that read the normed row: who makes the row leaves the sums of its squares, and each reader
norms what it multiplies. Where one of the readers is a layer's experts, their routing goes along, too: each threadgroup
of gate and up chooses its expert by itself. Both halves of the experts are one dispatch where the GPU has all
threadgroups resident together. A layer of Qwen3 is five dispatches then, not nine (shaders/rows.metal,
shaders/rows_experts.metal).

rows      what all of these have: a dispatch of a kernel that takes one row at a time
experts   gate and up, and down
norms     norms, and the projections beside them
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plan import Dispatch
from ..tensors import Tensor
from .norms import Norms

__all__ = ["fuse"]

_MOST_ROWS = 3  # a threadgroup takes one row, so that each row reads the weights anew


def fuse(dispatches: Sequence[Dispatch], outputs: Sequence[Tensor], rows: int, cores: int = 0) -> list[Dispatch]:
    """The dispatches of a plan of `rows` rows, fewer where that is possible. outputs: values that are read later.
    cores: of the GPU, 0 where that is not known."""
    return list(dispatches) if rows > _MOST_ROWS else Norms(dispatches, outputs, rows, cores).result()
