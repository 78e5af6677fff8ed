"""Tensor names: GGUF's on the left, on the right those of transformers, or MLX's where experts lie in one stack.

GGUF's names are those of llama.cpp (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Standardized tensor
names"). A name without suffix stands for its .weight and .bias; one with a suffix for itself alone.
"""

from collections.abc import Mapping

__all__ = ["tensor_name"]

MODEL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
MODEL |= {"token_embd_norm": "model.embedding_norm"}  # LFM2's last norm
MODEL |= {  # Gemma 4's inputs of each layer
    "per_layer_token_embd": "model.embed_tokens_per_layer",
    "per_layer_model_proj": "model.per_layer_model_projection",
    "per_layer_proj_norm": "model.per_layer_projection_norm",
}

ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
DENSE = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def _experts(gate: str, experts: str) -> dict[str, str]:
    """The router's matrix and the stacks of experts [experts, outputs, inputs]."""
    parts = {part: f"{experts}.{part}_proj" for part in ("gate", "up", "down", "gate_up")}
    return {"ffn_gate_inp": gate} | {f"ffn_{part}_exps": name for part, name in parts.items()}


def _shared(module: str) -> dict[str, str]:
    """The experts that every token takes, as one."""
    return {f"ffn_{part}_shexp": f"{module}.{part}_proj" for part in ("gate", "up", "down")}


LLAMA = ATTENTION | NORMS | DENSE
MIXTRAL = LLAMA | _experts("block_sparse_moe.gate", "block_sparse_moe.switch_mlp")
GRANITE_MOE = LLAMA | _experts("block_sparse_moe.router.layer", "block_sparse_moe.switch_mlp") | _shared("shared_mlp")
MOE = LLAMA | _experts("mlp.gate", "mlp.switch_mlp")
QWEN2_MOE = MOE | _shared("mlp.shared_expert") | {"ffn_gate_inp_shexp": "mlp.shared_expert_gate"}
CORRECTED = MOE | _shared("mlp.shared_experts") | {"exp_probs_b.bias": "mlp.gate.e_score_correction_bias"}

# The norm before the experts is called after the attention that it follows.
GPT_OSS = (
    ATTENTION
    | _experts("mlp.router", "mlp.experts")
    | {
        "attn_norm": "input_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "attn_sinks.weight": "self_attn.sinks",
    }
)
GLM4_MOE = CORRECTED | {"post_attention_norm": "post_attention_layernorm"}

# Latent attention. attn_k_b and attn_v_b are the halves of kv_b_proj for each head, the first one transposed, as MLX
# splits it too; old files have it whole.
DEEPSEEK = CORRECTED | {
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "attn_k_b": "self_attn.embed_q",
    "attn_v_b": "self_attn.unembed_out",
}

# Norms before and after both attention and the dense branch.
GEMMA3 = (
    ATTENTION
    | DENSE
    | {
        "attn_norm": "input_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
)
GEMMA4 = (
    GEMMA3
    | _experts("router.proj", "experts")
    | {
        "ffn_gate_inp.scale": "router.scale",
        "ffn_down_exps.scale": "router.per_expert_scale",
        "post_ffw_norm_1": "post_feedforward_layernorm_1",
        "post_ffw_norm_2": "post_feedforward_layernorm_2",
        "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
        "layer_output_scale.weight": "layer_scalar",
        "inp_gate": "per_layer_input_gate",
        "proj": "per_layer_projection",
        "post_norm": "post_per_layer_input_norm",
    }
)

# Further families. A name of the table MODEL may have another one here.
SEED_OSS = {stem: name for stem, name in LLAMA.items() if stem != "ffn_norm"}
SEED_OSS |= {"post_attention_norm": "post_attention_layernorm"}
OLMO2 = ATTENTION | DENSE
OLMO2 |= {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
PHI3 = LLAMA | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
MINIMAX_M2 = (
    ATTENTION
    | NORMS
    | _experts("block_sparse_moe.gate", "block_sparse_moe.switch_mlp")
    | {"exp_probs_b.bias": "block_sparse_moe.e_score_correction_bias"}
)
ERNIE_MOE = CORRECTED | {"exp_probs_b.bias": "mlp.moe_statics.e_score_correction_bias"}
HUNYUAN = (
    LLAMA
    | _experts("mlp.gate.wg", "mlp.switch_mlp")
    | _shared("mlp.shared_mlp")
    | {"attn_q_norm": "self_attn.query_layernorm", "attn_k_norm": "self_attn.key_layernorm"}
)
BAILING = (
    {stem: name.replace("self_attn", "attention") for stem, name in CORRECTED.items()}
    | {"attn_qkv": "attention.query_key_value", "attn_output": "attention.dense"}
    | {"attn_q_norm": "attention.query_layernorm", "attn_k_norm": "attention.key_layernorm"}
    | {"exp_probs_b.bias": "mlp.gate.expert_bias", "token_embd": "model.word_embeddings"}
)
AFMOE = (
    OLMO2
    | {"attn_norm": "input_layernorm", "ffn_norm": "pre_mlp_layernorm", "post_ffw_norm": "post_mlp_layernorm"}
    | {"attn_gate": "self_attn.gate_proj", "exp_probs_b.bias": "mlp.expert_bias"}
    | _experts("mlp.router.gate", "mlp.switch_mlp")
    | _shared("mlp.shared_experts")
)
LLAMA4 = (
    {stem: name.replace("mlp.", "feed_forward.") for stem, name in LLAMA.items()}
    | _experts("feed_forward.router", "feed_forward.switch_mlp")
    | _shared("feed_forward.shared_expert")
)

BARE = ("ssm_a", "ssm_d")  # tensors whose names have no suffix

# Recurrent layers: the gated delta rule, whose A is -exp(A_log).
DELTA = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_in": "linear_attn.in_proj_qkvz",
    "ssm_ba": "linear_attn.in_proj_ba",
    "ssm_beta": "linear_attn.in_proj_b",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_dt.bias": "linear_attn.dt_bias",
    "ssm_a": "linear_attn.A_log",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
}
QWEN3_NEXT = {stem: name for stem, name in QWEN2_MOE.items() if stem != "ffn_norm"} | DELTA

# Mamba-2.
_MAMBA = {
    "ssm_in": "in_proj",
    "ssm_conv1d": "conv1d",
    "ssm_dt.bias": "dt_bias",
    "ssm_a": "A_log",
    "ssm_d": "D",
    "ssm_norm": "norm",
    "ssm_out": "out_proj",
}
LFM2 = (
    {stem: f"self_attn.{name}_proj" for stem, name in (("attn_q", "q"), ("attn_k", "k"), ("attn_v", "v"))}
    | {stem: name.replace("mlp", "feed_forward") for stem, name in DENSE.items()}
    | _experts("feed_forward.gate", "feed_forward.switch_mlp")
    | {
        "attn_norm": "operator_norm",
        "ffn_norm": "ffn_norm",
        "attn_output": "self_attn.out_proj",
        "attn_q_norm": "self_attn.q_layernorm",
        "attn_k_norm": "self_attn.k_layernorm",
        "shortconv.conv": "conv.conv",
        "shortconv.in_proj": "conv.in_proj",
        "shortconv.out_proj": "conv.out_proj",
        "exp_probs_b.bias": "feed_forward.expert_bias",
    }
)
GRANITE_HYBRID = GRANITE_MOE | {stem: f"mamba.{name}" for stem, name in _MAMBA.items()}
NEMOTRON_H = {
    "attn_norm": "norm",
    **{stem: name.replace("self_attn", "mixer") for stem, name in ATTENTION.items()},
    **{stem: f"mixer.{name}" for stem, name in _MAMBA.items()},
    "ffn_up": "mixer.up_proj",
    "ffn_down": "mixer.down_proj",
    "ffn_gate_inp": "mixer.gate",
    "exp_probs_b.bias": "mixer.gate.e_score_correction_bias",
    "ffn_up_exps": "mixer.switch_mlp.fc1",
    "ffn_down_exps": "mixer.switch_mlp.fc2",
    "ffn_up_shexp": "mixer.shared_experts.up_proj",
    "ffn_down_shexp": "mixer.shared_experts.down_proj",
    "ffn_latent_down": "mixer.fc1_latent_proj",
    "ffn_latent_up": "mixer.fc2_latent_proj",
}

_MIXTRAL_PARTS = {"ffn_gate": "w1", "ffn_down": "w2", "ffn_up": "w3"}


def tensor_name(name: str, block: Mapping[str, str]) -> str:
    """The name that families know for GGUF's `name`, by a table of names in a block; where there is none, `name`."""
    if not name.startswith("blk."):
        stem, dot, suffix = name.rpartition(".")
        known = {stem: block[stem] for stem in MODEL if stem in block}
        return f"{(MODEL | known)[stem]}.{suffix}" if dot and stem in MODEL else name
    _, index, rest = name.split(".", 2) if name.count(".") > 1 else ("", "", "")
    if not index.isdecimal() or str(int(index)) != index:
        return name
    layer, (stem, _, suffix) = f"model.layers.{index}", rest.rpartition(".")
    if rest in block and (stem or rest in BARE):
        return f"{layer}.{block[rest]}"
    if stem in block:
        return f"{layer}.{block[stem]}.{suffix}"
    part, _, expert = stem.partition(".")
    if part in _MIXTRAL_PARTS and expert.isdecimal():  # one by one, as the first mixtures of experts were written
        return f"{layer}.block_sparse_moe.experts.{int(expert)}.{_MIXTRAL_PARTS[part]}.{suffix}"
    return name
