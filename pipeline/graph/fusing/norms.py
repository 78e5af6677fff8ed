"""Norms in the kernels that read the normed row: the projections before and behind them."""

from __future__ import annotations

import re
from dataclasses import replace

from ...device.core import _core
from ..plan import Constants, Dispatch
from ..tensors import Tensor
from .experts import Experts
from .rows import Family, Instead, Normed

_NORM = re.compile(r"fused_residual_norm_f32_(f32|f16|bf16)")

_MOST_COLUMNS = 8192  # of a normed row; see shaders/squares.h
_SQUARES = 16  # whose sum is one number


class Norms(Experts):
    def result(self) -> list[Dispatch]:
        """The dispatches, fewer where that is possible."""
        for i, dispatch in enumerate(self.dispatches):
            if _NORM.fullmatch(dispatch.kernel):
                self.instead.update(self._of_norm(i))
        made = (self.instead.get(i, dispatch) for i, dispatch in enumerate(self.dispatches))
        return [dispatch for dispatch in made if dispatch is not None]

    def _of_norm(self, i: int) -> Instead:
        """Replaces the norm number `i`, the dispatch that makes its input and all dispatches that read it. An empty
        result: one of them must stay, and so all do."""
        norm, before = self.dispatches[i], i - 1
        (residual, x, weight), (total, normed) = norm.reads, norm.writes
        columns = int(norm.constants["dim"])
        if not (norm.constants["write_sum"] and norm.constants["has_weight"] and self.inner(x, [i])):
            return {}
        if columns % 64 or columns > _MOST_COLUMNS or norm.leading != self.dispatches[before].leading:
            return {}
        row = Normed(norm, total, Tensor(f"{norm.step}.squares", (self.rows, columns // _SQUARES), "f32"), weight)
        maker = self._maker(before, x, residual, row)
        if not maker or not self.inner(normed, self.readers(normed)):
            return {}
        made: Instead = {**maker, i: None}
        for reader in self.readers(normed):
            own = self._reader(reader, normed, row)
            if not own:
                return {}
            made.update(own)
        return made

    def _maker(self, number: int, x: Tensor, residual: Tensor, row: Normed) -> Instead:
        """Replaces the dispatch that makes x by one that makes residual + x and the sums of its squares. An empty
        result: it must stay."""
        maker = self.dispatches[number]
        family, own = Family.of(maker), maker.constants
        if family is None or [id(tensor) for tensor in maker.writes] != [id(x)] or own["outputs"] % 64:
            return {}
        if family.name == "experts_down":
            return self.down(number, family, residual, row)
        if family.name != "linear" or not _is_plain(own):
            return {}
        *matrix, from_, bias, _, _ = maker.reads
        reads, writes = (*matrix, from_, bias, residual), (row.total, row.squares)
        return self.row(number, family, "squares", reads, writes, _outputs(own["outputs"], bias0=own["bias"]))

    def _reader(self, number: int, normed: Tensor, row: Normed) -> Instead:
        """Replaces a dispatch that reads the normed row by one that norms the row itself. An empty result: it stays."""
        reader = self.dispatches[number]
        family, own = Family.of(reader), reader.constants
        if family is None or reader.leading != row.norm.leading or family.dtype != row.weight.dtype:
            return {}
        reads = [row.total if tensor is normed else tensor for tensor in reader.reads]
        if family.name == "experts_down" and not own["bias"]:  # bound in the place of a bias, and not read
            arguments = tuple((row.total if tensor is normed else tensor, to) for tensor, to in reader.arguments)
            return {number: replace(reader, arguments=arguments)}
        if family.name == "experts_gate_up":
            return self.gate_up(number, family, reads, row)
        if family.name == "linear3" and reader.reads[9] is normed:
            outputs = [int(own[f"outputs{i}"]) for i in range(3)]
            tile = _core.ROW3_TILES * _core.LINEAR_OUTPUTS
            if any(n % tile for n in outputs):
                return {}
            constants = _outputs(*outputs, **{f"bias{i}": own[f"bias{i}"] for i in range(3)}) | row.constants
            reads[9:10] = row.buffers
            return self.row(number, family, "linear3", reads, reader.writes, constants, sum(outputs) // tile)
        if family.name == "linear" and reader.reads[3] is normed and _is_plain(own):
            if own["outputs"] % _core.LINEAR_OUTPUTS:
                return {}
            parts = max(_core.ROW_THREADS // 32 // family.chunks(reader), 1)
            tiles = parts * _core.ROW_TILES * _core.LINEAR_OUTPUTS
            width = min(-(-int(own["outputs"]) // tiles), _core.ROW_BUSY)
            constants = _outputs(own["outputs"], bias0=own["bias"], width=width) | row.constants
            reads[3:] = (*row.buffers, reads[4])
            writes = (*reader.writes, *reader.writes)  # it clears no count
            return self.row(number, family, "linear", reads, writes, constants, width)
        return {}


def _outputs(*outputs: float, **constants: float) -> dict[str, float]:
    """The members of RowArgs for so many outputs; what is not given is 0."""
    members: dict[str, float] = dict.fromkeys((f"{name}{i}" for name in ("outputs", "bias") for i in range(3)), 0)
    members |= {f"outputs{i}": int(n) for i, n in enumerate(outputs)}
    return {**members, "width": 0, "clears": 0, "eps": 0.0, "weight_offset": 0.0, **constants}


def _is_plain(constants: Constants) -> bool:
    """Whether a projection is a product with a bias at most."""
    return not (constants["has_add"] or constants["has_gate"] or constants["softcap"]) and constants["scale"] == 1
