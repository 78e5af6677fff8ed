"""Where few rows decode on a GPU with tensor cores: fewer dispatches for a layer, with the same bits.

A norm goes into the kernels that read the normed row: who makes the row leaves the sums of its squares, and each reader
norms what it multiplies. Where one of the readers is a layer's experts, their routing goes along, too: each threadgroup of
gate and up chooses its expert by itself. A layer of Qwen3 is six dispatches then, not nine (shaders/rows.metal).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..device.core import _core
from .plan import Constants, Dispatch
from .steps.staging import takes
from .tensors import Tensor

_NORM = re.compile(r"fused_residual_norm_f32_(f32|f16|bf16)")
_KERNEL = re.compile(r"(linear|linear3|experts_gate_up|experts_down)_q([48])_(f32|f16|bf16)")
_ROUTING = "moe_routing_f32"

_MOST_ROWS = 3  # a threadgroup takes one row, so that each row reads the weights anew
_MOST_COLUMNS = 8192  # of a normed row; see shaders/squares.h
_SQUARES = 16  # whose sum is one number
_CHUNK_BITS = 1024  # of a row of weights

def fuse(dispatches: Sequence[Dispatch], outputs: Sequence[Tensor], rows: int) -> list[Dispatch]:
    """The dispatches of a plan of `rows` rows, fewer where that is possible. `outputs`: values that are read later."""
    if rows > _MOST_ROWS:
        return list(dispatches)
    return _Fusing(dispatches, outputs, rows).result()


@dataclass(frozen=True)
class _Normed:
    """A row that is normed on the way: the sum, the sums of its squares, and the norm."""

    norm: Dispatch
    total: Tensor
    squares: Tensor
    weight: Tensor

    @property
    def buffers(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.total, self.weight, self.squares

    @property
    def constants(self) -> dict[str, float]:
        return {name: self.norm.constants[name] for name in ("eps", "weight_offset")}


@dataclass(frozen=True)
class _Family:
    """A kernel that reads weights, by its name."""

    name: str  # "linear3"
    bits: int
    dtype: str  # of scales

    @staticmethod
    def of(dispatch: Dispatch) -> _Family | None:
        found = _KERNEL.fullmatch(dispatch.kernel)
        if found is None or not takes(f"q{found[2]}", dispatch.constants):
            return None
        return _Family(found[1], int(found[2]), found[3])


class _Fusing:
    def __init__(self, dispatches: Sequence[Dispatch], outputs: Sequence[Tensor], rows: int) -> None:
        self.dispatches = dispatches
        self.rows = rows
        self.kept = {id(tensor) for tensor in outputs}
        self.readers: dict[int, list[int]] = defaultdict(list)  # of values, by number of the dispatch
        for i, dispatch in enumerate(dispatches):
            for key in {id(tensor) for tensor in dispatch.reads}:
                self.readers[key].append(i)
        self.instead: dict[int, Dispatch | None] = {}

    def result(self) -> list[Dispatch]:
        for i, dispatch in enumerate(self.dispatches):
            if _NORM.fullmatch(dispatch.kernel):
                self.instead.update(self._of_norm(i))
        made = (self.instead.get(i, dispatch) for i, dispatch in enumerate(self.dispatches))
        return [dispatch for dispatch in made if dispatch is not None]

    def _of_norm(self, i: int) -> dict[int, Dispatch | None]:
        """What stands in the place of the norm number `i`, of who makes its input and of all that read it; nothing
        where one of them must stay."""
        norm, before = self.dispatches[i], i - 1
        (residual, x, weight), (total, normed) = norm.reads, norm.writes
        columns = int(norm.constants["dim"])
        if not (norm.constants["write_sum"] and norm.constants["has_weight"] and self._inner(x, [i])):
            return {}
        if columns % 64 or columns > _MOST_COLUMNS or norm.leading != self.dispatches[before].leading:
            return {}
        row = _Normed(norm, total, Tensor(f"{norm.step}.squares", (self.rows, columns // _SQUARES), "f32"), weight)
        maker = self._maker(before, x, residual, row)
        if not maker or not self._inner(normed, self.readers[id(normed)]):
            return {}
        made: dict[int, Dispatch | None] = {**maker, i: None}
        for reader in self.readers[id(normed)]:
            own = self._reader(reader, normed, row)
            if not own:
                return {}
            made.update(own)
        return made

    def _inner(self, tensor: Tensor, readers: list[int]) -> bool:
        """Whether a value is scratch that these alone read."""
        return tensor.storage is None and id(tensor) not in self.kept and self.readers[id(tensor)] == readers

    def _maker(self, number: int, x: Tensor, residual: Tensor, row: _Normed) -> dict[int, Dispatch | None]:
        """What stands in the place of the dispatch that makes x: it makes residual + x, and the sums of its squares."""
        maker = self.instead.get(number, self.dispatches[number])
        assert maker is not None
        family, own = _Family.of(maker), maker.constants
        if family is None or [id(tensor) for tensor in maker.writes] != [id(x)] or own["outputs"] % 64:
            return {}
        if family.name == "experts_down":
            return self._down(number, maker, family, residual, row)
        if family.name != "linear" or not _is_plain(own):
            return {}
        *matrix, from_, bias, _, _ = maker.reads
        constants, writes = _outputs(own["outputs"], bias0=own["bias"]), (row.total, row.squares)
        return self._row(number, maker, family, "squares", (*matrix, from_, bias, residual), writes, constants)

    def _down(
        self, number: int, maker: Dispatch, family: _Family, residual: Tensor, row: _Normed
    ) -> dict[int, Dispatch | None]:
        """The same for the experts' down, which has the routing to itself once gate and up have theirs."""
        own, gate_up = maker.constants, self.instead.get(number - 1)
        *matrix, inner, ids, weights, bias = maker.reads
        if gate_up is None or not gate_up.kernel.startswith("row_gate_up") or gate_up.writes[0] is not inner:
            return {}
        routing = self._routing_of(ids, number)
        if routing is None or own["top_k"] > _core.ROW_TOP_K or own["top_k"] * self._chunks(maker, family) > _core.ROW_SHARES:
            return {}
        if not (self._inner(ids, [number - 1, number]) and self._inner(weights, [number])):
            return {}
        route = self.dispatches[routing]
        constants = {name: own[name] for name in ("outputs", "bias", "experts", "top_k")}
        constants |= {name: route.constants[name] for name in ("renormalise", "has_counts", "step", "scale")}
        reads = (*matrix, inner, route.reads[0], bias, residual)
        writes = (row.total, row.squares, *route.writes[2:])
        made = self._row(number, maker, family, "down", reads, writes, constants)
        return made and {**made, routing: None}

    def _routing_of(self, ids: Tensor, before: int) -> int | None:
        """The number of the dispatch that makes ids, if threadgroups can do its work."""
        for i in range(before):
            made = self.dispatches[i]
            if any(tensor is ids for tensor in made.writes):
                fits = made.kernel == _ROUTING and not made.constants["has_scale"]
                fits = fits and made.constants["experts"] <= _core.ROW_EXPERTS
                return i if fits and made.leading == self.dispatches[before].leading else None
        return None

    def _reader(self, number: int, normed: Tensor, row: _Normed) -> dict[int, Dispatch | None]:
        """What stands in the place of a dispatch that reads the normed row; nothing where it must stay."""
        reader = self.dispatches[number]
        family, own = _Family.of(reader), reader.constants
        if family is None or reader.leading != row.norm.leading or family.dtype != row.weight.dtype:
            return {}
        if family.name == "experts_down" and not own["bias"]:  # bound in the place of a bias, and not read
            arguments = tuple((row.total if tensor is normed else tensor, to) for tensor, to in reader.arguments)
            return {number: replace(reader, arguments=arguments)}
        reads = [row.total if tensor is normed else tensor for tensor in reader.reads]
        if family.name == "experts_gate_up":
            return self._gate_up(number, family, reads, row)
        if family.name == "linear3" and reader.reads[9] is normed:
            outputs = [int(own[f"outputs{i}"]) for i in range(3)]
            tile = _core.ROW3_TILES * _core.LINEAR_OUTPUTS
            if any(n % tile for n in outputs):
                return {}
            constants = _outputs(*outputs, **{f"bias{i}": own[f"bias{i}"] for i in range(3)}) | row.constants
            reads[9:10] = row.buffers
            width = sum(outputs) // tile
            return self._row(number, reader, family, "linear3", reads, reader.writes, constants, width)
        if family.name == "linear" and reader.reads[3] is normed and _is_plain(own):
            if own["outputs"] % _core.LINEAR_OUTPUTS:
                return {}
            parts = max(_core.ROW_THREADS // 32 // self._chunks(reader, family), 1)
            width = -(-int(own["outputs"]) // (parts * _core.ROW_TILES * _core.LINEAR_OUTPUTS))
            width = min(width, _core.ROW_BUSY)
            constants = _outputs(own["outputs"], bias0=own["bias"], width=width) | row.constants
            reads[3:] = (*row.buffers, reads[4])
            return self._row(number, reader, family, "linear", reads, reader.writes, constants, width)
        return {}

    def _gate_up(
        self, number: int, family: _Family, given: Sequence[Tensor], row: _Normed
    ) -> dict[int, Dispatch | None]:
        """The same for gate and up, each threadgroup of which chooses its expert."""
        reader = self.dispatches[number]
        own = reader.constants
        *matrices, x, ids, gate_bias, up_bias = given
        routing = self._routing_of(ids, number)
        if routing is None or own["dense"] or x is not row.total or own["outputs"] % _core.LINEAR_OUTPUTS:
            return {}
        logits = self.dispatches[routing].reads[0]
        reads = (*matrices, *row.buffers, logits, gate_bias, up_bias)
        constants = {
            **{name: own[name] for name in ("outputs", "bias", "experts", "top_k")},
            **{name: own[name] for name in ("expert_rows", "row_step", "activation")},
            **row.constants,
        }
        width = -(-int(own["outputs"]) // (_core.LINEAR_OUTPUTS * _core.ROW_GATE_UP_TILES))
        return self._row(number, reader, family, "gate_up", reads, reader.writes[:1], constants, width)

    @staticmethod
    def _chunks(dispatch: Dispatch, family: _Family) -> int:
        """Chunks of a row of the weights."""
        return int(dispatch.constants["inputs"]) * family.bits // _CHUNK_BITS

    def _row(
        self,
        number: int,
        before: Dispatch,
        family: _Family,
        name: str,
        reads: Sequence[Tensor],
        writes: Sequence[Tensor],
        constants: Constants,
        width: int = 0,
    ) -> dict[int, Dispatch | None]:
        """A kernel of rows.metal in the place of a dispatch; nothing where its chunks are too many. width: threadgroups
        across, 0 for those of before."""
        chunks = self._chunks(before, family)
        if chunks > _core.ROW_CHUNKS:
            return {}
        columns, _, depth = before.threadgroups
        made = replace(
            before,
            kernel=f"row_{name}_q{family.bits}_{family.dtype}",
            arguments=(*((tensor, False) for tensor in reads), *((tensor, True) for tensor in writes)),
            constants={"rows": self.rows, "inputs": before.constants["inputs"], "chunks": chunks, **constants},
            threadgroups=(width or columns, self.rows, depth),
            rows_per_threadgroup=1,
        )
        return {number: made}


def _outputs(*outputs: float, **constants: float) -> dict[str, float]:
    """The members of RowArgs for so many outputs; what is not given is 0."""
    members: dict[str, float] = dict.fromkeys((f"{name}{i}" for name in ("outputs", "bias") for i in range(3)), 0)
    members |= {f"outputs{i}": int(n) for i, n in enumerate(outputs)}
    return {**members, "width": 0, "eps": 0.0, "weight_offset": 0.0, **constants}


def _is_plain(constants: Constants) -> bool:
    """Whether a projection is a product with a bias at most."""
    return not (constants["has_add"] or constants["has_gate"] or constants["softcap"]) and constants["scale"] == 1
