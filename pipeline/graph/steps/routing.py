"""Routing: which experts a row goes to, and with what weight."""

from __future__ import annotations

from ...device.core import _core
from ...errors import BuildError, DTypeError, ShapeError
from ..tensors import Tensor


class Routing:
    """Steps from router logits [R, experts] to (ids [R, top_k] u32, weights [R, top_k]).

    Ids come by descending probability, the lower index first on a tie. NaN is never chosen: where
    fewer than top_k logits are numbers the rest of the ids are OB_NONE, with weight 0. A row with no
    logit above -inf fails; +inf takes all the weight. `counts` [experts] u32, if given, adds up how
    often each expert was chosen.
    """

    def moe_softmax_topk(
        self,
        logits: Tensor,
        top_k: int,
        renormalise: bool = True,
        counts: Tensor | None = None,
        name: str = "moe_softmax_topk",
        *,
        softmax_after_topk: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Softmax over the experts, the top K of them, made to add up to 1 when `renormalise`
        (norm_topk_prob elsewhere). `softmax_after_topk` takes the softmax over the top K alone, which
        is the same as renormalising."""
        return self._route(logits, top_k, None, renormalise or softmax_after_topk, counts, name)

    def fused_moe_routing(
        self,
        logits: Tensor,
        top_k: int,
        per_expert_scale=None,
        renormalise: bool = True,
        counts: Tensor | None = None,
        name: str = "fused_moe_routing",
        *,
        softmax_after_topk: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """moe_softmax_topk, then each weight times per_expert_scale [experts] of its expert (f32, f16
        or bf16), with no second renormalisation. Gemma 4."""
        return self._route(logits, top_k, per_expert_scale, renormalise or softmax_after_topk, counts, name)

    def scored_routing(
        self,
        logits: Tensor,
        top_k: int,
        renormalise: bool = True,
        counts: Tensor | None = None,
        name: str = "scored_routing",
        *,
        scoring: str = "sigmoid",
        correction=None,
        groups: int = 1,
        top_groups: int = 1,
        group_score: str = "max",
        scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The top K by score: "sigmoid" of each logit, or "softmax" of all. Weights are `scale` times the
        scores, with `renormalise` divided by their sum + 10⁻²⁰. Ids come by descending score.

        `correction` [experts] (f32, f16 or bf16) is added to scores for choosing only. Experts are
        `groups` equal groups in order; only the `top_groups` best are chosen from, by the "max" of a
        group's corrected scores or by the sum of its "top2". DeepSeek V2, V3, GLM-4-MoE.
        """
        where, experts = self.named(name), self._experts_of(logits, top_k, name)
        if scoring not in ("sigmoid", "softmax"):
            raise BuildError(f"{where}: scoring = {scoring!r}; choose sigmoid or softmax")
        if group_score not in ("max", "top2"):
            raise BuildError(f"{where}: group_score = {group_score!r}; choose max or top2")
        if groups < 1 or experts % groups or not 1 <= top_groups <= groups:
            raise ShapeError(
                f"{where}: the best {top_groups} of {groups} groups of {experts} experts; groups must be equal, "
                "and at least one chosen"
            )
        size = experts // groups
        if top_k > top_groups * size or (group_score == "top2" and size < 2):
            raise ShapeError(
                f"{where}: groups of {size} experts are too small for top_k = {top_k} of {top_groups} groups"
                + (" by the sum of their top 2" if group_score == "top2" else "")
            )
        correction, stored = self._bias(correction, name + ".correction", (experts,), logits)
        ids, weights = self._chosen(top_k, name)
        scores, of_groups = (
            self.scratch(name + ".scores", (self.rows, experts)),
            self.scratch(name + ".groups", (self.rows, groups)),
        )
        status = self.status()
        self.add(
            name,
            "moe_routing_scored",
            (logits, correction),
            (ids, weights, scores, of_groups, self._counted(counts, experts, name) or status, status),
            {
                "rows": self.rows,
                "experts": experts,
                "top_k": top_k,
                "sigmoid": int(scoring == "sigmoid"),
                "correction": stored,
                "groups": groups,
                "top_groups": top_groups,
                "top_two": int(group_score == "top2"),
                "renormalise": int(renormalise),
                "has_counts": int(counts is not None),
                "step": self.failing_step(name),
                "scale": self._finite(scale, "scale", name),
            },
        )
        return ids, weights

    def route(
        self,
        h: Tensor,
        gate,
        top_k: int,
        renormalise: bool = True,
        counts: Tensor | None = None,
        name: str = "route",
        *,
        bias=None,
        scoring: str = "softmax",
        correction=None,
        groups: int = 1,
        top_groups: int = 1,
        group_score: str = "max",
        scale: float = 1.0,
        per_expert_scale=None,
    ) -> tuple[Tensor, Tensor]:
        """(ids, weights) of the top K experts by gate [experts, dim], logits with `bias` [experts], if given.

        `scoring` "softmax" of all experts, "softmax_after" of the top K alone: fused_moe_routing, weights
        times `scale`. "sigmoid", and softmax with a correction or groups: scored_routing.
        """
        where = self.named(name)
        if scoring not in ("softmax", "softmax_after", "sigmoid"):
            raise BuildError(f"{where}: scoring = {scoring!r}; choose softmax, softmax_after or sigmoid")
        scored = scoring == "sigmoid" or correction is not None or (groups, top_groups) != (1, 1)
        if scored and (per_expert_scale is not None or scoring == "softmax_after"):
            raise BuildError(
                f"{where}: per_expert_scale and softmax_after go with plain softmax: no correction, no groups"
            )
        logits = self.linear(h, gate, bias, name + ".logits")
        if scored:
            return self.scored_routing(
                logits,
                top_k,
                renormalise,
                counts,
                name,
                scoring=scoring,
                correction=correction,
                groups=groups,
                top_groups=top_groups,
                group_score=group_score,
                scale=scale,
            )
        return self._route(
            logits, top_k, per_expert_scale, renormalise or scoring == "softmax_after", counts, name, scale
        )

    def _route(self, logits, top_k, per_expert_scale, renormalise, counts, name, scale=1.0):
        where, experts = self.named(name), self._experts_of(logits, top_k, name)
        reads, suffix = (logits, logits), "f32"  # without a scale, bound but not read
        if per_expert_scale is not None:
            stored = self.vector(per_expert_scale, self.named(name + ".per_expert_scale"))
            if stored.dtype not in ("f32", "f16", "bf16"):
                raise DTypeError(f"{where}: per_expert_scale is {stored.dtype}, expected f32, f16 or bf16")
            if stored.shape != (experts,):
                raise ShapeError(f"{where}: per_expert_scale has shape {stored.shape}, expected {(experts,)}")
            reads, suffix = (logits, stored), stored.dtype
        status, counted = self.status(), self._counted(counts, experts, name)
        ids, weights = self._chosen(top_k, name)
        self.add(
            name,
            f"moe_routing_{suffix}",
            reads,
            (ids, weights, counted or status, status),
            {
                "rows": self.rows,
                "experts": experts,
                "top_k": top_k,
                "renormalise": int(renormalise),
                "has_scale": int(per_expert_scale is not None),
                "has_counts": int(counts is not None),
                "step": self.failing_step(name),
                "scale": self._finite(scale, "scale", name),
            },
        )
        return ids, weights

    def _experts_of(self, logits: Tensor, top_k, name: str) -> int:
        where = self.named(name)
        if len(logits.shape) != 2 or not logits.shape[1]:
            raise ShapeError(f"{where}: {logits.name} has shape {logits.shape}, expected [rows, experts]")
        self.check_rows(logits, name, logits.shape[1])
        self._check_top_k(top_k, logits.shape[1], where)
        return logits.shape[1]

    def _chosen(self, top_k: int, name: str) -> tuple[Tensor, Tensor]:
        return self.scratch(name + ".ids", (self.rows, top_k), "u32"), self.scratch(
            name + ".weights", (self.rows, top_k)
        )

    def _counted(self, counts, experts: int, name: str):
        if counts is not None:
            if counts.dtype != "u32":
                raise DTypeError(f"{self.named(name)}: {counts.name} is {counts.dtype}, expected u32")
            self.check_shape(counts, name, experts)
        return counts

    @staticmethod
    def _check_top_k(top_k, experts: int, where: str) -> None:
        largest = min(experts, _core.MAX_TOP_K)
        wanted = f"choose an integer from 1 to {largest}"
        if isinstance(top_k, bool) or not hasattr(top_k, "__index__"):
            raise BuildError(f"{where}: top_k = {top_k!r} of {experts} experts; {wanted}")
        if not 1 <= top_k <= largest:
            raise ShapeError(f"{where}: top_k = {top_k} of {experts} experts; {wanted}")
