"""The routing of DeepSeek-V3 and families like it: by scores, with a correction for choosing, from the best groups."""

from __future__ import annotations

from typing import Protocol

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor, VectorLike
from ..graph.weights import WeightLike

__all__ = ["route"]


class Settings(Protocol):
    """What a family's configuration says of its routing."""

    @property
    def top_k(self) -> int: ...
    @property
    def norm_topk_prob(self) -> bool: ...
    @property
    def groups(self) -> int: ...
    @property
    def top_groups(self) -> int: ...
    @property
    def scale(self) -> float: ...


class Router(Protocol):
    """The weights of a layer that choose its experts."""

    @property
    def gate(self) -> WeightLike: ...
    @property
    def correction(self) -> VectorLike | None: ...


def route(
    pipe: Pipeline,
    h: Tensor,
    layer: Router,
    c: Settings,
    counts: Tensor,
    scoring: str = "sigmoid",
    group_score: str = "top2",
) -> tuple[Tensor, Tensor]:
    """The experts of each row and their weights, as `pipeline.Pipeline.moe_router` gives them."""
    return pipe.moe_router(
        h,
        layer.gate,
        c.top_k,
        c.norm_topk_prob,
        counts,
        scoring=scoring,
        correction=layer.correction,
        groups=c.groups,
        top_groups=c.top_groups,
        group_score=group_score,
        scale=c.scale,
    )
