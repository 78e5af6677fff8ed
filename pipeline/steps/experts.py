"""The experts that the routing chose."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import DTypeError, ShapeError
from ..tensors import Tensor, Weight
from .limits import core

# From this many rows on, experts are worth grouping.
GROUPED_ROWS = 4


@dataclass(frozen=True, eq=False)
class _Layer:
    """The matrices of a step, and the constants of the kernels that read them."""

    gate: Weight
    up: Weight
    down: Weight
    constants: dict

    @property
    def into(self) -> dict:
        """Of what reads gate and up."""
        count, hidden, dim = self.gate.shape
        return {**self.constants, "experts": count, "inputs": dim, "outputs": hidden, "group_size": self.gate.group_size}

    @property
    def out(self) -> dict:
        """Of what reads down."""
        count, dim, hidden = self.down.shape
        return {**self.constants, "experts": count, "inputs": hidden, "outputs": dim, "group_size": self.down.group_size}


class Experts:
    def experts(self, h: Tensor, ids: Tensor, weights: Tensor, gate_proj, up_proj, down_proj,
                name: str = "experts", *, grouped: bool | None = None) -> Tensor:
        """Σ_k weights[k] · down(silu(gate(h)) · up(h)) over the chosen experts: [R, dim].

        gate_proj, up_proj [experts, hidden, dim], down_proj [experts, dim, hidden]; ids never leave the
        device. OB_NONE among the ids adds nothing; any other id that is no expert fails the row.

        `grouped` goes expert by expert, in two dispatches more, so that rows share what is read of an
        expert; otherwise row by row. The default follows the number of rows. Both give the same bits.
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
        layer = _Layer(gate, up, down, {"rows": self.rows, "top_k": top_k, "step": self.failing_step(name)})
        if grouped is None:
            grouped = self.rows >= GROUPED_ROWS
        return (self._by_expert if grouped else self._by_row)(h, ids, weights, layer, name)

    def _by_row(self, h: Tensor, ids: Tensor, weights: Tensor, layer: _Layer, name: str) -> Tensor:
        (_, dim, hidden), tile = layer.down.shape, core().LINEAR_OUTPUTS
        inner = self.scratch(name + ".inner", (*ids.shape, hidden))
        self.add(name + ".gate_up", f"experts_gate_up_{layer.gate.format}", (*layer.gate.parts, *layer.up.parts, h, ids),
                 (inner, self.status()), layer.into, columns=math.ceil(hidden / tile), depth=ids.shape[1])
        y = self.scratch(name, (self.rows, dim))
        self.add(name + ".down", f"experts_down_{layer.down.format}", (*layer.down.parts, inner, ids, weights), (y,),
                 layer.out, columns=math.ceil(dim / tile))
        return y

    def _by_expert(self, h: Tensor, ids: Tensor, weights: Tensor, layer: _Layer, name: str) -> Tensor:
        (count, dim, hidden), tile, size = layer.down.shape, core().LINEAR_OUTPUTS, math.prod(ids.shape)
        pairs = self.scratch(name + ".pairs", (size,), "u32")
        offsets = self.scratch(name + ".offsets", (count + 1,), "u32")
        self.add(name + ".group", "group_experts", (ids,), (pairs, offsets, self.status()), layer.into, height=count)
        inner = self.scratch(name + ".inner", (size, hidden))   # in the order of pairs
        self.add(name + ".gate_up", f"experts_gate_up_grouped_{layer.gate.format}",
                 (*layer.gate.parts, *layer.up.parts, h, pairs, offsets), (inner,), layer.into,
                 columns=math.ceil(hidden / tile), height=count)
        products = self.scratch(name + ".products", (*ids.shape, dim))
        self.add(name + ".down", f"experts_down_grouped_{layer.down.format}", (*layer.down.parts, inner, pairs, offsets),
                 (products,), layer.out, columns=math.ceil(dim / tile), height=count)
        y = self.scratch(name, (self.rows, dim))
        self.add(name + ".combine", "experts_combine", (products, ids, weights), (y,), layer.out)
        return y

    def _stack(self, value, name: str) -> Weight:
        weight = self.weight(value, name)
        if len(weight.shape) != 3:
            raise ShapeError(f"{self.named(name)}: weight has shape {weight.shape}, expected [experts, outputs, inputs]")
        return weight
