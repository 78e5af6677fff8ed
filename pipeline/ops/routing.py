"""Routing: from router logits to the top K experts of each row, and their weights.

logits are [rows, experts] float32; 1 ≤ top_k ≤ min(experts, MAX_TOP_K). Ids are [rows, top_k] uint32, by
descending probability and the lower index first on a tie; weights [rows, top_k] float32. NaN is never
chosen: where fewer than top_k logits are numbers, the rest of the ids are 2³² - 1 with weight 0. +inf
takes all the weight. A row with no logit above -inf raises RunError.
"""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from ..device.core import _core
from ..device.device import Device
from ..errors import BuildError
from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import call


def moe_softmax_topk(
    logits: ArrayLike,
    top_k: SupportsIndex,
    *,
    norm_topk_prob: bool = True,
    softmax_after_topk: bool = False,
    device: str | Device = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """(ids, weights): softmax over the experts, the top K, made to add up to 1 with `norm_topk_prob`.

    `softmax_after_topk` takes the softmax over the top K alone, which is the same as norm_topk_prob. This is
    fused_moe_routing without a scale per expert.
    """
    return _routing("moe_softmax_topk", logits, top_k, None, norm_topk_prob or softmax_after_topk, device, None)


def fused_moe_routing(
    logits: ArrayLike,
    top_k: SupportsIndex,
    per_expert_scale: ArrayLike | None = None,
    *,
    norm_topk_prob: bool = True,
    softmax_after_topk: bool = False,
    device: str | Device = "auto",
    bits: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """moe_softmax_topk, then each weight times per_expert_scale [experts] of its expert (float32, float16 or
    bfloat16); the weights are not made to add up to 1 again. Gemma 4 has it."""
    return _routing(
        "fused_moe_routing", logits, top_k, per_expert_scale, norm_topk_prob or softmax_after_topk, device, bits
    )


def _routing(
    op: str,
    logits: ArrayLike,
    top_k: SupportsIndex,
    per_expert_scale: ArrayLike | None,
    norm_topk_prob: bool,
    device: str | Device,
    bits: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(top_k, (bool, np.bool_)) or not hasattr(top_k, "__index__"):
        raise BuildError(
            f"{op}: top_k = {top_k!r} must be an integer from 1 to the number of experts, at most {_core.MAX_TOP_K}"
        )
    count = int(top_k)

    def build(pipe: Pipeline, tensors: call.Tensors) -> tuple[Tensor, Tensor]:
        scale = tensors.get("per_expert_scale")
        return pipe.fused_moe_routing(tensors["logits"], count, norm_topk_prob, name=op, per_expert_scale=scale)

    arrays = {"logits": logits, "per_expert_scale": per_expert_scale}
    ids, weights = call.run(op, arrays, build, (count, bool(norm_topk_prob)), device=device, bits=bits)
    return ids, weights
