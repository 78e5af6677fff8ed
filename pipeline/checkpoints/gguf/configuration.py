"""The config.json that a GGUF file's metadata and tensors amount to, by the tables of families.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import further_values as further
from . import recurrent
from .families import COMMON, NEEDED, Family
from .header import Header
from .metadata import MAX_LAYERS, Metadata
from .rope_factors import rope_factors
from .values import Array

__all__ = ["make_config"]

_SIGMOID = 2  # of llama.cpp's gating functions
_UNTURNED = 1e20  # frequencies divided by this much or more do not turn at all


def make_config(header: Header, architecture: str, family: Family) -> dict[str, Any]:
    """The configuration with transformers' keys. CheckpointError names a key that is missing or impossible."""
    values = Metadata(header, architecture)
    for key in (*NEEDED, *family.needed):
        other = family.instead.get(key)
        if values.get(key) is None and (other is None or values.get(other) is None):
            raise values.error(key, "there", None)
    config: dict[str, Any] = {"model_type": family.model_type} | dict(family.fixed)
    for name, key in (COMMON | dict(family.keys)).items():
        value = values.get(key)
        if value is None and key in family.instead:
            value = values.get(family.instead[key])
        if value is not None:
            config[name] = value
    config["num_hidden_layers"] = _layers(values)
    config["vocab_size"] = _vocabulary(values)
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    config["attention_bias"] = config["qkv_bias"] = "blk.0.attn_q.bias" in header.tensors
    config["_attention_output_bias"] = "blk.0.attn_output.bias" in header.tensors
    config["mlp_bias"] = any(f"blk.0.ffn_{part}.bias" in header.tensors for part in ("gate", "up", "down"))
    config |= _rope(values, family) | _windows(values, family, config["num_hidden_layers"])
    special = _SPECIAL.get(family.model_type)
    return config if special is None else config | special(values, config)


def _layers(values: Metadata) -> int:
    """The number of layers, without those that predict further tokens, which stand behind the others."""
    layers = values.whole("block_count") - values.whole("nextn_predict_layers", 0)
    if not 1 <= layers <= MAX_LAYERS:
        raise values.error("block_count", f"1 to {MAX_LAYERS:,} layers", layers)
    return layers


def _vocabulary(values: Metadata) -> int:
    """The rows of the embedding, because some files count more tokens than they embed."""
    embedding = values.header.tensors.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        return embedding.shape[0]
    tokens = values.header.metadata.get("tokenizer.ggml.tokens", ())
    return values.whole("vocab_size", len(tokens) if isinstance(tokens, Array) else None)


# Rotary embedding


def _rope(values: Metadata, family: Family) -> dict[str, Any]:
    base = values.number("rope.freq_base", 10000.0)
    full = {"rope_type": "default", "rope_theta": base} | _scaling(values)
    if not family.window or family.one_rope:
        return {"rope_parameters": full}
    theta = values.number("rope.freq_base_swa", base if family.theta is None else family.theta)
    return {
        "rope_parameters": {"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": theta}}
    }


def _scaling(values: Metadata) -> dict[str, Any]:
    kind, factor = values.get("rope.scaling.type", "none"), values.get("rope.scaling.factor")
    if kind == "none" and values.get("rope.scale_linear") not in (None, 0.0, 1.0):  # files of 2023
        kind, factor = "linear", values.get("rope.scale_linear")
    factors = rope_factors(values)
    if factors and kind in ("none", "linear"):
        return {"rope_type": "factors", "factors": factors}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return {"rope_type": "yarn", "factor": factor} | _yarn(values)
    return {} if kind == "none" else {"rope_type": kind}


def _yarn(values: Metadata) -> dict[str, Any]:
    keys = {
        "original_max_position_embeddings": "rope.scaling.original_context_length",
        "attention_factor": "rope.scaling.yarn_attn_factor",
        "extrapolation_factor": "rope.scaling.yarn_ext_factor",
        "beta_fast": "rope.scaling.yarn_beta_fast",
        "beta_slow": "rope.scaling.yarn_beta_slow",
    }
    found = {name: values.get(key) for name, key in keys.items() if values.get(key) is not None}
    scale = values.get("rope.scaling.yarn_log_multiplier")
    if scale is not None:  # DeepSeek: a tenth of mscale_all_dim, with which mscale agrees in all its models
        found["mscale"] = found["mscale_all_dim"] = round(values.number("rope.scaling.yarn_log_multiplier") / 0.1, 6)
    return found


# Windows of attention


def _windows(values: Metadata, family: Family, layers: int) -> dict[str, Any]:
    if not family.window or not values.get("attention.sliding_window"):
        return {}
    pattern = values.header.metadata.get(f"{values.architecture}.attention.sliding_window_pattern", family.window)
    if isinstance(pattern, Array):
        slides = [bool(item) for item in pattern]
    elif type(pattern) is int and 0 < pattern < 2**31:
        slides = [layer % pattern < pattern - 1 for layer in range(layers)]
    else:
        raise values.error("attention.sliding_window_pattern", "a whole number or an array of booleans", pattern)
    if len(slides) < layers:
        raise values.error("attention.sliding_window_pattern", f"as long as there are layers, {layers}", len(slides))
    return {"layer_types": ["sliding_attention" if slide else "full_attention" for slide in slides[:layers]]}


# The keys that one family needs besides the tables


def _gemma3(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """Attention's scale, which is not in the file: the largest model divides by the root of another number."""
    heads, hidden = values.whole("attention.head_count"), values.whole("embedding_length")
    head_dim = values.whole("attention.key_length", 256)
    return {
        "head_dim": head_dim,
        "query_pre_attn_scalar": hidden // heads if config["num_hidden_layers"] == 62 else head_dim,
    }


def _gemma4(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    full = dict(config["rope_parameters"]["full_attention"])
    if factors := full.pop("factors", None):
        turned = sum(factor < _UNTURNED for factor in factors)
        full |= {"rope_type": "proportional", "partial_rotary_factor": turned / len(factors)}
    found: dict[str, Any] = {
        "rope_parameters": config["rope_parameters"] | {"full_attention": full},
        "enable_moe_block": bool(config.get("num_experts")),
    }
    lengths = config.get("intermediate_size")
    if isinstance(lengths, list):  # layers without keys of their own have an MLP that is twice as wide
        found |= {"intermediate_size": min(lengths), "use_double_wide_mlp": True}
        if set(lengths) != {min(lengths), 2 * min(lengths)}:
            raise values.error("feed_forward_length", "one length and its double", lengths)
    embedding = values.header.tensors.get("per_layer_token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        found["vocab_size_per_layer_input"] = embedding.shape[0]
    heads, types = config.get("num_key_value_heads"), config.get("layer_types", [])
    if isinstance(heads, list):  # one number for the layers with a window, one for the others
        sides = {kind: {n for n, own in zip(heads, types) if own == kind} for kind in set(types)}
        if len(heads) < len(types) or any(len(side) != 1 for side in sides.values()):
            raise values.error("attention.head_count_kv", "one number for each kind of layer", heads)
        found["num_key_value_heads"] = next(iter(sides.get("sliding_attention", heads[:1])))
        found["num_global_key_value_heads"] = next(iter(sides.get("full_attention", heads[:1])))
    full_layers = [i for i, kind in enumerate(types) if kind == "full_attention"]
    found["attention_k_eq_v"] = bool(full_layers) and f"blk.{full_layers[0]}.attn_v.weight" not in values.header.tensors
    if full_layers and "num_global_key_value_heads" in found and not found["attention_k_eq_v"]:
        own = {"num_key_value_heads": found["num_global_key_value_heads"]}
        own |= {"head_dim": values.whole("attention.key_length")}
        found["per_layer_config"] = {str(full_layers[0]): own}
    return found


def _deepseek(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    key_length = values.whole("attention.key_length_mla", values.whole("attention.key_length"))
    nope = key_length - values.whole("rope.dimension_count")
    if nope < 1:
        raise values.error("attention.key_length", "more than rope.dimension_count", key_length)
    bias = any(name.split(".")[2:3] == ["exp_probs_b"] for name in values.header.tensors)
    sigmoid = values.get("expert_gating_func") == _SIGMOID
    grouped = "group_limited_greedy" if config["n_group"] > 1 else "greedy"
    return {
        "model_type": "deepseek_v3" if sigmoid else "deepseek_v2",
        "qk_nope_head_dim": nope,
        "v_head_dim": values.whole("attention.value_length_mla", values.whole("attention.value_length")),
        "num_key_value_heads": values.whole("attention.head_count"),
        "topk_method": "noaux_tc" if bias else grouped,
        "scoring_func": "sigmoid" if sigmoid else "softmax",
    }


def _glm4_moe(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    head_dim = values.whole(
        "attention.key_length", values.whole("embedding_length") // max(values.whole("attention.head_count"), 1)
    )
    turned = values.whole("rope.dimension_count", head_dim // 2)
    rope = config["rope_parameters"] | {"partial_rotary_factor": turned / max(head_dim, 1)}
    return {
        "head_dim": head_dim,
        "rope_parameters": rope,
        "use_qk_norm": "blk.0.attn_q_norm.weight" in values.header.tensors,
    }


def _granite(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"model_type": "granitemoeshared"} if config.get("shared_intermediate_size") else {}


_SPECIAL: dict[str, Callable[[Metadata, Mapping[str, Any]], dict[str, Any]]] = {
    "gpt_oss": further.gpt_oss,
    "gemma3_text": _gemma3,
    "gemma4_text": _gemma4,
    "deepseek_v2": _deepseek,
    "glm4_moe": _glm4_moe,
    "granitemoe": _granite,
    "afmoe": further.sigmoid_alone,
    "bailing_moe": further.bailing,
    "dots1": further.sigmoid_alone,
    "ernie4_5": further.biased,
    "ernie4_5_moe": further.ernie,
    "exaone_moe": further.sigmoid_alone,
    "llama4_text": further.llama4,
    "minimax_m2": further.sigmoid_alone,
    "olmo2": further.olmo2,
    "phi3": further.phi3,
    "seed_oss": further.seed_oss,
    "granitemoehybrid": recurrent.granite_hybrid,
    "lfm2": recurrent.lfm2,
    "lfm2_moe": recurrent.lfm2,
    "nemotron_h": recurrent.nemotron,
    "qwen3_next": recurrent.delta,
    "qwen3_5_moe_text": recurrent.delta,
    "qwen3_5_text": recurrent.delta,
}
