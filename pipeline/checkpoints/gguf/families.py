"""The family of each of GGUF's architectures, and where each value of its config.json stands in the metadata.

Keys are written without the architecture in front: "block_count" is "qwen3moe.block_count" in the file.
"""

from collections.abc import Mapping
from typing import Any

from ..checkpoint import Layout
from . import names
from .family import Family
from .further import FURTHER

__all__ = ["COMMON", "FAMILIES", "NEEDED", "Family", "family_key"]


NEEDED = (
    "block_count",
    "context_length",
    "embedding_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)

COMMON = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}

_EXPERTS = ("expert_count", "expert_used_count")
_LOCAL = {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}
_QWEN = {
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
_ROUTED = {
    "n_routed_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "n_shared_experts": "expert_shared_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "first_k_dense_replace": "leading_dense_block_count",
    "routed_scaling_factor": "expert_weights_scale",
    "norm_topk_prob": "expert_weights_norm",
    "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
}
_ROUTED_DEFAULTS: dict[str, Any] = {
    "first_k_dense_replace": 0,
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": False,
    "n_group": 1,
    "topk_group": 1,
}

_SILU = {"hidden_act": "silu"}
_GELU = {"hidden_activation": "gelu_pytorch_tanh"}
_PAIRS = Layout(rope_pairs=True)


_GRANITE = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
    "shared_intermediate_size": "expert_shared_feed_forward_length",
}
_LFM2 = {"norm_eps": "attention.layer_norm_rms_epsilon", "conv_L_cache": "shortconv.l_cache"}
_NEMOTRON = Family(
    "nemotron_h",
    names.NEMOTRON_H,
    {
        "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
        "n_routed_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
        "moe_shared_expert_intermediate_size": "expert_shared_feed_forward_length",
        "moe_latent_size": "moe_latent_size",
        "norm_topk_prob": "expert_weights_norm",
        "routed_scaling_factor": "expert_weights_scale",
        "n_group": "expert_group_count",
        "topk_group": "expert_group_used_count",
        "conv_kernel": "ssm.conv_kernel",
        "mamba_num_heads": "ssm.time_step_rank",
        "n_groups": "ssm.group_count",
        "ssm_state_size": "ssm.state_size",
    },
    {"norm_topk_prob": False},
    ("ssm.inner_size", "ssm.time_step_rank"),
    {"attention.layer_norm_rms_epsilon": "attention.layer_norm_epsilon"},
    layout=Layout(slopes=True),
)


def _qwen3_next(model_type: str, *, tiled: bool = False, experts: bool = True) -> Family:
    keys = {
        "linear_conv_kernel_dim": "ssm.conv_kernel",
        "linear_num_key_heads": "ssm.group_count",
        "linear_num_value_heads": "ssm.time_step_rank",
        "linear_key_head_dim": "ssm.state_size",
    }
    if experts:
        keys |= _QWEN | {"shared_expert_intermediate_size": "expert_shared_feed_forward_length"}
    return Family(
        model_type,
        names.QWEN3_NEXT,
        keys,
        _SILU | {"norm_topk_prob": True},
        ("ssm.inner_size", *(_EXPERTS if experts else ())),
        layout=Layout(norms_plus_one=True, slopes=True, tiled=tiled),
    )


FAMILIES = {
    "llama": Family("llama", names.LLAMA, fixed=_SILU, layout=_PAIRS),
    "mixtral": Family("mixtral", names.MIXTRAL, _LOCAL, _SILU, _EXPERTS, layout=_PAIRS),
    "qwen2": Family("qwen2", names.LLAMA, fixed=_SILU),
    "qwen3": Family("qwen3", names.LLAMA, fixed=_SILU),
    "qwen2moe": Family(
        "qwen2_moe",
        names.QWEN2_MOE,
        _QWEN | {"shared_expert_intermediate_size": "expert_shared_feed_forward_length"},
        _SILU | {"norm_topk_prob": False},
        _EXPERTS,
    ),
    "qwen3moe": Family("qwen3_moe", names.MOE, _QWEN, _SILU | {"norm_topk_prob": True}, _EXPERTS),
    "qwen3next": _qwen3_next("qwen3_next"),
    "qwen35moe": _qwen3_next("qwen3_5_moe_text", tiled=True),
    "qwen35": _qwen3_next("qwen3_5_text", tiled=True, experts=False),
    "olmoe": Family(
        "olmoe",
        names.MOE,
        {"num_experts": "expert_count", "num_experts_per_tok": "expert_used_count", "clip_qkv": "attention.clamp_kqv"},
        _SILU | {"norm_topk_prob": False},
        _EXPERTS,
    ),
    "granitemoe": Family("granitemoe", names.GRANITE_MOE, _LOCAL | _GRANITE, _SILU, _EXPERTS, layout=_PAIRS),
    "granitehybrid": Family(
        "granitemoehybrid",
        names.GRANITE_HYBRID,
        _LOCAL
        | _GRANITE
        | {
            "mamba_d_conv": "ssm.conv_kernel",
            "mamba_n_heads": "ssm.time_step_rank",
            "mamba_n_groups": "ssm.group_count",
            "mamba_d_state": "ssm.state_size",
        },
        _SILU,
        ("ssm.inner_size", "ssm.time_step_rank"),
        layout=Layout(rope_pairs=True, slopes=True),
    ),
    "lfm2": Family("lfm2", names.LFM2, _LFM2, {"block_auto_adjust_ff_dim": False}),
    "lfm2moe": Family(
        "lfm2_moe",
        names.LFM2,
        _LFM2
        | _QWEN
        | {"num_dense_layers": "leading_dense_block_count", "routed_scaling_factor": "expert_weights_scale"},
        {"num_dense_layers": 0, "norm_topk_prob": True},
        _EXPERTS,
    ),
    "nemotron_h": _NEMOTRON,
    "nemotron_h_moe": _NEMOTRON,
    "gpt-oss": Family(
        "gpt_oss",
        names.GPT_OSS,
        _LOCAL | {"intermediate_size": "expert_feed_forward_length", "sliding_window": "attention.sliding_window"},
        _SILU | {"swiglu_alpha": 1.702, "swiglu_limit": 7.0},
        _EXPERTS,
        window=2,
        one_rope=True,
    ),
    "gemma3": Family(
        "gemma3_text",
        names.GEMMA3,
        {"sliding_window": "attention.sliding_window", "final_logit_softcapping": "final_logit_softcapping"},
        _GELU,
        window=6,
        theta=10000.0,
        layout=Layout(norms_plus_one=True),
    ),
    "gemma4": Family(
        "gemma4_text",
        names.GEMMA4,
        {
            "sliding_window": "attention.sliding_window",
            "final_logit_softcapping": "final_logit_softcapping",
            "head_dim": "attention.key_length_swa",
            "global_head_dim": "attention.key_length",
            "num_experts": "expert_count",
            "top_k_experts": "expert_used_count",
            "moe_intermediate_size": "expert_feed_forward_length",
            "num_kv_shared_layers": "attention.shared_kv_layers",
            "hidden_size_per_layer_input": "embedding_length_per_layer_input",
        },
        _GELU,
        window=6,
        theta=10000.0,
    ),
    "deepseek2": Family(
        "deepseek_v2",
        names.DEEPSEEK,
        _ROUTED
        | {
            "q_lora_rank": "attention.q_lora_rank",
            "kv_lora_rank": "attention.kv_lora_rank",
            "qk_rope_head_dim": "rope.dimension_count",
        },
        _SILU | _ROUTED_DEFAULTS | {"q_lora_rank": None, "rope_interleave": True},
        (*_EXPERTS, "attention.kv_lora_rank", "rope.dimension_count", "attention.key_length", "attention.value_length"),
    ),
    "glm4moe": Family("glm4_moe", names.GLM4_MOE, _ROUTED, _SILU | _ROUTED_DEFAULTS, _EXPERTS),
} | FURTHER


def family_key(architecture: str, metadata: Mapping[str, object]) -> str:
    """The key in FAMILIES, because llama.cpp calls Mixtral "llama", too."""
    if architecture == "llama" and metadata.get("llama.expert_count"):
        return "mixtral"
    return architecture
