"""Routing: the experts to which a row goes, and their weights."""

from __future__ import annotations

from typing import SupportsIndex

from ...device.core import _core
from ...errors import BuildError, DTypeError, ShapeError
from ..tensors import Tensor, VectorLike
from ..weights import WeightLike
from .linear import Linear

SCORINGS = ("softmax", "sigmoid")
GROUP_SCORES = ("max", "top2")


class Routing(Linear):
    """Steps from router logits [R, experts] to (ids [R, top_k] u32, weights [R, top_k]).

    Ids come by descending probability, the lower index first on a tie. NaN is never chosen: where
    fewer than top_k logits are numbers the rest of the ids are OB_NONE, with weight 0. A row with no
    logit above -inf fails; +inf takes all the weight. `counts` [experts] u32, if given, adds up how
    often each expert was chosen.
    """

    def fused_moe_routing(
        self,
        logits: Tensor,
        top_k: int,
        norm_topk_prob: bool = True,
        counts: Tensor | None = None,
        name: str = "fused_moe_routing",
        *,
        softmax_after_topk: bool = False,
        per_expert_scale: VectorLike | None = None,
        scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Softmax over the experts, then the top K of them. With `norm_topk_prob` the weights are made to add up
        to 1; `softmax_after_topk` takes the softmax over the top K alone, which is the same.

        After that each weight is multiplied by `scale`, and by per_expert_scale [experts] of its expert (f32, f16 or
        bf16), as Gemma 4 has it.
        """
        experts = self._experts_of(logits, top_k, name)
        factors, suffix = logits, "f32"  # without a scale per expert, bound but not read
        if per_expert_scale is not None:
            label = name + ".per_expert_scale"
            factors = self.float_vector(per_expert_scale, "per_expert_scale", label, ((experts,),), name)
            suffix = factors.dtype
        status, counted = self.status(), self._counted(counts, experts, name)
        ids, weights = self._chosen(top_k, name)
        self.add(
            name,
            f"moe_routing_{suffix}",
            (logits, factors),
            (ids, weights, counted or status, status),
            {
                "rows": self.rows,
                "experts": experts,
                "top_k": top_k,
                "renormalise": int(norm_topk_prob or softmax_after_topk),
                "has_scale": int(per_expert_scale is not None),
                "has_counts": int(counts is not None),
                "step": self.failing_step(name),
                "scale": self.finite(scale, "scale", name),
            },
        )
        return ids, weights

    def scored_moe_routing(
        self,
        logits: Tensor,
        top_k: int,
        norm_topk_prob: bool = True,
        counts: Tensor | None = None,
        name: str = "scored_moe_routing",
        *,
        scoring: str = "sigmoid",
        correction: VectorLike | None = None,
        groups: int = 1,
        top_groups: int = 1,
        group_score: str = "max",
        scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The top K by score: "sigmoid" of each logit, or "softmax" of all. Weights are `scale` times the
        scores, with `norm_topk_prob` divided by their sum + 10⁻²⁰. Ids come by descending score.

        `correction` [experts] (f32, f16 or bf16) is added to scores for choosing only. Experts are
        `groups` equal groups in order; only the `top_groups` best are chosen from, by the "max" of a
        group's corrected scores or by the sum of its "top2". DeepSeek V2, V3, GLM-4-MoE.
        """
        where, experts = self.named(name), self._experts_of(logits, top_k, name)
        self._check_choice("scoring", scoring, SCORINGS, name)
        self._check_choice("group_score", group_score, GROUP_SCORES, name)
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
        corrections, stored = self.bias(correction, name + ".correction", (experts,), logits)
        ids, weights = self._chosen(top_k, name)
        scores, of_groups = (
            self.scratch(name + ".scores", (self.rows, experts)),
            self.scratch(name + ".groups", (self.rows, groups)),
        )
        status = self.status()
        self.add(
            name,
            "moe_routing_scored",
            (logits, corrections),
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
                "renormalise": int(norm_topk_prob),
                "has_counts": int(counts is not None),
                "step": self.failing_step(name),
                "scale": self.finite(scale, "scale", name),
            },
        )
        return ids, weights

    def moe_router(
        self,
        h: Tensor,
        gate: WeightLike,
        top_k: int,
        norm_topk_prob: bool = True,
        counts: Tensor | None = None,
        name: str = "router",
        *,
        bias: VectorLike | None = None,
        scoring: str = "softmax",
        softmax_after_topk: bool = False,
        correction: VectorLike | None = None,
        groups: int = 1,
        top_groups: int = 1,
        group_score: str = "max",
        scale: float = 1.0,
        per_expert_scale: VectorLike | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A mixture's router: logits by gate [experts, dim] and `bias` [experts], if given, then the top K experts of
        each row and their weights.

        Plain softmax goes to fused_moe_routing. "sigmoid", and softmax with a correction or groups, go to
        scored_moe_routing.
        """
        where = self.named(name)
        self._check_choice("scoring", scoring, SCORINGS, name)
        scored = scoring == "sigmoid" or correction is not None or (groups, top_groups) != (1, 1)
        if scored and (per_expert_scale is not None or softmax_after_topk):
            raise BuildError(
                f"{where}: per_expert_scale and softmax_after_topk go with plain softmax: no correction, no groups"
            )
        logits = self.linear(h, gate, bias, name + ".logits")
        if scored:
            return self.scored_moe_routing(
                logits,
                top_k,
                norm_topk_prob,
                counts,
                name,
                scoring=scoring,
                correction=correction,
                groups=groups,
                top_groups=top_groups,
                group_score=group_score,
                scale=scale,
            )
        return self.fused_moe_routing(
            logits,
            top_k,
            norm_topk_prob,
            counts,
            name,
            softmax_after_topk=softmax_after_topk,
            per_expert_scale=per_expert_scale,
            scale=scale,
        )

    def _check_choice(self, what: str, value: str, choices: tuple[str, ...], name: str) -> None:
        if value not in choices:
            raise BuildError(f"{self.named(name)}: {what} = {value!r}; choose {' or '.join(choices)}")

    def _experts_of(self, logits: Tensor, top_k: SupportsIndex, name: str) -> int:
        where = self.named(name)
        if len(logits.shape) != 2 or not logits.shape[1]:
            raise ShapeError(f"{where}: {logits.name} has shape {logits.shape}, expected [rows, experts]")
        self.check_rows(logits, name, logits.shape[1])
        self._check_top_k(top_k, logits.shape[1], where)
        return logits.shape[1]

    def _chosen(self, top_k: int, name: str) -> tuple[Tensor, Tensor]:
        ids = self.scratch(name + ".ids", (self.rows, top_k), "u32")
        return ids, self.scratch(name + ".weights", (self.rows, top_k))

    def _counted(self, counts: Tensor | None, experts: int, name: str) -> Tensor | None:
        if counts is not None:
            if counts.dtype != "u32":
                raise DTypeError(f"{self.named(name)}: {counts.name} is {counts.dtype}, expected u32")
            self.check_shape(counts, name, experts)
        return counts

    @staticmethod
    def _check_top_k(top_k: SupportsIndex, experts: int, where: str) -> None:
        largest = min(experts, _core.MAX_TOP_K)
        wanted = f"choose an integer from 1 to {largest}"
        if isinstance(top_k, bool) or not hasattr(top_k, "__index__"):
            raise BuildError(f"{where}: top_k = {top_k!r} of {experts} experts; {wanted}")
        if not 1 <= int(top_k) <= largest:
            raise ShapeError(f"{where}: top_k = {top_k} of {experts} experts; {wanted}")
