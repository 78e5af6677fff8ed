"""The dispatches of experts: row by row, or expert by expert."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...device.core import _core
from ..kernel_names import kernel_name
from ..plan import Constants
from ..tensors import Tensor
from ..weights import Weight
from .expert_layer import ExpertLayer
from .linear import Linear


class ExpertKernels(Linear):
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
            x, *rest = reads
            staged = self.staged(x, gate, f"{name}.{part}") if kernel else None
            family = f"experts_gate_up{kernel}"
            self.add(
                f"{name}.{part}",
                kernel_name(family if staged is None else f"staged_{family}", gate.format),
                (*gate.parts, *up.parts, *(staged or (x,)), *rest, bias, other),
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
        products = self.scratch(name + ".products", (*ids.shape, down.shape[1]))
        left = self._products(h, ids, scales, layer, down, products, name)
        return self._combine(products, ids, weights if left is None else left, layer.out(down), name)

    def _products(
        self,
        h: Tensor,
        ids: Tensor,
        scales: Tensor | None,
        layer: ExpertLayer,
        down: Weight,
        products: Tensor,
        name: str,
    ) -> Tensor | None:
        """Writes down(…) of the pairs whose ids are experts to their places in `products`; see `_gate_up`."""
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
        staged = self.staged(inner, down, name + ".down", ids.shape[1])
        self.add(
            name + ".down",
            kernel_name("experts_down_grouped" if staged is None else "staged_experts_down_grouped", down.format),
            (*down.parts, *(staged or (inner,)), pairs, offsets, layer.biases[2]),
            (products,),
            layer.out(down),
            columns=math.ceil(dim / tile),
            height=count,
        )
        return left

    def _combine(self, products: Tensor, ids: Tensor, weights: Tensor, constants: Constants, name: str) -> Tensor:
        y = self.scratch(name, (self.rows, products.shape[-1]))
        self.add(name + ".combine", "experts_combine", (products, ids, weights), (y,), constants)
        return y
