"""The experts that the routing chose."""

from __future__ import annotations

import math

from ..errors import DTypeError, ShapeError
from ..tensors import Tensor, Weight
from .limits import core


class Experts:
    def experts(self, h: Tensor, ids: Tensor, weights: Tensor, gate_proj, up_proj, down_proj,
                name: str = "experts") -> Tensor:
        """Σ_k weights[k] · down(silu(gate(h)) · up(h)) over the chosen experts: [R, dim].

        gate_proj, up_proj [experts, hidden, dim], down_proj [experts, dim, hidden]; ids never leave the
        device. OB_NONE among the ids adds nothing; any other id that is no expert fails the row.
        """
        gate, up, down = (self._stack(value, f"{name}.{part}") for value, part in
                          ((gate_proj, "gate_proj"), (up_proj, "up_proj"), (down_proj, "down_proj")))
        count, hidden, dim = gate.shape
        top_k = ids.shape[1]
        self.check_shape(up, name, count, hidden, dim)
        self.check_shape(down, name, count, dim, hidden)
        self.check_rows(h, name, dim)
        self.check_rows(ids, name, top_k, dtype="u32")
        self.check_rows(weights, name, top_k)
        if (gate.format, gate.group_size) != (up.format, up.group_size):
            raise DTypeError(f"{self.named(name)}: gate_proj is {gate.format}, up_proj {up.format}; they must agree")
        status, tile = self.status(), core().LINEAR_OUTPUTS
        inner = self.scratch(name + ".inner", (self.rows, top_k, hidden))
        constants = {"rows": self.rows, "experts": count, "top_k": top_k, "step": self.failing_step(name)}
        self.add(name + ".gate_up", f"experts_gate_up_{gate.format}", (*gate.parts, *up.parts, h, ids), (inner, status),
                 {**constants, "inputs": dim, "outputs": hidden, "group_size": gate.group_size},
                 columns=math.ceil(hidden / tile), depth=top_k)
        y = self.scratch(name, (self.rows, dim))
        self.add(name + ".down", f"experts_down_{down.format}", (*down.parts, inner, ids, weights), (y,),
                 {**constants, "inputs": hidden, "outputs": dim, "group_size": down.group_size},
                 columns=math.ceil(dim / tile))
        return y

    def _stack(self, value, name: str) -> Weight:
        weight = self.weight(value, name)
        if len(weight.shape) != 3:
            raise ShapeError(f"{self.named(name)}: weight has shape {weight.shape}, expected [experts, outputs, inputs]")
        return weight
