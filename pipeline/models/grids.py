"""Where scales of a matrix stand: one for all, per output, per group of inputs, or per block of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoints.packed.scheme import Packing
from ..checkpoints.tensor_info import TensorInfo
from ..errors import UnsupportedError
from ..graph.formats import either
from ..graph.tensors import Shape
from .taking import Taker

__all__ = ["Grid", "find_scales"]


@dataclass(frozen=True)
class Grid:
    """Scales `shape` [a, b], each of which `tall` outputs and `wide` inputs share."""

    tall: int
    wide: int
    shape: tuple[int, int]

    def spread(self, values: np.ndarray, rows: int, columns: int, group: int) -> np.ndarray:
        """Values [..., a, b], or one for all, as [..., rows, columns / group]."""
        if not np.ndim(values):
            return np.asarray(values)
        of_row, of_group = np.arange(rows) // self.tall, np.arange(columns // group) * group // self.wide
        return values[..., of_row[:, None], of_group[None, :]]

    def group(self, columns: int, sizes: Sequence[int], what: str) -> int:
        """The largest of the sizes of groups that kernels read, in which all inputs share a scale. UnsupportedError
        names `what` where there is none."""
        unit = math.gcd(columns, self.wide) if self.shape[1] > 1 else columns
        fitting = [size for size in sizes if unit % size == 0]
        if not fitting:
            raise UnsupportedError(
                f"{what}: {columns:,} inputs in groups of {min(self.wide, columns):,} are not supported; groups and "
                f"inputs must be multiples of {either(tuple(sizes))}; use the model in bf16"
            )
        return max(fitting)


def find_scales(
    load: Taker, names: Sequence[str], shape: Shape, dtypes: Sequence[str], packing: Packing
) -> tuple[TensorInfo, Grid]:
    """The scales of a weight of `shape`, by the first of the names that is there, and where they stand: their shape
    says it."""
    name = next((name for name in names if load.has(name)), names[0])
    lead, (rows, columns) = shape[:-2], shape[-2:]
    one, per_row = Grid(rows, columns, (1, 1)), Grid(1, columns, (rows, 1))
    forms: dict[Shape, Grid] = {(): one, (1,): one, (rows,): per_row}
    wanted: Shape = (rows, 1)
    sizes = (1, packing.group_size) if packing.group_size else packing.block
    if all(sizes):
        a, b = wanted = -(-rows // sizes[0]), -(-columns // sizes[1])
        forms |= dict.fromkeys(((a, b), (a, 1, b, 1)), Grid(*sizes, (a, b)))
    else:
        forms |= {(1, 1): one, (rows, 1): per_row}
    own = load.checkpoint.tensors.get(name)
    if own is not None and own.shape[: len(lead)] == lead and own.shape[len(lead) :] in forms:
        wanted = own.shape[len(lead) :]
    return load.info(name, (*lead, *wanted), dtypes), forms[wanted]
