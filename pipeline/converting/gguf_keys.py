"""The metadata that a configuration amounts to in a GGUF file, by the tables with which such files are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checkpoints.gguf.families import COMMON, FAMILIES, Family
from ..errors import UnsupportedError
from ..models.defaults import with_defaults
from ..models.fields import EXPERTS
from ..models.rope import Rope

__all__ = ["Factors", "architecture_of", "make_keys", "rope_tensors"]

Config = Mapping[str, Any]
Factors = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]

# model_type -> the key in FAMILIES, where that is not the family of this model_type.
ALSO = {"mistral": "llama", "granitemoeshared": "granitemoe", "olmo3": "olmo2", "deepseek_v3": "deepseek2"}
SIGMOID = ("glm4_moe", "deepseek_v3", "dots1", "exaone_moe", "afmoe", "minimax_m2", "bailing_moe")
FLOATS = (
    "epsilon",
    "scale",
    "clamp_kqv",
    "softcapping",
    "freq_base",
    "freq_base_swa",
    "factor",
    "multiplier",
    "_factor",
)
NOT_WRITTEN = ("gemma4_text", "llama4_text")  # their layers differ in ways that the keys below do not say


def architecture_of(config: Config, source: str) -> tuple[str, Family]:
    """(key in FAMILIES, family). UnsupportedError for a family that GGUF has no name for."""
    model_type = str(config.get("model_type"))
    known = {family.model_type: key for key, family in reversed(FAMILIES.items())} | ALSO
    if model_type not in known or model_type in NOT_WRITTEN:
        possible = sorted(set(known) - set(NOT_WRITTEN))
        raise UnsupportedError(
            f"{source}: model_type {model_type!r} cannot be written as GGUF; these can: {', '.join(possible)}"
        )
    return known[model_type], FAMILIES[known[model_type]]


def make_keys(given: Config, key: str, family: Family, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The metadata's keys with their architecture, from a configuration. tensors: GGUF's names and shapes."""
    config = with_defaults(given)
    found = {name: config[own] for own, name in (COMMON | dict(family.keys)).items() if _sayable(config.get(own))}
    experts = next((given[own] for own in EXPERTS if given.get(own) is not None), None)
    if experts is not None and "expert_count" in family.keys.values():
        found["expert_count"] = experts
    if "feed_forward_length" not in found and _sayable(config.get("intermediate_size")):
        found["feed_forward_length"] = config["intermediate_size"]  # llama.cpp asks for it beside that of experts
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    found.setdefault("attention.head_count_kv", heads)
    found |= {
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "vocab_size": config["vocab_size"],
    }
    found |= _rope(config, head_dim) | _windows(config, family)
    if config.get("model_type") in SIGMOID:
        found["expert_gating_func"] = 2
    special = _SPECIAL.get(str(config.get("model_type")))
    if special is not None:
        found |= special(config, tensors)
    architecture = "llama" if key == "mixtral" else key
    typed = {name: float(value) if name.endswith(FLOATS) else value for name, value in found.items()}
    return {"general.architecture": architecture} | {f"{architecture}.{name}": value for name, value in typed.items()}


def _sayable(value: object) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, list) and bool(value))


def _full_rope(config: Config) -> dict[str, Any]:
    rope: dict[str, Any] = config.get("rope_scaling") or config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    return {"rope_theta": config.get("rope_theta", 10000.0)} | {k: v for k, v in rope.items() if v is not None}


def _rope(config: Config, head_dim: int) -> dict[str, Any]:
    rope = _full_rope(config)
    kind = rope.get("rope_type", rope.get("type", "default"))
    found: dict[str, Any] = {"rope.freq_base": float(rope["rope_theta"])}
    parts = config.get("rope_parameters") or {}
    sliding = parts.get("sliding_attention")
    base = sliding.get("rope_theta") if isinstance(sliding, dict) else config.get("rope_local_base_freq")
    if base is not None:
        found["rope.freq_base_swa"] = float(base)
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if share is not None:
        found["rope.dimension_count"] = int(head_dim * share)
    if kind in ("linear", "yarn"):
        found |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        trained = rope.get("original_max_position_embeddings", config["max_position_embeddings"])
        found["rope.scaling.original_context_length"] = trained
        names = {"beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow", "attention_factor": "yarn_attn_factor"}
        found |= {f"rope.scaling.{own}": float(rope[name]) for name, own in names.items() if name in rope}
        if rope.get("mscale_all_dim"):
            found["rope.scaling.yarn_log_multiplier"] = rope["mscale_all_dim"] / 10
    if kind in ("longrope", "su"):
        trained = config.get("original_max_position_embeddings") or rope["original_max_position_embeddings"]
        longest = config["max_position_embeddings"]
        scale = rope.get("attention_factor")
        if scale is None:
            scale = math.sqrt(1 + math.log(longest / trained) / math.log(trained)) if longest > trained else 1.0
        found |= {"rope.scaling.attn_factor": float(scale), "rope.scaling.original_context_length": trained}
    if rope.get("alpha"):  # Hunyuan: the base is stretched
        found["rope.freq_base"] = rope["rope_theta"] * rope["alpha"] ** (head_dim / (head_dim - 2))
    return found


def rope_tensors(config: Config, source: str) -> Factors:
    """What each frequency is divided by, where the file holds that as tensors."""
    rope = _full_rope(config)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "factors":
        return {"rope_freqs.weight": np.asarray(rope["factors"], np.float32)}
    if kind in ("longrope", "su"):
        return {f"rope_factors_{n}.weight": np.asarray(rope[f"{n}_factor"], np.float32) for n in ("short", "long")}
    if kind != "llama3":
        return {}
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    scaled = Rope.read(dict(config), head_dim, source).inv_freq.astype(np.float64)
    plain = float(rope["rope_theta"]) ** (-np.arange(0, 2 * len(scaled), 2) / (2 * len(scaled)))
    return {"rope_freqs.weight": (plain / scaled).astype(np.float32)}


def _windows(config: Config, family: Family) -> dict[str, Any]:
    if not family.window or not config.get("sliding_window"):
        return {}
    kinds = config.get("layer_types")
    if not isinstance(kinds, list):
        return {}
    return {"attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds]}


# The keys that one family needs besides the tables


def _deepseek(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    rank, turning = config["kv_lora_rank"], config["qk_rope_head_dim"]
    own = {"key": config["qk_nope_head_dim"] + turning, "value": config["v_head_dim"]}
    found: dict[str, Any] = {"rope.dimension_count": turning}
    found["expert_gating_func"] = 2 if config["model_type"] == "deepseek_v3" else 1
    if any(".attn_k_b." in name for name in tensors):  # one head of keys, the compressed row
        found |= {"attention.head_count_kv": 1, "attention.key_length": rank + turning, "attention.value_length": rank}
        return found | {f"attention.{part}_length_mla": length for part, length in own.items()}
    return found | {f"attention.{part}_length": length for part, length in own.items()}


def _bailing(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return {"expert_shared_count": config.get("num_shared_experts") or 0}


def _minimax(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return {"rope.dimension_count": config["rotary_dim"]} if config.get("rotary_dim") else {}


def _hunyuan_moe(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return {"expert_feed_forward_length": config["intermediate_size"]}


def _lfm2(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Layers with a short convolution have no keys."""
    kinds, length = config["layer_types"], config["intermediate_size"]
    if config.get("block_auto_adjust_ff_dim"):
        multiple = config.get("block_multiple_of") or 1
        length = -(-int(2 * length / 3 * (config.get("block_ffn_dim_multiplier") or 1.0)) // multiple) * multiple
    heads = [config["num_key_value_heads"] * (kind == "full_attention") for kind in kinds]
    return {"attention.head_count_kv": heads, "feed_forward_length": length, "expert_gating_func": 2}


def _exaone(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    kinds = config.get("mlp_layer_types")
    found: dict[str, Any] = {"expert_weights_norm": True}
    return found | ({"leading_dense_block_count": kinds.count("dense")} if isinstance(kinds, list) else {})


def _normed(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return {"expert_weights_norm": True}


def _delta(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The gated delta rule; Qwen3.5's rope has sections, which are one for texts."""
    kinds = [kind == "linear_attention" for kind in config["layer_types"]]
    found = {
        "ssm.inner_size": config["linear_num_value_heads"] * config["linear_value_head_dim"],
        "full_attention_interval": kinds.index(False) + 1 if False in kinds else len(kinds),
        "attention.recurrent_layers": kinds,
    }
    if config["model_type"] == "qwen3_next":
        return found
    pairs = int(config["head_dim"] * (_full_rope(config).get("partial_rotary_factor") or 0.25)) // 2
    return found | {"rope.dimension_sections": [(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3, 0]}


def _heads_of(config: Config, kinds: list[str]) -> list[int]:
    """Key-value heads by layer: those that do not attend have none."""
    return [config["num_key_value_heads"] * (kind in ("full_attention", "attention")) for kind in kinds]


def _granite_hybrid(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    found = {
        "attention.head_count_kv": _heads_of(config, config["layer_types"]),
        "ssm.inner_size": config["mamba_expand"] * config["hidden_size"],
        "rope.scaling.finetuned": config.get("position_embedding_type") == "rope",
    }
    if not config.get("num_local_experts"):
        found["feed_forward_length"] = config["shared_intermediate_size"]
    return found


def _nemotron(config: Config, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    kinds = config["layers_block_type"]
    lengths = {"moe": config.get("moe_intermediate_size", 0), "mlp": config["intermediate_size"]}
    return {
        "attention.head_count_kv": _heads_of(config, kinds),
        "ssm.inner_size": config["mamba_num_heads"] * config["mamba_head_dim"],
        "block_count": len(kinds),
        "feed_forward_length": [lengths.get(kind, 0) for kind in kinds],
        "expert_shared_count": config.get("n_shared_experts") or 0,
        "attention.layer_norm_epsilon": float(config["layer_norm_epsilon"]),
    }


_SPECIAL = {
    "qwen3_next": _delta,
    "qwen3_5_text": _delta,
    "qwen3_5_moe_text": _delta,
    "granitemoehybrid": _granite_hybrid,
    "nemotron_h": _nemotron,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "bailing_moe": _bailing,
    "minimax_m2": _minimax,
    "hunyuan_v1_moe": _hunyuan_moe,
    "exaone_moe": _exaone,
    "afmoe": _normed,
    "lfm2": _lfm2,
    "lfm2_moe": _lfm2,
}
