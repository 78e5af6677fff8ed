"""Further families of GGUF files, most of which are computed by the file of another one."""

from typing import Any

from ..checkpoint import Layout
from . import names
from .family import Family

__all__ = ["FURTHER"]

_EXPERTS = ("expert_count", "expert_used_count")
_SILU = {"hidden_act": "silu"}
_PAIRS = Layout(rope_pairs=True)
_LOCAL = {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}
_MIXTURE = {
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "norm_topk_prob": "expert_weights_norm",
    "routed_scaling_factor": "expert_weights_scale",
    "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
    "first_k_dense_replace": "leading_dense_block_count",
}
_DEFAULTS: dict[str, Any] = {
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 0,
}
_WINDOW = {"sliding_window": "attention.sliding_window"}

FURTHER = {
    "granite": Family(
        "granite",
        names.LLAMA,
        {
            "attention_multiplier": "attention.scale",
            "embedding_multiplier": "embedding_scale",
            "residual_multiplier": "residual_scale",
            "logits_scaling": "logit_scale",
        },
        _SILU,
        layout=_PAIRS,
    ),
    "ernie4_5": Family("ernie4_5", names.LLAMA, fixed=_SILU),
    "seed_oss": Family("seed_oss", names.SEED_OSS, fixed=_SILU),
    "smollm3": Family("smollm3", names.LLAMA, fixed=_SILU | {"no_rope_layer_interval": 4}, layout=_PAIRS),
    "olmo2": Family("olmo2", names.OLMO2, _WINDOW, _SILU, window=4),
    "phi3": Family("phi3", names.PHI3, _WINDOW, _SILU),
    "minimax-m2": Family(
        "minimax_m2",
        names.MINIMAX_M2,
        _LOCAL | {"intermediate_size": "expert_feed_forward_length", "rotary_dim": "rope.dimension_count"},
        _SILU,
        _EXPERTS,
    ),
    "ernie4_5-moe": Family(
        "ernie4_5_moe",
        names.ERNIE_MOE,
        {
            "moe_num_experts": "expert_count",
            "moe_k": "expert_used_count",
            "moe_intermediate_size": "expert_feed_forward_length",
            "moe_layer_interval": "interleave_moe_layer_step",
            "moe_layer_start_index": "leading_dense_block_count",
        },
        _SILU | {"moe_layer_start_index": 0},
        _EXPERTS,
    ),
    "hunyuan-dense": Family("hunyuan_v1_dense", names.HUNYUAN, fixed=_SILU),
    "hunyuan-moe": Family(
        "hunyuan_v1_moe",
        names.HUNYUAN,
        {
            "num_experts": "expert_count",
            "moe_topk": "expert_used_count",
            "intermediate_size": "expert_feed_forward_length",
        },
        _SILU,
        _EXPERTS,
    ),
    "bailingmoe2": Family("bailing_moe", names.BAILING, _MIXTURE, _SILU | _DEFAULTS | {"use_qk_norm": True}, _EXPERTS),
    "dots1": Family(
        "dots1",
        names.CORRECTED,
        _MIXTURE | {"n_routed_experts": "expert_count", "n_shared_experts": "expert_shared_count"},
        _SILU | _DEFAULTS,
        _EXPERTS,
    ),
    "exaone-moe": Family(
        "exaone_moe",
        names.CORRECTED,
        _MIXTURE | _WINDOW | {"num_shared_experts": "expert_shared_count"},
        _SILU | _DEFAULTS,
        (*_EXPERTS, "attention.sliding_window"),
        window=4,
        one_rope=True,
    ),
    "afmoe": Family(
        "afmoe",
        names.AFMOE,
        _MIXTURE
        | _WINDOW
        | {
            "num_shared_experts": "expert_shared_count",
            "num_dense_layers": "leading_dense_block_count",
            "route_norm": "expert_weights_norm",
            "route_scale": "expert_weights_scale",
        },
        _SILU | {"num_dense_layers": 0, "route_norm": False, "mup_enabled": True},
        _EXPERTS,
        window=4,
        one_rope=True,
    ),
    "llama4": Family(
        "llama4_text",
        names.LLAMA4,
        _LOCAL
        | {
            "intermediate_size": "expert_feed_forward_length",
            "intermediate_size_mlp": "feed_forward_length",
            "interleave_moe_layer_step": "interleave_moe_layer_step",
        },
        _SILU
        | {
            "attention_chunk_size": 8192,
            "attn_temperature_tuning": True,
            "floor_scale": 8192,
            "attn_scale": 0.1,
            "no_rope_layer_interval": 4,
        },
        (*_EXPERTS, "interleave_moe_layer_step"),
    ),
}
