"""Further families of GGUF files, for tests/checkpoints/test_gguf_checkpoint.py: their keys and configurations."""

# What a file of a dense model and one of a mixture says, with __ for the dots of a key.
DENSE = dict(feed_forward_length=96, attention__head_count_kv=2)
MIXTURE = DENSE | dict(expert_count=8, expert_used_count=2, expert_feed_forward_length=32)

# What many configurations have.
OF_ALL = {"hidden_act": "silu", "num_key_value_heads": 2}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GATES = {
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
PLAIN = [
    "model.layers.{}.self_attn.q_proj",
    "model.layers.{}.mlp.down_proj",
    "model.layers.{}.post_attention_layernorm",
]

# The keys of a file, and the configuration that is made of them.
CASES = {
    "granite": (
        DENSE | dict(attention__scale=0.125, embedding_scale=4.0, residual_scale=0.25, logit_scale=1.5),
        OF_ALL
        | {
            "model_type": "granite",
            "intermediate_size": 96,
            "attention_multiplier": 0.125,
            "embedding_multiplier": 4.0,
            "residual_multiplier": 0.25,
            "logits_scaling": 1.5,
            "rope_parameters": ROPE,
        },
    ),
    "ernie4_5": (
        DENSE | dict(attention__key_length=32),
        OF_ALL
        | {
            "model_type": "ernie4_5",
            "intermediate_size": 96,
            "head_dim": 32,
            "rope_parameters": ROPE,
            "use_bias": False,
        },
    ),
    "seed_oss": (
        DENSE | dict(attention__key_length=32),
        OF_ALL
        | {
            "model_type": "seed_oss",
            "intermediate_size": 96,
            "head_dim": 32,
            "attention_bias": True,
            "qkv_bias": True,
            "rope_parameters": ROPE,
            "attention_out_bias": False,
        },
    ),
    "smollm3": (
        DENSE,
        OF_ALL
        | {"model_type": "smollm3", "no_rope_layer_interval": 4, "intermediate_size": 96, "rope_parameters": ROPE},
    ),
    "olmo2": (
        DENSE | dict(attention__sliding_window=8, rope__freq_base=500000.0),
        OF_ALL
        | {
            "model_type": "olmo3",
            "intermediate_size": 96,
            "sliding_window": 8,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
            },
            "layer_types": ["sliding_attention", "sliding_attention"],
        },
    ),
    "phi3": (
        DENSE | dict(attention__sliding_window=0, rope__dimension_count=8, rope__scaling__original_context_length=64),
        OF_ALL
        | {
            "model_type": "phi3",
            "intermediate_size": 96,
            "sliding_window": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            "original_max_position_embeddings": 64,
        },
    ),
    "minimax-m2": (
        MIXTURE | dict(rope__dimension_count=16, attention__key_length=32, expert_gating_func=2),
        OF_ALL
        | {
            "model_type": "minimax_m2",
            "intermediate_size": 32,
            "head_dim": 32,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "rotary_dim": 16,
            "rope_parameters": ROPE,
        },
    ),
    "ernie4_5-moe": (
        MIXTURE | dict(interleave_moe_layer_step=2, leading_dense_block_count=1, expert_shared_count=2),
        OF_ALL
        | {
            "model_type": "ernie4_5_moe",
            "moe_layer_start_index": 1,
            "intermediate_size": 96,
            "moe_num_experts": 8,
            "moe_k": 2,
            "moe_intermediate_size": 32,
            "moe_layer_interval": 2,
            "rope_parameters": ROPE,
            "moe_num_shared_experts": 2,
            "use_bias": False,
        },
    ),
    "hunyuan-dense": (
        DENSE | dict(attention__key_length=32),
        OF_ALL | {"model_type": "hunyuan_v1_dense", "intermediate_size": 96, "head_dim": 32, "rope_parameters": ROPE},
    ),
    "hunyuan-moe": (
        MIXTURE | dict(expert_shared_feed_forward_length=32, attention__key_length=32),
        OF_ALL
        | {
            "model_type": "hunyuan_v1_moe",
            "intermediate_size": 32,
            "head_dim": 32,
            "num_experts": 8,
            "moe_topk": 2,
            "rope_parameters": ROPE,
        },
    ),
    "bailingmoe2": (
        MIXTURE
        | dict(
            rope__dimension_count=16,
            attention__key_length=32,
            expert_gating_func=2,
            leading_dense_block_count=1,
            expert_weights_scale=2.5,
            expert_weights_norm=True,
            expert_group_count=4,
            expert_group_used_count=2,
        ),
        OF_ALL
        | EXPERTS
        | {
            "model_type": "bailing_moe",
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
            "n_group": 4,
            "topk_group": 2,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
            "intermediate_size": 96,
            "head_dim": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            "num_shared_experts": 1,
            "moe_shared_expert_intermediate_size": 64,
            "score_function": "sigmoid",
            "moe_router_enable_expert_bias": True,
        },
    ),
    "dots1": (
        MIXTURE
        | dict(attention__key_length=32, expert_gating_func=2, leading_dense_block_count=1, expert_shared_count=2),
        OF_ALL
        | EXPERTS
        | GATES
        | {
            "model_type": "dots1",
            "intermediate_size": 96,
            "head_dim": 32,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "rope_parameters": ROPE,
        },
    ),
    "exaone-moe": (
        MIXTURE
        | dict(
            attention__key_length=32,
            expert_gating_func=2,
            leading_dense_block_count=1,
            expert_shared_count=1,
            attention__sliding_window=8,
        ),
        OF_ALL
        | EXPERTS
        | GATES
        | {
            "model_type": "exaone_moe",
            "intermediate_size": 96,
            "head_dim": 32,
            "sliding_window": 8,
            "num_shared_experts": 1,
            "rope_parameters": ROPE,
            "layer_types": ["sliding_attention", "sliding_attention"],
        },
    ),
    "afmoe": (
        MIXTURE
        | dict(
            attention__key_length=32,
            leading_dense_block_count=1,
            expert_shared_count=1,
            attention__sliding_window=8,
            expert_weights_norm=True,
            expert_weights_scale=1.5,
        ),
        OF_ALL
        | EXPERTS
        | {
            "model_type": "afmoe",
            "num_dense_layers": 1,
            "route_norm": True,
            "mup_enabled": True,
            "intermediate_size": 96,
            "head_dim": 32,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.5,
            "first_k_dense_replace": 1,
            "sliding_window": 8,
            "num_shared_experts": 1,
            "route_scale": 1.5,
            "rope_parameters": ROPE,
            "layer_types": ["sliding_attention", "sliding_attention"],
        },
    ),
    "llama4": (
        MIXTURE | dict(interleave_moe_layer_step=2, rope__freq_base=500000.0),
        OF_ALL
        | {
            "model_type": "llama4_text",
            "attention_chunk_size": 8192,
            "attn_temperature_tuning": True,
            "floor_scale": 8192,
            "attn_scale": 0.1,
            "no_rope_layer_interval": 4,
            "intermediate_size": 32,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size_mlp": 96,
            "interleave_moe_layer_step": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            "use_qk_norm": True,
        },
    ),
}

# The tensors that a configuration depends on.
TENSORS = {
    "seed_oss": [("blk.0.attn_q.bias", (64,), 0)],
    "ernie4_5-moe": [("blk.1.ffn_gate_shexp.weight", (64, 64), 0)],
    "bailingmoe2": [("blk.1.ffn_gate_shexp.weight", (64, 64), 0), ("blk.1.exp_probs_b.bias", (8,), 0)],
    "dots1": [("blk.1.exp_probs_b.bias", (8,), 0)],
    "exaone-moe": [("blk.1.exp_probs_b.bias", (8,), 0)],
    "afmoe": [("blk.1.exp_probs_b.bias", (8,), 0)],
}

# Names of tensors as the publishers have them.
HF_NAMES = {
    "granite": PLAIN,
    "ernie4_5": PLAIN,
    "seed_oss": PLAIN,
    "smollm3": PLAIN,
    "olmo2": [
        "model.layers.{}.self_attn.k_norm",
        "model.layers.{}.post_attention_layernorm",
        "model.layers.{}.post_feedforward_layernorm",
    ],
    "phi3": ["model.layers.{}.self_attn.qkv_proj", "model.layers.{}.mlp.gate_up_proj"],
    "minimax-m2": ["model.layers.{}.self_attn.q_norm", "model.layers.{}.block_sparse_moe.gate"],
    "ernie4_5-moe": ["model.layers.{}.mlp.gate", "model.layers.{}.mlp.shared_experts.up_proj"],
    "hunyuan-dense": ["model.layers.{}.self_attn.query_layernorm", "model.layers.{}.mlp.down_proj"],
    "hunyuan-moe": [
        "model.layers.{}.self_attn.key_layernorm",
        "model.layers.{}.mlp.gate.wg",
        "model.layers.{}.mlp.shared_mlp.up_proj",
    ],
    "bailingmoe2": [
        "model.layers.{}.attention.query_key_value",
        "model.layers.{}.attention.dense",
        "model.layers.{}.attention.query_layernorm",
        "model.layers.{}.mlp.gate",
    ],
    "dots1": ["model.layers.{}.mlp.gate", "model.layers.{}.mlp.shared_experts.down_proj"],
    "exaone-moe": ["model.layers.{}.mlp.gate", "model.layers.{}.mlp.shared_experts.down_proj"],
    "afmoe": [
        "model.layers.{}.self_attn.gate_proj",
        "model.layers.{}.mlp.router.gate",
        "model.layers.{}.pre_mlp_layernorm",
        "model.layers.{}.post_mlp_layernorm",
    ],
    "llama4": [
        "model.layers.{}.feed_forward.router",
        "model.layers.{}.feed_forward.shared_expert.up_proj",
        "model.layers.{}.feed_forward.down_proj",
    ],
}
