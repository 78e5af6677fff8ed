"""Values of configurations that no table gives: they follow from other values of a GGUF file, or from its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .metadata import Metadata
from .rope_factors import rope_factors

__all__ = ["bailing", "biased", "ernie", "gpt_oss", "llama4", "olmo2", "phi3", "seed_oss", "sigmoid_alone"]

SOFTMAX, SIGMOID = 1, 2  # of llama.cpp's gating functions
WITHOUT_NORMS = 128  # experts of the Llama 4 whose heads are not normed


def _rows(values: Metadata, stem: str) -> int:
    """The rows of the first tensor of that name, 0 where no block has it."""
    found = (info for name, info in values.header.tensors.items() if name.split(".", 2)[2:] == [f"{stem}.weight"])
    return next((info.shape[-2] for info in found if len(info.shape) > 1), 0)


def _gating(values: Metadata, *known: int) -> int:
    """The first of `known` where the file does not say; an error for a function that the family has not."""
    found = values.whole("expert_gating_func", known[0])
    if found not in known:
        raise values.error("expert_gating_func", " or ".join(str(number) for number in known), found)
    return found


def sigmoid_alone(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    _gating(values, SIGMOID)
    return {}


def biased(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"use_bias": config["attention_bias"]}


def seed_oss(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"attention_out_bias": config["_attention_output_bias"]}


def ernie(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """The experts that every token takes lie in one MLP, whose rows say how many they are."""
    _gating(values, SOFTMAX)
    shared, hidden = _rows(values, "ffn_gate_shexp"), values.whole("expert_feed_forward_length")
    if not hidden or shared % hidden:
        raise values.error("expert_feed_forward_length", f"a divisor of {shared}, the rows of ffn_gate_shexp", hidden)
    return {"moe_num_shared_experts": shared // hidden} | biased(values, config)


def gpt_oss(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """Yarn's range of frequencies is not rounded to whole ones."""
    return {"rope_parameters": config["rope_parameters"] | {"truncate": False}}


def bailing(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    head_dim = values.whole(
        "attention.key_length", values.whole("embedding_length") // max(values.whole("attention.head_count"), 1)
    )
    shared, turned = _rows(values, "ffn_gate_shexp"), values.whole("rope.dimension_count", head_dim)
    return {
        "head_dim": head_dim,
        "num_shared_experts": min(shared, 1),
        "moe_shared_expert_intermediate_size": shared or None,
        "score_function": "sigmoid" if _gating(values, SIGMOID, SOFTMAX) == SIGMOID else "softmax",
        "moe_router_enable_expert_bias": any(name.endswith("exp_probs_b.bias") for name in values.header.tensors),
        "rope_parameters": config["rope_parameters"] | {"partial_rotary_factor": turned / max(head_dim, 1)},
    }


def llama4(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """A window of 0 says that all layers have rope and see all positions."""
    normed = {"use_qk_norm": values.whole("expert_count") != WITHOUT_NORMS}
    if values.get("attention.sliding_window") != 0:
        return normed
    layers = config["num_hidden_layers"]
    return normed | {"attention_chunk_size": None, "no_rope_layers": [1] * layers}


def olmo2(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """OLMo 3 where there is a window."""
    if config.get("sliding_window"):
        return {"model_type": "olmo3"}
    return {"rope_parameters": config["rope_parameters"]["full_attention"]}


def phi3(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    head_dim = values.whole("embedding_length") // max(values.whole("attention.head_count"), 1)
    turned = values.whole("rope.dimension_count", head_dim)
    rope = config["rope_parameters"] | {"partial_rotary_factor": turned / max(head_dim, 1)}
    short, long = (rope_factors(values, f"rope_factors_{length}") for length in ("short", "long"))
    trained = values.whole("rope.scaling.original_context_length", values.whole("context_length"))
    if short or long:
        rope |= {"rope_type": "longrope", "short_factor": short, "long_factor": long}
        rope |= {"attention_factor": values.number("rope.scaling.attn_factor", 1.0)}
    return {"rope_parameters": rope, "original_max_position_embeddings": trained}
