"""Heads that are normed and turned, and go to no cache."""

from __future__ import annotations

import math

from ...device.core import _core
from ...errors import ShapeError
from ..step import Step
from ..tensors import Tensor, VectorLike
from .attention import NO_PLACE


class Heads(Step):
    def heads(
        self,
        x: Tensor,
        heads: int,
        norm: VectorLike | None = None,
        table: Tensor | None = None,
        eps: float = 1e-6,
        *,
        weight_offset: float = 0.0,
        interleaved: bool = False,
        flat: bool = False,
        name: str = "heads",
    ) -> Tensor:
        """The heads of x [R, heads · head_dim], normed by the weights `norm` [head_dim] and turned, as
        `heads_to_cache` does with queries: [R, heads, head_dim], or `flat`
        as x. For heads that go to no cache."""
        width = x.shape[-1]
        self.check_rows(x, name, width)
        if heads < 1 or width % heads:
            raise ShapeError(f"{self.named(name)}: {x.name} has {width} numbers, which are not {heads} heads")
        dim, half = width // heads, 0
        if table is not None:
            half = table.shape[-1]
            self.check_rows(table, name, 2, half)
            if 2 * half > dim:
                turns = f"{table.name} turns {2 * half} numbers of a head"
                raise ShapeError(f"{self.named(name)}: {turns}, which has {dim}")
        weight, kind = x, 0
        if norm is not None:
            weight, kind = self.float_vector(norm, "norm", f"{name}.norm", ((dim,),), name), _core.NORM_HEAD
        y = self.scratch(name, (self.rows, width) if flat else (self.rows, heads, dim))
        self.add(  # without keys and values: y stands for their caches, which are not touched
            name,
            f"heads_to_cache_{weight.dtype}_f32",
            (x, x, x, weight, weight, x if table is None else table, x, x, x),
            (y, y, y, self.status()),
            {
                "rows": self.rows,
                "heads": heads,
                "kv_heads": 0,
                "head_dim": dim,
                "q_head": dim,
                "v_dim": dim,
                "slots": 1,
                "width": 1,
                "blocks": 1,
                "ring": 0,
                "step": self.failing_step(name, NO_PLACE),
                "half_dim": half,
                "interleaved": int(interleaved),
                "norm": kind,
                "norm_values": 0,
                "eps": eps,
                "weight_offset": weight_offset,
                "clip": 0.0,
            },
            columns=math.ceil(heads / _core.ROPE_HEADS),
        )
        return y
