"""Routing: which experts a row goes to, and with what weight."""

from __future__ import annotations

from ..errors import ShapeError
from ..tensors import Storage, Tensor
from .limits import core


class Routing:
    def softmax_topk(self, logits: Tensor, top_k: int, renormalise: bool = True, counts: Tensor | None = None,
                     name: str = "softmax_topk") -> tuple[Tensor, Tensor]:
        """(ids [R, top_k] u32, weights [R, top_k]): softmax over the experts, the top K by descending
        probability (lower index on a tie), made to add up to 1 when `renormalise`. `counts` [experts]
        u32 gathers how often each expert was chosen. A row whose logits hold no number fails."""
        experts = logits.shape[1]
        self.check_rows(logits, name, experts)
        largest = min(experts, core().MAX_TOP_K)
        if not 1 <= top_k <= largest:
            raise ShapeError(f"{self.named(name)}: top_k = {top_k} of {experts} experts; choose 1 to {largest}")
        if counts is None:
            counts = self.state(self.named(name + ".counts"), Storage.zeros((experts,), "u32"))
        self.check_shape(counts, name, experts)
        status = self.status()
        ids = self.scratch(name + ".ids", (self.rows, top_k), "u32")
        weights = self.scratch(name + ".weights", (self.rows, top_k))
        self.add(name, "softmax_topk", (logits,), (ids, weights, counts, status),
                 {"rows": self.rows, "experts": experts, "top_k": top_k, "renormalise": int(renormalise),
                  "step": self.failing_step(name)})
        return ids, weights

    def route(self, h: Tensor, gate, top_k: int, renormalise: bool = True, counts: Tensor | None = None,
              name: str = "route") -> tuple[Tensor, Tensor]:
        """(ids, weights) of the top K experts by gate [experts, dim]: logits, softmax, top K."""
        logits = self.linear(h, gate, name + ".logits")
        return self.softmax_topk(logits, top_k, renormalise, counts, name)
