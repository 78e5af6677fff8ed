"""What transformers' configuration classes say of a configuration; `python tests/support/config_classes.py` writes
pipeline/data/config_defaults.json anew from them."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Fields that say nothing of a forward pass, and tokens, which come from the files of the tokenizer.
LEFT_OUT = {
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "num_mtp_layers",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "use_cache",
}
# Families whose configuration is that of another one.
LIKE = {"kimi_k2": "deepseek_v3", "joyai_llm_flash": "deepseek_v3"}
# Where the code of a family lies, if not in a package of its name.
CODE = {
    "gemma3_text": "gemma3",
    "gemma4_text": "gemma4",
    "gemma4_unified_text": "gemma4_unified",
    "glm4v_moe_text": "glm4v_moe",
    "internlm3": "llama",
    "llama4_text": "llama4",
    "iquestcoder": "llama",
    "qwen3_5_moe_text": "qwen3_5_moe",
    "qwen3_5_text": "qwen3_5",
    "qwen3_vl_moe_text": "qwen3_vl_moe",
}
GEMMA4 = ("gemma4_text", "gemma4_unified_text")
# Families in which a part of a head may turn.
PARTIAL = ("glm4_moe", "glm4v_moe_text", "mimo_v2_flash", "minimax_m2", "phi3", *GEMMA4)
PARTIAL += ("qwen3_next", "qwen3_5_moe_text", "qwen3_5_text")
# Classes that give rope_parameters their default when an object is made.
MADE_LATER = ("gpt_oss", "gemma4_text", "gemma4_unified_text", "ministral3", "mistral4")
# Families whose class lies beside their published weights: the keys that these may leave out. They give all sizes.
OWN: dict[str, dict[str, Any]] = {
    "bailing_moe": {
        "hidden_act": "silu",
        "head_dim": None,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
        "use_bias": False,
        "use_qkv_bias": False,
        "use_qk_norm": False,
        "norm_head": False,
        "norm_softmax": False,
        "norm_topk_prob": True,
        "score_function": "softmax",
        "n_group": 1,
        "topk_group": 1,
        "routed_scaling_factor": 1.0,
        "first_k_dense_replace": 0,
        "num_shared_experts": 0,
        "moe_router_enable_expert_bias": False,
        "moe_router_enable_shared_expert": True,
        "moe_shared_expert_intermediate_size": None,
    }
}
# What the classes take besides their fields.
_QWEN3_NEXT: dict[str, Any] = {"partial_rotary_factor": 0.25, "full_attention_interval": 4}
MORE = {
    "qwen3_next": _QWEN3_NEXT,
    "qwen3_5_moe_text": _QWEN3_NEXT,
    "qwen3_5_text": _QWEN3_NEXT,
    "glm4_moe": {"partial_rotary_factor": 0.5},
    "glm4v_moe_text": {"partial_rotary_factor": 0.5},
    "phimoe": {"router_jitter_noise": 0.01},  # it chooses experts, too
    "solar_open": {"partial_rotary_factor": 1.0},
    "gemma3_text": {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6},
    "gemma4_text": {"global_head_dim": 512, "num_global_key_value_heads": None},
    "gemma4_unified_text": {"global_head_dim": 512, "num_global_key_value_heads": None},
}


def class_defaults(model_type: str) -> dict[str, Any]:
    """The values of the keys of config.json that are absent, by the class's fields and by what it makes of them."""
    from transformers import CONFIG_MAPPING

    if model_type in OWN:
        return OWN[model_type]
    made = CONFIG_MAPPING[LIKE.get(model_type, model_type)]
    fields = {field.name: field for field in dataclasses.fields(made)}
    own = [name for name in made.__annotations__ if name in fields and name not in LEFT_OUT]
    found = {name: fields[name].default for name in own}
    if isinstance(made.default_theta, float) and model_type not in GEMMA4:
        found["rope_theta"] = made.default_theta
    if found.get("rope_parameters", 0) is None and model_type in MADE_LATER:  # made when an object is
        rope = made().rope_parameters
        given = {"rope_theta": made.default_theta, "partial_rotary_factor": rope.get("partial_rotary_factor")}
        if model_type != "mistral4":  # whose share follows from other sizes
            given.pop("partial_rotary_factor")
        found["rope_parameters"] = {key: value for key, value in rope.items() if given.get(key) != value}
    return found | MORE.get(model_type, {})


# The small model that each case changes, with the keys of every family: a family's class takes those that it knows.
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
}
# What a family needs so that it is one that Onebuf runs.
NEEDED: dict[str, dict[str, Any]] = {
    "gemma4_text": {
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
        "hidden_size_per_layer_input": 0,
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "bailing_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 3},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 3, "mamba_n_heads": 4},
}
LATENT = (
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "joyai_llm_flash",
    "kimi_k2",
    "mistral4",
    "youtu",
)  # whose heads have sizes of their own
LINEAR, PLAIN = {"rope_type": "linear", "factor": 4.0}, {"rope_type": "default", "rope_theta": 500000.0}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CHANGES: dict[str, dict[str, Any]] = {
    "nothing but the family": {key: None for key in SMALL},  # None: the key is left out
    "small": {},
    "rope_scaling alone": {"rope_scaling": LINEAR},
    "rope_scaling and rope_theta": {"rope_scaling": YARN, "rope_theta": 20000.0},
    "rope_scaling beside rope_parameters": {"rope_scaling": LINEAR, "rope_parameters": PLAIN},
    "rope_scaling with its own base": {"rope_scaling": LINEAR | {"rope_theta": 777.0}, "rope_parameters": PLAIN},
    "rope_scaling that is null": {"rope_scaling": "null", "rope_parameters": PLAIN},
    "rope_parameters before rope_theta": {"rope_parameters": PLAIN, "rope_theta": 1234.0},
    "rope_parameters without a base": {"rope_parameters": LINEAR, "rope_theta": 1234.0},
    "rope_theta alone": {"rope_theta": 1234.0},
    "the trained context is left out": {"rope_scaling": LLAMA3},
    "the trained context beside": {"rope_scaling": YARN, "original_max_position_embeddings": 2048},
    "a part of the head": {"partial_rotary_factor": 0.5},
    "null for key-value heads": {"num_key_value_heads": "null"},
    "null for the head": {"head_dim": "null"},
    "null for the window": {"sliding_window": "null"},
    "a part for each type of layer": {
        "rope_parameters": {"full_attention": PLAIN | LINEAR, "sliding_attention": {"rope_type": "default"}},
        "rope_local_base_freq": 99.0,
    },
    "a part and rope_scaling": {"rope_parameters": {"full_attention": PLAIN}, "rope_scaling": LINEAR},
}


def made_config(model_type: str, change: str) -> dict[str, Any]:
    """config.json of a case."""
    latent = {"head_dim": None} if model_type in LATENT else {}
    config = {"model_type": model_type, **SMALL, **latent, **NEEDED.get(model_type, {}), **CHANGES[change]}
    return {key: None if value == "null" else value for key, value in config.items() if value is not None}


def expected(model_type: str, config: dict[str, Any]) -> dict[str, Any] | None:
    """What transformers makes of it: sizes, windows, and the frequencies of each rotary embedding; None where its class
    refuses it."""
    import transformers

    if model_type in OWN:
        return None
    made, code = transformers.CONFIG_MAPPING[LIKE.get(model_type, model_type)], _code(model_type)
    try:
        c = made(
            **copy.deepcopy({key: value for key, value in config.items() if key != "model_type"})
        )  # it writes there
        ropes = _frequencies(code, c)
    except Exception:  # whatever the strict classes raise
        return None
    found = {name: getattr(c, key, None) for name, key in FIELDS.items()}
    found |= {name: getattr(c, key) for name, key in MORE_FIELDS.items() if hasattr(c, key)}
    found["windows"] = _windows(c)
    if model_type in ("ministral3", "mistral4") and c.rope_parameters.get("llama_4_scaling_beta") is None:  # as well
        return None
    found["eps"] = getattr(c, "norm_eps", getattr(c, "layer_norm_epsilon", found["eps"]))
    if found["kv_heads"] is None:  # its attention would fail
        return None
    heads = c.num_attention_heads
    first = getattr(c, "head_dim", None) if model_type not in GEMMA4 else config.get("head_dim", 256)
    found["head_dim"] = first or c.hidden_size // heads
    if model_type in GEMMA4:
        found["kv_heads"] = config.get("num_key_value_heads", 4)
    turned = 2 * len(ropes[0]["inv_freq"]) if ropes else found["head_dim"]
    if turned != found["head_dim"] and model_type not in PARTIAL:  # as well
        return None
    return found | {"ropes": ropes}


FIELDS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
    "eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}


# Those of some families.
MORE_FIELDS = {
    "experts": "num_local_experts",
    "top_k": "num_experts_per_tok",
    "q_rank": "q_lora_rank",
    "rank": "kv_lora_rank",
    "nope": "qk_nope_head_dim",
    "turning": "qk_rope_head_dim",
    "v_dim": "v_head_dim",
    "leading_dense": "first_k_dense_replace",
    "norm_topk_prob": "norm_topk_prob",
    "head_norms": "use_qk_norm",
    "keys_are_values": "attention_k_eq_v",
    "embedding": "embedding_multiplier",
    "residual": "residual_multiplier",
    "logits": "logits_scaling",
}


def _windows(c: Any) -> list[int]:
    """The window of each layer, 0 for none."""
    kinds = getattr(c, "layer_types", None) or ["sliding_attention"] * c.num_hidden_layers
    window = getattr(c, "sliding_window", None) or 0
    return [window if kind == "sliding_attention" else 0 for kind in kinds]


def _code(model_type: str) -> Any:
    """The module with the family's code."""
    import importlib

    package = CODE.get(model_type, LIKE.get(model_type, model_type))
    return importlib.import_module(f"transformers.models.{package}.modeling_{package}")


def _frequencies(module: Any, c: Any) -> list[dict[str, Any]]:
    """The rotary embedding's frequencies and scale, one for each type of layer where these differ."""
    names = [name for name in vars(module) if name.endswith("RotaryEmbedding") and "Vision" not in name]
    if not names:  # nothing turns
        return []
    rope = getattr(module, sorted(names, key=lambda name: ("Text" not in name, name))[0])(c)
    kinds = [f"{kind}_" for kind in ("full_attention", "sliding_attention") if hasattr(rope, f"{kind}_inv_freq")] or [
        ""
    ]
    return [
        {
            "inv_freq": getattr(rope, f"{kind}inv_freq").tolist(),
            "scale": float(getattr(rope, f"{kind}attention_scaling")),
        }
        for kind in kinds
    ]


def main() -> None:
    from pipeline.models.defaults import FILE
    from pipeline.models.families import FAMILIES

    lines = [f'  "{name}": {json.dumps(class_defaults(name))}' for name in FAMILIES]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    cases = []
    for name in FAMILIES:
        for change in CHANGES:
            parts = change.startswith("a part ") and "of the head" not in change
            if parts and not name.startswith("gemma") or change == "null for the head" and name in LATENT:
                continue  # what no file says: transformers goes on without a word, Onebuf refuses it
            config = made_config(name, change)
            cases.append({"name": f"{name}, {change}", "config": config, "expected": expected(name, config)})
    text = json.dumps({"cases": cases}, default=str)
    with gzip.GzipFile(ROOT / "tests" / "data" / "configs.json.gz", "wb", mtime=0) as file:
        file.write(text.encode())


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in place of this folder, whose modules are named as others are
    main()
