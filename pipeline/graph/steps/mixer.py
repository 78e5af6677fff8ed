"""The routing of SparseMixer."""

from __future__ import annotations

from ..tensors import Tensor
from .routing import Routing


class Mixer(Routing):
    def mixer_routing(
        self, logits: Tensor, distance: float, counts: Tensor | None = None, name: str = "mixer_routing"
    ) -> tuple[Tensor, Tensor]:
        """The two largest router logits (Liu et al. 2024): (ids [R, 2] u32, weights [R, 2]).

        The weight of an expert is its softmax among those near it: of logit x with (top - x) / max(|x|, top) ≤
        `distance`, for the second one without the first. NaN is never chosen; a row with no logit above -inf fails.
        `counts` as for `fused_moe_routing`."""
        experts = self._experts_of(logits, 2, name)
        status, counted = self.status(), self._counted(counts, experts, name)
        ids, weights = self._chosen(2, name)
        constants = {
            "rows": self.rows,
            "experts": experts,
            "top_k": 2,
            "renormalise": 0,
            "has_scale": 0,
            "has_counts": int(counts is not None),
            "step": self.failing_step(name),
            "scale": self.finite(distance, "distance", name),
        }
        self.add(name, "moe_routing_mixer", (logits,), (ids, weights, counted or status, status), constants)
        return ids, weights
