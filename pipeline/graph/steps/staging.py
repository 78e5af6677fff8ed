"""Activations staged for tensor cores: once for all projections that read them."""

from __future__ import annotations

import math

from ...device.core import _core
from ..plan import Constants
from ..step import Step
from ..tensors import Tensor
from ..weights import Weight

_GROUP = 64  # activations that share a scale
_CHUNKS = {"q4": 256, "q8": 128}  # columns that tensor cores take at a time; see shaders/weights/tensor.h
_FEWEST = 3  # chunks of a row


def takes(kind: str, constants: Constants) -> bool:
    """Whether tensor cores take a weight of "q4" or "q8" whose kernel is given these constants."""
    columns, chunk = constants["inputs"], _CHUNKS[kind]
    return constants["group_size"] == _GROUP and columns % chunk == 0 and columns >= _FEWEST * chunk


class Staging(Step):
    def staged(self, x: Tensor, weight: Weight, name: str, depth: int = 1) -> tuple[Tensor, Tensor] | None:
        """x [R · depth, columns] as integers of 16 bits, u32 [R · depth, columns / 2], and the scale and the sum of
        each 64, f32 [R · depth, columns / 64, 2], made for the step `name`. None where tensor cores do not take the
        weight, or where rows are few."""
        kind, columns = weight.format.partition("_")[0], weight.shape[-1]
        if not (self.tensor_cores and kind in _CHUNKS and self.rows * depth >= self.choices.staged_rows):
            return None
        if weight.order is not None or not takes(kind, {"inputs": columns, "group_size": weight.group_size}):
            return None
        if (x, kind) not in self.made_stages:
            count, name = x.shape[0], f"{name}.staged"
            octets = self.scratch(f"{name}.octets", (count, columns // 2), "u32")
            groups = self.scratch(f"{name}.groups", (count, columns // _GROUP, 2))
            self.add(
                name,
                f"stage_activations_{kind}",
                (x,),
                (octets, groups),
                {"rows": self.rows, "columns": columns, "depth": depth},
                columns=math.ceil(columns / 8 / _core.STAGE_THREADS),
                depth=depth,
            )
            self.made_stages[x, kind] = octets, groups
        return self.made_stages[x, kind]
