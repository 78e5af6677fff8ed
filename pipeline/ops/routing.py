"""Routing: from router logits to the top K experts of each row, and their weights.

logits are [rows, experts] float32; 1 ≤ top_k ≤ min(experts, 64). Ids are [rows, top_k] uint32, by
descending probability and the lower index first on a tie; weights [rows, top_k] float32. NaN is never
chosen: where fewer than top_k logits are numbers, the rest of the ids are 2³² - 1 with weight 0. +inf
takes all the weight. A row with no logit above -inf raises RunError.
"""

from __future__ import annotations

import numpy as np

from ..errors import BuildError
from . import call


def moe_softmax_topk(logits, top_k, *, norm_topk_prob=True, softmax_after_topk=False, device="auto"):
    """(ids, weights): softmax over the experts, the top K, made to add up to 1 with `norm_topk_prob`.

    `softmax_after_topk` takes the softmax over the top K alone, which is the same as renormalising.
    """
    return _route("moe_softmax_topk", logits, top_k, None, norm_topk_prob or softmax_after_topk, device, None)


def fused_moe_routing(
    logits, top_k, per_expert_scale=None, *, norm_topk_prob=True, softmax_after_topk=False, device="auto", bits=None
):
    """The same, then each weight times per_expert_scale [experts] of its expert (float32, float16 or
    bfloat16), with no second renormalisation. Gemma 4."""
    return _route(
        "fused_moe_routing", logits, top_k, per_expert_scale, norm_topk_prob or softmax_after_topk, device, bits
    )


def _route(op: str, logits, top_k, per_expert_scale, renormalise, device, bits):
    if isinstance(top_k, (bool, np.bool_)) or not hasattr(top_k, "__index__"):
        raise BuildError(f"{op}: top_k = {top_k!r} must be an integer from 1 to the number of experts, at most 64")
    top_k = int(top_k)

    def build(pipe, tensors):
        if op == "moe_softmax_topk":
            return pipe.moe_softmax_topk(tensors["logits"], top_k, renormalise)
        return pipe.fused_moe_routing(tensors["logits"], top_k, tensors.get("per_expert_scale"), renormalise)

    arrays = {"logits": logits, "per_expert_scale": per_expert_scale}
    return call.run(op, arrays, build, (top_k, bool(renormalise)), device=device, bits=bits)
