"""Active bytes: what decoding one token must read at least, by the weights that the dispatches of a step take."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.formats import CACHE_DTYPES
from ..graph.tensors import Tensor
from ..models.cache import Cache
from ..models.rows import Rows


@dataclass(frozen=True)
class Traffic:
    """Bytes of one decode step by what they are. `shared` are read once for all rows, `expert` is one expert in
    every layer that has some, `row` one row of the embedding. `windows` are of one position of the KV cache, in the
    layers that see as many positions: {window, 0 for all: bytes}. A dense model has 0 experts."""

    shared: int
    expert: float
    row: int
    windows: dict[int, int]
    experts: int = 0
    top_k: int = 0

    @property
    def position(self) -> int:
        """One position of the KV cache, in all layers."""
        return sum(self.windows.values())

    def cache(self, context: int, tokens: int) -> float:
        """Bytes of keys and values that a row reads a step, on average while `tokens` are generated after `context`."""
        return sum(nbytes * mean_positions(context, tokens, window) for window, nbytes in self.windows.items())

    def step(self, batch: int, cache: float) -> float:
        """Bytes that a step of `batch` rows reads at least, each of them `cache` of keys and values."""
        return self.shared + self.distinct_experts(batch) * self.expert + batch * (self.row + cache)

    def per_token(self, batch: int, cache: float) -> float:
        return self.step(batch, cache) / batch

    def distinct_experts(self, batch: int) -> float:
        """Experts of a layer that some row chooses: top_k for one row, for more what independent uniform
        choices give on average."""
        return self.experts * (1 - (1 - self.top_k / self.experts) ** batch) if self.experts else 0.0


def traffic(model, kv_cache: str = CACHE_DTYPES[0]) -> Traffic:
    """Of a loaded model and the dtype of its cache. Nothing is run or allocated."""
    pipe = Pipeline(model.device, rows=1)
    model.forward(pipe, Rows.zeros(1), model.cache(1, 1))
    shared, stacks, row, experts, top_k = _Memory(), _Memory(), 0, 0, 0
    for dispatch in pipe.dispatches:
        weights = [tensor for tensor in dispatch.reads if tensor.role == "weight"]
        if dispatch.step == "embed":
            row = sum(tensor.nbytes // model.vocab_size for tensor in weights)
        elif dispatch.kernel.startswith("experts_") and not dispatch.constants["dense"]:
            experts, top_k = dispatch.constants["experts"], dispatch.constants["top_k"]
            stacks.add(weights)
        elif dispatch.kernel != "rope_table":  # whose frequencies come from the configuration
            shared.add(weights)
    layers = model.cache_layers()
    windows = {
        window: Cache.empty([layer for layer in layers if layer.window == window], 1, 1, kv_cache).nbytes
        for window in sorted({layer.window for layer in layers})
    }
    expert = stacks.nbytes / experts if experts else 0.0
    return Traffic(shared.nbytes, expert, row, windows, experts, top_k)


class _Memory:
    """Bytes that tensors cover. What several cover counts once: a matrix that is keys and values, a stack in which
    rows of gate and up take turns."""

    def __init__(self):
        self._spans = defaultdict(list)

    def add(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
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
    context + 1, and none more than a window has."""
    growing = min(max(window - context, 0), tokens) if window else tokens
    return (growing * (context + (growing + 1) / 2) + (tokens - growing) * window) / tokens
