"""The kernels of shaders/rows.h, in the place of other dispatches."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...device.core import _core
from ..plan import Constants, Dispatch
from ..steps.staging import takes
from ..tensors import Tensor

Instead: TypeAlias = dict[int, Dispatch | None]
"""What stands in the place of dispatches, by their numbers; None: nothing is left to do there."""

_KERNEL = re.compile(r"(linear|linear3|experts_gate_up|experts_down)_q([48])_(f32|f16|bf16)")
_CHUNK_BITS = 1024  # of a row of weights


@dataclass(frozen=True)
class Normed:
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
class Family:
    """A kernel that reads weights which tensor cores take, by its name."""

    name: str  # "linear3"
    bits: int
    dtype: str  # of scales

    @staticmethod
    def of(dispatch: Dispatch) -> Family | None:
        found = _KERNEL.fullmatch(dispatch.kernel)
        if found is None or not takes(f"q{found[2]}", dispatch.constants):
            return None
        return Family(found[1], int(found[2]), found[3])

    def chunks(self, dispatch: Dispatch) -> int:
        """Chunks of a row of the weights."""
        return int(dispatch.constants["inputs"]) * self.bits // _CHUNK_BITS


class Rows:
    """The dispatches of a plan of `rows` rows, and what stands in their places."""

    def __init__(self, dispatches: Sequence[Dispatch], outputs: Sequence[Tensor], rows: int, cores: int) -> None:
        self.dispatches = dispatches
        self.rows, self.cores = rows, cores
        self.instead: Instead = {}
        self._kept = {id(tensor) for tensor in outputs}
        self._readers: dict[int, list[int]] = defaultdict(list)
        for i, dispatch in enumerate(dispatches):
            for key in {id(tensor) for tensor in dispatch.reads}:
                self._readers[key].append(i)

    def readers(self, tensor: Tensor) -> list[int]:
        """The numbers of the dispatches that read a value."""
        return self._readers[id(tensor)]

    def inner(self, tensor: Tensor, readers: list[int]) -> bool:
        """Whether a value is scratch that these alone read."""
        return tensor.storage is None and id(tensor) not in self._kept and self.readers(tensor) == readers

    def row(
        self,
        number: int,
        family: Family,
        name: str,
        reads: Sequence[Tensor],
        writes: Sequence[Tensor],
        constants: Constants,
        width: int = 0,
    ) -> Instead:
        """The kernel row_`name` in the place of a dispatch; nothing where its chunks are too many. width: threadgroups
        across, 0 for those of the dispatch."""
        before = self.dispatches[number]
        chunks = family.chunks(before)
        if chunks > _core.ROW_CHUNKS:
            return {}
        columns, _, depth = before.threadgroups
        made = replace(
            before,
            kernel=f"row_{name}_q{family.bits}_{family.dtype}",
            arguments=bound(reads, writes),
            constants={"rows": self.rows, "inputs": before.constants["inputs"], "chunks": chunks, **constants},
            threadgroups=(width or columns, self.rows, depth),
            rows_per_threadgroup=1,
        )
        return {number: made}


def bound(reads: Sequence[Tensor], writes: Sequence[Tensor]) -> tuple[tuple[Tensor, bool], ...]:
    """The arguments of a dispatch: what it reads, then what it writes."""
    return (*((tensor, False) for tensor in reads), *((tensor, True) for tensor in writes))
