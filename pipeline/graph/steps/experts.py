"""The experts that the routing chose, and the dense MLP, which is one expert that every row chose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ...device.core import _core
from ...errors import BuildError, DTypeError, ShapeError
from ..kernel_names import kernel_name
from ..tensors import Tensor, VectorLike
from ..weights import Weight, WeightLike
from .linear import Linear

# From this many rows on, experts are worth grouping.
GROUPED_ROWS = 4


# The biases of gate, up and down.
Biases: TypeAlias = tuple[VectorLike | None, VectorLike | None, VectorLike | None]


class Mlp(NamedTuple):
    """A dense MLP beside the experts: gate_proj, up_proj [hidden, dim], down_proj [dim, hidden].
    gate_logit [1, dim], if given: its output counts σ(gate_logit · h) times (Qwen2-MoE)."""

    gate_proj: WeightLike
    up_proj: WeightLike
    down_proj: WeightLike
    gate_logit: WeightLike | None = None


@dataclass(frozen=True, eq=False)
class _Layer:
    """The stacks of a step, and the constants of the kernels that read them."""

    gate: Weight
    up: Weight
    biases: tuple[Tensor, ...]  # gate, up, down; where there is none, another tensor, bound but not read
    stored: tuple[int, ...]
    constants: dict[str, int]

    @property
    def into(self) -> dict[str, int]:
        """The constants of a kernel that reads gate and up."""
        count, hidden, dim = self.gate.shape
        return {
            **self.constants,
            "experts": count,
            "inputs": dim,
            "outputs": hidden,
            "group_size": self.gate.group_size,
            "bias": self.stored[0],
            "expert_rows": self.gate.expert_rows or hidden,
            "row_step": self.gate.row_step,
        }

    def out(self, down: Weight) -> dict[str, int]:
        """The constants of a kernel that reads down."""
        count, dim, hidden = down.shape
        return {
            **self.constants,
            "experts": count,
            "inputs": hidden,
            "outputs": dim,
            "group_size": down.group_size,
            "bias": self.stored[2],
            "expert_rows": dim,
            "row_step": 1,
        }


class Experts(Linear):
    def experts(
        self,
        h: Tensor,
        ids: Tensor,
        weights: Tensor,
        gate_proj: WeightLike,
        up_proj: WeightLike,
        down_proj: WeightLike,
        name: str = "experts",
        *,
        activation: str = "silu",
        biases: Biases | None = None,
        shared: Sequence[WeightLike] | None = None,
        grouped: bool | None = None,
    ) -> Tensor:
        """Σ_k weights[k] · down(act(gate(h), up(h))) over the chosen experts: [R, dim].

        gate_proj, up_proj [experts, hidden, dim], down_proj [experts, dim, hidden]; ids never leave the
        device. OB_NONE among the ids adds nothing; any other id that is no expert fails the row.

        `activation`: "silu" and "gelu_tanh" act on the gate, which up multiplies; "swiglu_oai" is
        gpt-oss's. `biases` of gate, up and down: [experts, outputs] each. `shared`: the weights of an Mlp, which is
        added.

        `grouped` goes expert by expert, in two dispatches more, so that an expert's weights are read once for all of
        its rows; otherwise row by row. The default follows the number of rows. Both give the same bits.
        """
        gate, up, down = (
            self._stack(value, f"{name}.{part}")
            for value, part in ((gate_proj, "gate_proj"), (up_proj, "up_proj"), (down_proj, "down_proj"))
        )
        count, hidden, dim = gate.shape
        top_k = ids.shape[1]
        self.check_shape(down, name, count, dim, hidden)
        if down.expert_rows not in (0, dim) or down.row_step != 1:
            raise BuildError(
                f"{self.named(name)}: {down.name} is a part of a larger stack; only gate_proj and up_proj may be"
            )
        self.check_rows(ids, name, top_k, dtype="u32")
        self.check_rows(weights, name, top_k)
        layer = self._layer(h, gate, up, activation, biases, name, top_k)
        if grouped is None:
            grouped = self.rows >= GROUPED_ROWS
        y = (self._by_expert if grouped else self._by_row)(h, ids, weights, layer, down, name)
        return y if shared is None else self._add_shared(h, y, Mlp(*shared), activation, name + ".shared")

    def mlp(
        self,
        x: Tensor,
        gate_proj: WeightLike,
        up_proj: WeightLike,
        down_proj: WeightLike,
        activation: str = "silu",
        name: str = "mlp",
        *,
        biases: Biases | None = None,
        scale: float = 1.0,
        gate: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """scale · down(act(gate(x), up(x))), two dispatches: [R, dim].

        gate_proj, up_proj [hidden, dim], down_proj [dim, hidden]; `biases` of the three: [outputs] each.
        `activation` as for experts; `gate` [R, 1] and `add` [R, dim] as for linear.
        """
        gates, ups = (
            self.matrix(value, f"{name}.{part}") for value, part in ((gate_proj, "gate_proj"), (up_proj, "up_proj"))
        )
        gates, ups = (dataclasses.replace(weight, shape=(1, *weight.shape)) for weight in (gates, ups))
        gate_bias, up_bias, down_bias = biases or (None, None, None)
        layer = self._layer(x, gates, ups, activation, (gate_bias, up_bias, None), name, 1, dense=1)
        hidden = gates.shape[1]
        inner = self.scratch(name + ".inner", (self.rows, hidden))
        grouped = self.rows >= GROUPED_ROWS
        # The kernel touches neither ids nor pairs nor the status: other tensors are bound instead.
        kernel, reads, writes = "", [x, x], [inner, inner]
        if grouped:
            kernel, reads, writes = "_grouped", [x, x, x], [inner]
        self.add(
            name + ".gate_up",
            kernel_name(f"experts_gate_up{kernel}", gates.format),
            (*gates.parts, *ups.parts, *reads, *layer.biases[:2]),
            writes,
            layer.into,
            columns=math.ceil(hidden / _core.LINEAR_OUTPUTS),
            height=int(grouped),
        )
        return self.linear(inner, down_proj, down_bias, name + ".down", scale=scale, gate=gate, add=add)

    def _add_shared(self, h: Tensor, y: Tensor, shared: Mlp, activation: str, name: str) -> Tensor:
        logit = None
        if shared.gate_logit is not None:
            logit = self.linear(h, shared.gate_logit, name=name + ".gate")
        return self.mlp(h, shared.gate_proj, shared.up_proj, shared.down_proj, activation, name, gate=logit, add=y)

    def _layer(
        self,
        h: Tensor,
        gate: Weight,
        up: Weight,
        activation: str,
        biases: Biases | None,
        name: str,
        top_k: int,
        dense: int = 0,
    ) -> _Layer:
        """Checks what concerns gate and up."""
        count, hidden, dim = gate.shape
        self.check_shape(up, name, count, hidden, dim)
        self.check_rows(h, name, dim)
        if (gate.format, gate.group_size) != (up.format, up.group_size):
            raise DTypeError(f"{self.named(name)}: gate_proj is {gate.format}, up_proj {up.format}; they must agree")
        if (gate.expert_rows, gate.row_step) != (up.expert_rows, up.row_step):
            raise BuildError(f"{self.named(name)}: the rows of gate_proj and up_proj lie apart differently")
        if activation not in _core.ACTIVATIONS:
            raise BuildError(f"{self.named(name)}: activation = {activation!r}; choose {', '.join(_core.ACTIVATIONS)}")
        given = biases or (None, None, None)
        lead = () if dense else (count,)
        parts = (("gate", hidden), ("up", hidden), ("down", dim))
        found = [self.bias(bias, f"{name}.{part}", (*lead, n), h) for bias, (part, n) in zip(given, parts, strict=True)]
        tensors, stored = tuple(bias for bias, _ in found), tuple(kind for _, kind in found)
        if stored[0] != stored[1]:
            raise DTypeError(f"{self.named(name)}: gate and up must both have a bias, of one dtype, or both none")
        constants = {
            "rows": self.rows,
            "top_k": top_k,
            "step": 0 if dense else self.failing_step(name),
            "dense": dense,
            "activation": _core.ACTIVATIONS[activation],
        }
        return _Layer(gate, up, tensors, stored, constants)

    def _by_row(self, h: Tensor, ids: Tensor, weights: Tensor, layer: _Layer, down: Weight, name: str) -> Tensor:
        (_, dim, hidden), tile = down.shape, _core.LINEAR_OUTPUTS
        inner = self.scratch(name + ".inner", (*ids.shape, hidden))
        self.add(
            name + ".gate_up",
            kernel_name("experts_gate_up", layer.gate.format),
            (*layer.gate.parts, *layer.up.parts, h, ids, *layer.biases[:2]),
            (inner, self.status()),
            layer.into,
            columns=math.ceil(hidden / tile),
            depth=ids.shape[1],
        )
        y = self.scratch(name, (self.rows, dim))
        self.add(
            name + ".down",
            kernel_name("experts_down", down.format),
            (*down.parts, inner, ids, weights, layer.biases[2]),
            (y,),
            layer.out(down),
            columns=math.ceil(dim / tile),
        )
        return y

    def _by_expert(self, h: Tensor, ids: Tensor, weights: Tensor, layer: _Layer, down: Weight, name: str) -> Tensor:
        (count, dim, hidden), tile, size = down.shape, _core.LINEAR_OUTPUTS, math.prod(ids.shape)
        pairs = self.scratch(name + ".pairs", (size,), "u32")
        offsets = self.scratch(name + ".offsets", (count + 1,), "u32")
        self.add(name + ".group", "group_experts", (ids,), (pairs, offsets, self.status()), layer.into, height=count)
        inner = self.scratch(name + ".inner", (size, hidden))  # in the order of pairs
        self.add(
            name + ".gate_up",
            kernel_name("experts_gate_up_grouped", layer.gate.format),
            (*layer.gate.parts, *layer.up.parts, h, pairs, offsets, *layer.biases[:2]),
            (inner,),
            layer.into,
            columns=math.ceil(hidden / tile),
            height=count,
        )
        products = self.scratch(name + ".products", (*ids.shape, dim))
        self.add(
            name + ".down",
            kernel_name("experts_down_grouped", down.format),
            (*down.parts, inner, pairs, offsets, layer.biases[2]),
            (products,),
            layer.out(down),
            columns=math.ceil(dim / tile),
            height=count,
        )
        y = self.scratch(name, (self.rows, dim))
        self.add(name + ".combine", "experts_combine", (products, ids, weights), (y,), layer.out(down))
        return y

    def _stack(self, value: WeightLike, name: str) -> Weight:
        weight = self.weight(value, name)
        if len(weight.shape) != 3:
            raise ShapeError(
                f"{self.named(name)}: weight has shape {weight.shape}, expected [experts, outputs, inputs]"
            )
        return weight
