"""Active bytes: the least that decoding one token reads, by the weights that the dispatches of a step take."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.formats import CACHE_DTYPES
from ..graph.tensors import Tensor
from ..models.decoder import Decoder
from ..models.row_state import Rows

__all__ = ["Traffic", "mean_positions", "traffic"]


@dataclass(frozen=True)
class Traffic:
    """Bytes that one decode step reads, by kind.

    shared    weights that are read once for all rows
    expert    one expert in every layer that has some
    row       one row of the embedding
    windows   one position of the KV cache, in the layers that see so many positions: {window, 0 for all: bytes}
    experts   experts per layer; 0 in a dense model
    top_k     experts that a token chooses
    state     the state of one row's sequence, in all recurrent layers
    """

    shared: int
    expert: float
    row: int
    windows: dict[int, int]
    experts: int = 0
    top_k: int = 0
    state: int = 0

    @property
    def position(self) -> int:
        """One position of the KV cache, in all layers."""
        return sum(self.windows.values())

    def cache(self, context: int, tokens: int) -> float:
        """Mean bytes of keys and values that a row reads per step while `tokens` are generated after `context`."""
        return sum(nbytes * mean_positions(context, tokens, window) for window, nbytes in self.windows.items())

    def step(self, batch: int, cache: float) -> float:
        """The least bytes that a step of `batch` rows reads, where each row reads `cache` bytes of keys and values."""
        return self.shared + self.distinct_experts(batch) * self.expert + batch * (self.row + self.state + cache)

    def per_token(self, batch: int, cache: float) -> float:
        """The least bytes that such a step reads per row."""
        return self.step(batch, cache) / batch

    def distinct_experts(self, batch: int) -> float:
        """Experts of a layer that some row chooses: top_k for one row; for more rows the average of independent uniform
        choices."""
        return self.experts * (1 - (1 - self.top_k / self.experts) ** batch) if self.experts else 0.0


def traffic(model: Decoder, kv_cache: str = CACHE_DTYPES[0]) -> Traffic:
    """The traffic of a loaded model whose cache has the dtype `kv_cache`. Nothing is run or allocated."""
    pipe = Pipeline(model.device, rows=1)
    model.forward(pipe, Rows.zeros(1), model.cache(1, 1))
    shared, stacks = _Memory(), _Memory()
    row = experts = top_k = 0
    for dispatch in pipe.dispatches:
        weights = [tensor for tensor in dispatch.reads if tensor.role == "weight"]
        if dispatch.step == "embed":
            row = sum(tensor.nbytes // model.vocab_size for tensor in weights)
        elif dispatch.kernel.startswith("experts_") and not dispatch.constants["dense"]:
            experts, top_k = int(dispatch.constants["experts"]), int(dispatch.constants["top_k"])
            stacks.add(weights)
        elif dispatch.kernel != "rope_table":  # its frequencies come from the configuration
            shared.add(weights)
    cache = model.cache(1, 1, kv_cache)
    windows = {table.window: table.position_bytes for table in cache.tables}
    expert = stacks.nbytes / experts if experts else 0.0
    return Traffic(shared.nbytes, expert, row, windows, experts, top_k, cache.state_bytes)


class _Memory:
    """Bytes that tensors cover. Bytes that several cover count once: a matrix that is both keys and values, a stack in
    which rows of gate and up take turns."""

    def __init__(self) -> None:
        self._spans: defaultdict[object, list[tuple[int, int]]] = defaultdict(list)

    def add(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            if tensor.storage is None:
                raise ValueError(f"{tensor.name}: a weight without memory")
            memory, begin, end = tensor.storage.extent()
            self._spans[memory].append((begin, end))

    @property
    def nbytes(self) -> int:
        total = 0
        for spans in self._spans.values():
            reached = 0
            for begin, end in sorted(spans):
                total += max(end - max(begin, reached), 0)
                reached = max(end, reached)
        return total


def mean_positions(context: int, tokens: int, window: int = 0) -> float:
    """Positions that attention reads on average while `tokens` are generated after `context`: the first token reads
    context + 1 of them, and no token more than a window has."""
    growing = min(max(window - context, 0), tokens) if window else tokens
    return (growing * (context + (growing + 1) / 2) + (tokens - growing) * window) / tokens
