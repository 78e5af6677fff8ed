"""The experts that the routing chose, and the dense MLP, which is one expert that every row chose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ...device.core import _core
from ...errors import BuildError, ShapeError
from ..tensors import Tensor
from ..weights import MixedStack, StackLike, Weight, WeightLike
from .expert_kernels import ExpertKernels
from .expert_layer import Biases, ExpertLayer, Mlp, as_mlp


class Experts(ExpertKernels):
    def experts(
        self,
        h: Tensor,
        ids: Tensor,
        weights: Tensor,
        gate_proj: StackLike,
        up_proj: StackLike,
        down_proj: StackLike,
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
        scales_inputs, which goes without biases of gate and up. Where experts of one stack differ in format, all three
        are a MixedStack of the same parts, without biases; a part takes the dispatches of `grouped` and one more.

        `activation`: "silu", "gelu_tanh" and "relu" act on the gate, which up multiplies; "swiglu_oai" is
        gpt-oss's. An MLP without a gate, whose activation is relu², has "relu" and one matrix for both. `biases` of
        gate, up and down: [experts, outputs] each. `shared`: the weights of an Mlp, which is added.

        `grouped` goes expert by expert, in two dispatches more, so that an expert's weights are read once for all of
        its rows; otherwise row by row. The default follows the number of rows. Both give the same bits.
        """
        self.check_rows(ids, name, ids.shape[1], dtype="u32")
        self.check_rows(weights, name, ids.shape[1])
        given = gate_proj, up_proj, down_proj
        if any(isinstance(stack, MixedStack) for stack in given):
            y = self._by_part(h, ids, weights, given, activation, biases, scales_inputs, name)
        else:
            layer, down = self._stacks(h, ids, given, activation, biases, scales_inputs, name)
            if grouped is None:
                grouped = self.rows >= self.choices.grouped_rows
            scales = weights if scales_inputs else None
            y = (self._by_expert if grouped else self._by_row)(h, ids, weights, scales, layer, down, name)
        return y if shared is None else self._add_shared(h, y, as_mlp(shared), activation, name + ".shared")

    def _stacks(
        self,
        h: Tensor,
        ids: Tensor,
        given: Sequence[Any],
        activation: str,
        biases: Biases | None,
        scales_inputs: bool,
        name: str,
    ) -> tuple[ExpertLayer, Weight]:
        """Checks gate, up and down of one format each."""
        names = ("gate_proj", "up_proj", "down_proj")
        gate, up, down = (self._stack(value, f"{name}.{part}") for value, part in zip(given, names))
        count, hidden, dim = gate.shape
        self.check_shape(down, name, count, dim, hidden)
        if down.expert_rows not in (0, dim) or down.row_step != 1:
            raise BuildError(
                f"{self.named(name)}: {down.name} is a part of a larger stack; only gate_proj and up_proj may be"
            )
        layer = self._layer(h, gate, up, activation, biases, name, ids.shape[1])
        if scales_inputs and any(layer.stored[:2]):
            raise BuildError(f"{self.named(name)}: scales_inputs goes without biases of gate and up")
        return layer, down

    def _by_part(
        self,
        h: Tensor,
        ids: Tensor,
        weights: Tensor,
        given: Sequence[Any],
        activation: str,
        biases: Biases | None,
        scales_inputs: bool,
        name: str,
    ) -> Tensor:
        """Experts of several formats: each part makes the products of the pairs that chose one of its experts."""
        members = {stack.members if isinstance(stack, MixedStack) else () for stack in given}
        if len(members) > 1 or any(bias is not None for bias in biases or ()):
            raise BuildError(f"{self.named(name)}: mixed stacks have the same parts and no biases")
        products = left = None
        count = given[0].count
        for i, stacks in enumerate(zip(*(stack.parts for stack in given))):
            part = f"{name}.part{i}"
            layer, down = self._stacks(h, ids, stacks, activation, None, scales_inputs, part)
            numbers = self.vector(given[0].numbers(i), self.named(f"{part}.numbers"))
            chosen = self.scratch(f"{part}.ids", ids.shape, "u32")
            constants = {**layer.into, "experts": count}
            self.add(f"{part}.ids", "experts_of_part", (ids, numbers), (chosen,), constants)
            if products is None:
                products = self.scratch(f"{name}.products", (*ids.shape, down.shape[1]))
            self.check_shape(down, part, down.shape[0], products.shape[2], down.shape[2])
            left = self._products(h, chosen, weights if scales_inputs else None, layer, down, products, part)
        assert products is not None
        mix = weights if left is None else left
        return self._combine(products, ids, mix, {**layer.out(down), "experts": count}, name)

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
        grouped = self.rows >= self.choices.grouped_rows
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

    def _stack(self, value: WeightLike, name: str) -> Weight:
        weight = self.weight(value, name)
        if len(weight.shape) != 3:
            raise ShapeError(
                f"{self.named(name)}: weight has shape {weight.shape}, expected [experts, outputs, inputs]"
            )
        if weight.order is not None:
            raise BuildError(f"{self.named(name)}: the columns of {weight.name} have an order; only projections' may")
        return weight
