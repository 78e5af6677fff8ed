"""A layer's experts with the norm and the routing before them, and the residual sum behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...device.core import _core
from ..plan import Dispatch
from ..tensors import Tensor
from .rows import Family, Instead, Normed, Rows, bound

_ROUTING = "moe_routing_f32"


class Experts(Rows):
    def gate_up(self, number: int, family: Family, given: Sequence[Tensor], row: Normed) -> Instead:
        """Replaces gate and up by a kernel whose threadgroups choose their experts. An empty result: they stay.
        given: the tensors that they read, with the row in the place of the normed one."""
        own = self.dispatches[number].constants
        *matrices, x, ids, gate_bias, up_bias = given
        routing = self._routing(ids, number)
        if routing is None or own["dense"] or x is not row.total or own["outputs"] % _core.LINEAR_OUTPUTS:
            return {}
        reads = (*matrices, *row.buffers, self.dispatches[routing].reads[0], gate_bias, up_bias)
        constants = {
            **{name: own[name] for name in ("outputs", "bias", "experts", "top_k")},
            **{name: own[name] for name in ("expert_rows", "row_step", "activation")},
            **row.constants,
        }
        width = -(-int(own["outputs"]) // (_core.LINEAR_OUTPUTS * _core.ROW_GATE_UP_TILES))
        inner = self.dispatches[number].writes[0]
        return self.row(number, family, "gate_up", reads, (inner,), constants, width)

    def down(self, number: int, family: Family, residual: Tensor, row: Normed) -> Instead:
        """Replaces down by a kernel that adds the residual and ranks the experts by itself, once gate and up
        do so. An empty result: down stays."""
        down, gate_up = self.instead.get(number) or self.dispatches[number], self.instead.get(number - 1)
        *matrix, inner, ids, weights, bias = down.reads
        own = down.constants
        if gate_up is None or not gate_up.kernel.startswith("row_gate_up_") or gate_up.writes[0] is not inner:
            return {}
        routing = self._routing(ids, number)
        if routing is None or own["top_k"] * family.chunks(down) > _core.ROW_SHARES:
            return {}
        if not (self.inner(ids, [number - 1, number]) and self.inner(weights, [number])):
            return {}
        route = self.dispatches[routing]
        constants = {name: own[name] for name in ("outputs", "bias", "experts", "top_k")}
        constants |= {name: route.constants[name] for name in ("renormalise", "has_counts", "step", "scale")}
        reads = (*matrix, inner, route.reads[0], bias, residual)
        writes = (row.total, row.squares, *route.writes[2:])
        made = self.row(number, family, "down", reads, writes, constants)
        if not made:
            return {}
        return {**made, **self._meeting(number, gate_up, made[number]), routing: None}

    def _routing(self, ids: Tensor, reader: int) -> int | None:
        """The number of the dispatch that makes ids for a reader, if threadgroups of the reader can do its work."""
        for i in range(reader):
            made = self.dispatches[i]
            if any(tensor is ids for tensor in made.writes):
                fits = made.kernel == _ROUTING and not made.constants["has_scale"]
                fits = fits and made.constants["experts"] <= _core.ROW_EXPERTS
                fits = fits and made.constants["top_k"] <= _core.ROW_TOP_K
                return i if fits and made.leading == self.dispatches[reader].leading else None
        return None

    def _meeting(self, number: int, gate_up: Dispatch, down: Dispatch | None) -> Instead:
        """Both halves as one dispatch, whose threadgroups meet in between; nothing where the GPU has not all of them
        resident together. The router, which comes before, clears the count of those that arrived."""
        assert down is not None
        columns, _, top_k = gate_up.threadgroups
        threadgroups, format = columns * top_k, down.kernel.removeprefix("row_down_")
        units = down.constants["top_k"] * down.constants["chunks"]
        *matrices, x, norm, squares, logits, gate_bias, up_bias = gate_up.reads
        *down_matrix, inner, _, down_bias, residual = down.reads
        router = next((i for i, made in self.instead.items() if made and made.writes[0] is logits), None)
        if self.rows > 1 or threadgroups > self.cores or not gate_up.kernel.endswith(format) or router is None:
            return {}
        if down.threadgroups[0] > threadgroups or units > 2 * _core.ROW_GATE_UP_THREADS // 32:
            return {}
        before = self.instead[router]
        assert before is not None
        arrived = Tensor(f"{down.step}.arrived", (1,), "u32")
        cleared = replace(
            before, arguments=(*before.arguments[:-1], (arrived, True)), constants={**before.constants, "clears": 1}
        )
        reads = (*matrices, *down_matrix, x, norm, squares, logits, gate_bias, up_bias, down_bias, residual)
        total, sums, *marks = down.writes
        first, second = gate_up.constants, down.constants
        made = replace(
            gate_up,
            step=down.step,
            kernel=f"row_experts_{format}",
            arguments=bound(reads, (inner, total, sums, arrived, *marks)),
            constants={
                **first,
                **{name: second[name] for name in ("renormalise", "has_counts", "step", "scale")},
                **{f"down_{name}": second[name] for name in ("outputs", "chunks", "bias")},
            },
        )
        return {router: cleared, number - 1: None, number: made}
