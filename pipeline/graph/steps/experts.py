"""The experts that the routing chose, and the dense MLP, which is one expert that every row chose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from ...device.core import _core
from ...errors import BuildError, ShapeError
from ..kernel_names import kernel_name
from ..plan import Constants
from ..tensors import Tensor
from ..weights import Weight, WeightLike
from .expert_layer import Biases, ExpertLayer, Mlp, as_mlp
from .linear import Linear

# From this many rows on, experts are worth grouping.
GROUPED_ROWS = 4


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
        shared: Mlp | Sequence[WeightLike] | None = None,
        scales_inputs: bool = False,
        grouped: bool | None = None,
    ) -> Tensor:
        """Σ_k weights[k] · down(act(gate(h), up(h))) over the chosen experts: [R, dim]; scales_inputs: Σ_k
        down(act(gate(weights[k] · h), up(weights[k] · h))).

        gate_proj, up_proj [experts, hidden, dim], down_proj [experts, dim, hidden]; ids never leave the
        device. OB_NONE among the ids adds nothing; any other id that is no expert fails the row.

        gate_proj and up_proj may differ in format; it then takes two dispatches more, and twice the products. So does
        scales_inputs, which goes without biases of gate and up.

        `activation`: "silu", "gelu_tanh" and "relu" act on the gate, which up multiplies; "swiglu_oai" is
        gpt-oss's. An MLP without a gate, whose activation is relu², has "relu" and one matrix for both. `biases` of
        gate, up and down: [experts, outputs] each. `shared`: the weights of an Mlp, which is added.

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
        if scales_inputs and any(layer.stored[:2]):
            raise BuildError(f"{self.named(name)}: scales_inputs goes without biases of gate and up")
        scales = weights if scales_inputs else None
        if grouped is None:
            grouped = self.rows >= GROUPED_ROWS
        y = (self._by_expert if grouped else self._by_row)(h, ids, weights, scales, layer, down, name)
        return y if shared is None else self._add_shared(h, y, as_mlp(shared), activation, name + ".shared")

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

        gate_proj, up_proj [hidden, dim], down_proj [dim, hidden]; `biases` of the three: [outputs] each. Where gate and
        up differ in format, there are four dispatches.
        `activation` as for experts; `gate` [R, 1] and `add` [R, dim] as for linear.
        """
        gates, ups = (
            self.matrix(value, f"{name}.{part}", ordered=True)
            for value, part in ((gate_proj, "gate_proj"), (up_proj, "up_proj"))
        )
        gates, ups = (dataclasses.replace(weight, shape=(1, *weight.shape)) for weight in (gates, ups))
        gate_bias, up_bias, down_bias = biases or (None, None, None)
        layer = self._layer(x, gates, ups, activation, (gate_bias, up_bias, None), name, 1, dense=1)
        hidden = gates.shape[1]
        inner = self.scratch(name + ".inner", (self.rows, hidden))
        grouped = self.rows >= GROUPED_ROWS
        # The kernel touches neither ids nor pairs nor the status: other tensors are bound instead.
        kernel, count = ("_grouped", 3) if grouped else ("", 2)
        columns, height = math.ceil(hidden / _core.LINEAR_OUTPUTS), int(grouped)
        of_gate, of_up = ([self.in_order(x, weight, name)] * count for weight in (gates, ups))
        also = [] if grouped else [inner]
        self._gate_up(layer, kernel, of_gate, inner, also, name, of_up=of_up, columns=columns, height=height)
        return self.linear(inner, down_proj, down_bias, name + ".down", scale=scale, gate=gate, add=add)

    def _add_shared(self, h: Tensor, y: Tensor, shared: Mlp, activation: str, name: str) -> Tensor:
        logit = None
        if shared.gate_logit is not None:
            logit = self.linear(h, shared.gate_logit, name=name + ".gate")
        parts = (shared.gate_proj, shared.up_proj, shared.down_proj)
        return self.mlp(h, *parts, activation, name, biases=shared.biases, gate=logit, add=y)

    def _gate_up(
        self,
        layer: ExpertLayer,
        kernel: str,
        reads: Sequence[Tensor],
        inner: Tensor,
        also: Sequence[Tensor],
        name: str,
        *,
        columns: int,
        of_up: Sequence[Tensor] | None = None,
        height: int = 0,
        depth: int = 1,
        offsets: Tensor | None = None,
        scales: Tensor | None = None,
    ) -> Tensor | None:
        """Adds the dispatch that makes `inner` of gate and up, by the kernel experts_gate_up + `kernel`, which writes
        `also` besides. Where gate and up differ in format, one each makes their products, and a last one joins them.
        of_up: what up reads, where that is not what gate reads.
        offsets: those of the pairs, where they are in the order of experts. scales: weights of pairs that count on the
        inputs; what is left for the outputs comes back."""
        gate_bias, up_bias, _ = layer.biases

        def add(
            gate: Weight,
            up: Weight,
            reads: Sequence[Tensor],
            bias: Tensor,
            other: Tensor,
            constants: Constants,
            y: Tensor,
            part: str,
        ) -> None:
            self.add(
                f"{name}.{part}",
                kernel_name(f"experts_gate_up{kernel}", gate.format),
                (*gate.parts, *up.parts, *reads, bias, other),
                (y, *(y if tensor is inner else tensor for tensor in also)),
                constants,
                columns=columns,
                height=height,
                depth=depth,
            )

        of_up = reads if of_up is None else of_up
        if layer.alike and scales is None and of_up[0] is reads[0]:
            add(layer.gate, layer.up, reads, gate_bias, up_bias, layer.into, inner, "gate_up")
            return None
        products = []
        for weight, own, bias, stored, part in zip(
            (layer.gate, layer.up), (reads, of_up), (gate_bias, up_bias), layer.stored, ("gate", "up")
        ):
            y = self.scratch(f"{name}.{part}", inner.shape)
            add(weight, weight, own, bias, bias, layer.reading(weight, stored, activation=_core.GATE_ALONE), y, part)
            products.append(y)
        grouped, ends = ("", []) if offsets is None else ("_grouped", [offsets])
        depth = layer.into["top_k"]
        if scales is None:
            reads = [*products, *ends]
            self.add(f"{name}.activate", f"experts_activate{grouped}", reads, (inner,), layer.into, depth=depth)
            return None
        ones = self.scratch(f"{name}.ones", scales.shape)
        reads = [*products, scales, *([] if offsets is None else [reads[1]]), *ends]
        self.add(f"{name}.activate", f"experts_scale{grouped}", reads, (inner, ones), layer.into, depth=depth)
        return ones

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
    ) -> ExpertLayer:
        """Checks what concerns gate and up."""
        count, hidden, dim = gate.shape
        self.check_shape(up, name, count, hidden, dim)
        self.check_rows(h, name, dim)
        if activation not in _core.ACTIVATIONS:
            raise BuildError(f"{self.named(name)}: activation = {activation!r}; choose {', '.join(_core.ACTIVATIONS)}")
        given = biases or (None, None, None)
        lead = () if dense else (count,)
        parts = (("gate", hidden), ("up", hidden), ("down", dim))
        found = [self.bias(bias, f"{name}.{part}", (*lead, n), h) for bias, (part, n) in zip(given, parts, strict=True)]
        tensors, stored = tuple(bias for bias, _ in found), tuple(kind for _, kind in found)
        constants = {
            "rows": self.rows,
            "top_k": top_k,
            "step": 0 if dense else self.failing_step(name),
            "dense": dense,
            "activation": _core.ACTIVATIONS[activation],
        }
        return ExpertLayer(gate, up, tensors, stored, constants)

    def _by_row(
        self,
        h: Tensor,
        ids: Tensor,
        weights: Tensor,
        scales: Tensor | None,
        layer: ExpertLayer,
        down: Weight,
        name: str,
    ) -> Tensor:
        (_, dim, hidden), tile = down.shape, _core.LINEAR_OUTPUTS
        inner = self.scratch(name + ".inner", (*ids.shape, hidden))
        columns, depth = math.ceil(hidden / tile), ids.shape[1]
        left = self._gate_up(
            layer, "", (h, ids), inner, (self.status(),), name, columns=columns, depth=depth, scales=scales
        )
        y = self.scratch(name, (self.rows, dim))
        self.add(
            name + ".down",
            kernel_name("experts_down", down.format),
            (*down.parts, inner, ids, weights if left is None else left, layer.biases[2]),
            (y,),
            layer.out(down),
            columns=math.ceil(dim / tile),
        )
        return y

    def _by_expert(
        self,
        h: Tensor,
        ids: Tensor,
        weights: Tensor,
        scales: Tensor | None,
        layer: ExpertLayer,
        down: Weight,
        name: str,
    ) -> Tensor:
        (count, dim, hidden), tile, size = down.shape, _core.LINEAR_OUTPUTS, math.prod(ids.shape)
        pairs = self.scratch(name + ".pairs", (size,), "u32")
        offsets = self.scratch(name + ".offsets", (count + 1,), "u32")
        self.add(name + ".group", "group_experts", (ids,), (pairs, offsets, self.status()), layer.into, height=count)
        inner = self.scratch(name + ".inner", (size, hidden))  # in the order of pairs
        columns = math.ceil(hidden / tile)
        reads = (h, pairs, offsets)
        left = self._gate_up(
            layer, "_grouped", reads, inner, (), name, columns=columns, height=count, offsets=offsets, scales=scales
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
        mix = weights if left is None else left
        self.add(name + ".combine", "experts_combine", (products, ids, mix), (y,), layer.out(down))
        return y

    def _stack(self, value: WeightLike, name: str) -> Weight:
        weight = self.weight(value, name)
        if len(weight.shape) != 3:
            raise ShapeError(
                f"{self.named(name)}: weight has shape {weight.shape}, expected [experts, outputs, inputs]"
            )
        if weight.order is not None:
            raise BuildError(f"{self.named(name)}: the columns of {weight.name} have an order; only projections' may")
        return weight
