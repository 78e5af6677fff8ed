"""Gates on the outputs of attention and of recurrent layers."""

from __future__ import annotations

import math

from ...device.core import _core
from ...errors import ShapeError
from ..step import Step
from ..tensors import Tensor, VectorLike
from .recurrent import TOGETHER, Spread, check_spread


class Gates(Step):
    def gated_norm(
        self,
        x: Tensor,
        weight: VectorLike,
        gate: Tensor,
        eps: float = 1e-6,
        *,
        heads: int = 0,
        gate_at: Spread = TOGETHER,
        gates_inputs: bool = False,
        name: str = "gated_norm",
    ) -> Tensor:
        """norm(x) · weight · silu(gate), head by head of x [R, heads · dim]; gates_inputs: norm(x · silu(gate)) ·
        weight. weight: f32 [dim], for all heads, or [heads · dim] where `heads` says how many there are. gate_at: where
        a row of `gate` has its heads."""
        scale = self.vector(weight, self.named(f"{name}.weight"))
        (numbers,) = scale.shape
        dim = numbers // (heads or 1)
        count = heads or x.shape[1] // dim
        self.check_rows(x, name, count * dim)
        check_spread(self, gate, gate_at, count, dim, name)
        y = self.scratch(name, (self.rows, count * dim))
        constants = {
            "rows": self.rows,
            "heads": count,
            "dim": dim,
            "gate_row": gate.shape[1],
            "gate_first": gate_at.first,
            "gate_group": gate_at.grouped(count),
            "gate_step": gate_at.step,
            "weight_step": dim if heads else 0,
            "gates_inputs": int(gates_inputs),
            "eps": eps,
        }
        columns = math.ceil(count / _core.GATED_HEADS)
        self.add(name, "gated_norm", (x, scale, gate), (y,), constants, columns=columns)
        return y

    def sigmoid_gate(
        self, x: Tensor, gate: Tensor, heads: int, *, first: int = 0, step: int = 0, name: str = "sigmoid_gate"
    ) -> Tensor:
        """x · σ(gate), element by element of x [R, heads · dim]. The gates of a head begin at number first + head ·
        step of a row of `gate`; step: 0 for dim."""
        dim = x.shape[1] // heads
        self.check_rows(x, name, heads * dim)
        return self._gate(x, Spread(0, 1, dim), gate, Spread(first, 1, step or dim), heads, dim, True, name)

    def product(
        self, x: Tensor, y: Tensor, dim: int, *, x_first: int = 0, y_first: int = 0, name: str = "product"
    ) -> Tensor:
        """x · y, element by element: [R, dim], of the `dim` numbers of a row from x_first and y_first on."""
        return self._gate(x, Spread(x_first, 1, dim), y, Spread(y_first, 1, dim), 1, dim, False, name)

    def _gate(
        self, x: Tensor, x_at: Spread, gate: Tensor, at: Spread, heads: int, dim: int, sigmoid: bool, name: str
    ) -> Tensor:
        if not heads * dim:
            raise ShapeError(f"{self.named(name)}: {heads} heads of {dim} are nothing to be gated")
        check_spread(self, x, x_at, heads, dim, name)
        check_spread(self, gate, at, heads, dim, name)
        y = self.scratch(name, (self.rows, heads * dim))
        constants = {
            "rows": self.rows,
            "heads": heads,
            "dim": dim,
            "x_row": x.shape[1],
            "x_first": x_at.first,
            "x_step": x_at.step,
            "gate_row": gate.shape[1],
            "gate_first": at.first,
            "gate_step": at.step,
            "sigmoid": int(sigmoid),
        }
        self.add(name, "gate_heads", (x, gate), (y,), constants, columns=math.ceil(heads / _core.GATED_HEADS))
        return y
