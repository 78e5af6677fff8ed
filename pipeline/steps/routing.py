"""Routing: which experts a row goes to, and with what weight."""

from __future__ import annotations

from ..errors import BuildError, DTypeError, ShapeError
from ..tensors import Tensor
from .limits import core


class Routing:
    """Steps from router logits [R, experts] to (ids [R, top_k] u32, weights [R, top_k]).

    Ids come by descending probability, the lower index first on a tie. NaN is never chosen: where
    fewer than top_k logits are numbers the rest of the ids are OB_NONE, with weight 0. A row with no
    logit above -inf fails; +inf takes all the weight. `counts` [experts] u32, if given, adds up how
    often each expert was chosen.
    """

    def moe_softmax_topk(self, logits: Tensor, top_k: int, renormalise: bool = True, counts: Tensor | None = None,
                         name: str = "moe_softmax_topk", *, softmax_after_topk: bool = False) -> tuple[Tensor, Tensor]:
        """Softmax over the experts, the top K of them, made to add up to 1 when `renormalise`
        (norm_topk_prob elsewhere). `softmax_after_topk` takes the softmax over the top K alone, which
        is the same as renormalising."""
        return self._route(logits, top_k, None, renormalise or softmax_after_topk, counts, name)

    def fused_moe_routing(self, logits: Tensor, top_k: int, per_expert_scale=None, renormalise: bool = True,
                          counts: Tensor | None = None, name: str = "fused_moe_routing", *,
                          softmax_after_topk: bool = False) -> tuple[Tensor, Tensor]:
        """moe_softmax_topk, then each weight times per_expert_scale [experts] of its expert (f32, f16
        or bf16), with no second renormalisation. Gemma 4."""
        return self._route(logits, top_k, per_expert_scale, renormalise or softmax_after_topk, counts, name)

    def route(self, h: Tensor, gate, top_k: int, renormalise: bool = True, counts: Tensor | None = None,
              name: str = "route", *, per_expert_scale=None) -> tuple[Tensor, Tensor]:
        """(ids, weights) of the top K experts by gate [experts, dim]: logits, then fused_moe_routing."""
        logits = self.linear(h, gate, name + ".logits")
        return self.fused_moe_routing(logits, top_k, per_expert_scale, renormalise, counts, name)

    def _route(self, logits, top_k, scale, renormalise, counts, name):
        where = self.named(name)
        if len(logits.shape) != 2 or not logits.shape[1]:
            raise ShapeError(f"{where}: {logits.name} has shape {logits.shape}, expected [rows, experts]")
        experts = logits.shape[1]
        self.check_rows(logits, name, experts)
        self._check_top_k(top_k, experts, where)
        reads, suffix = (logits, logits), "f32"   # without a scale, bound but not read
        if scale is not None:
            scale = self.vector(scale, self.named(name + ".per_expert_scale"))
            if scale.dtype not in ("f32", "f16", "bf16"):
                raise DTypeError(f"{where}: per_expert_scale is {scale.dtype}, expected f32, f16 or bf16")
            if scale.shape != (experts,):
                raise ShapeError(f"{where}: per_expert_scale has shape {scale.shape}, expected {(experts,)}")
            reads, suffix = (logits, scale), scale.dtype
        status = self.status()
        if counts is not None:
            if counts.dtype != "u32":
                raise DTypeError(f"{where}: {counts.name} is {counts.dtype}, expected u32")
            self.check_shape(counts, name, experts)
        ids = self.scratch(name + ".ids", (self.rows, top_k), "u32")
        weights = self.scratch(name + ".weights", (self.rows, top_k))
        self.add(name, f"moe_routing_{suffix}", reads, (ids, weights, status if counts is None else counts, status),
                 {"rows": self.rows, "experts": experts, "top_k": top_k, "renormalise": int(renormalise),
                  "has_scale": int(scale is not None), "has_counts": int(counts is not None),
                  "step": self.failing_step(name)})
        return ids, weights

    @staticmethod
    def _check_top_k(top_k, experts: int, where: str) -> None:
        largest = min(experts, core().MAX_TOP_K)
        wanted = f"choose an integer from 1 to {largest}"
        if isinstance(top_k, bool) or not hasattr(top_k, "__index__"):
            raise BuildError(f"{where}: top_k = {top_k!r} of {experts} experts; {wanted}")
        if not 1 <= top_k <= largest:
            raise ShapeError(f"{where}: top_k = {top_k} of {experts} experts; {wanted}")
