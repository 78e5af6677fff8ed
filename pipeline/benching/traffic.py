"""Active bytes: what decoding one token must read at least, from the config and the stored tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..tensors import CACHE_DTYPES

_EXPERTS = re.compile(r"\.mlp\.(switch_mlp|experts)\.")


@dataclass(frozen=True)
class Traffic:
    """Bytes of one decode step by what they are. `shared` are read once for all rows, `expert` is one
    expert in every layer, `row` one row of the embedding, `position` one position of the KV cache, all layers."""

    shared: int
    expert: float
    row: int
    position: int
    experts: int
    top_k: int

    def step(self, batch: int, positions: float) -> float:
        """Bytes that a step of `batch` rows reads at least, each row attending to `positions` positions."""
        return self.shared + self.distinct_experts(batch) * self.expert + batch * (self.row + positions * self.position)

    def per_token(self, batch: int, positions: float) -> float:
        return self.step(batch, positions) / batch

    def distinct_experts(self, batch: int) -> float:
        """Experts of a layer that some row chooses: top_k for one row, for more what independent uniform
        choices give on average."""
        return self.experts * (1 - (1 - self.top_k / self.experts) ** batch)


def traffic(checkpoint, model, kv_cache: str = CACHE_DTYPES[0]) -> Traffic:
    """Of a loaded model and the dtype of its cache; the tensors are counted as they are stored."""
    c = model.config
    shared = expert = row = 0
    for name, info in checkpoint.tensors.items():
        if _EXPERTS.search(name):
            expert += info.nbytes / c.experts
        elif name.startswith("model.embed_tokens."):
            row += info.nbytes // c.vocab
            shared += info.nbytes if c.tied else 0  # then it is the head too
        elif not (c.tied and name.startswith("lm_head.")):
            shared += info.nbytes
    position = model.cache(1, 1, kv_cache).nbytes
    return Traffic(shared, expert, row, position, c.experts, c.top_k)


def mean_positions(context: int, tokens: int) -> float:
    """Positions that attention reads on average while `tokens` are generated after `context`: the first
    token reads context + 1."""
    return context + (tokens + 1) / 2


