"""A GGUF file as a checkpoint: names, configuration and layout of each family, parts of a split file, what is wrong."""

import os
import struct
import subprocess
import sys

import numpy
import pytest
from support import gguf_files as files
from support.families import gguf_further as further
from support.gguf_files import EMBEDDING, metadata
from support.paths import ROOT

from pipeline.checkpoints.checkpoint import Layout
from pipeline.checkpoints.config import integer
from pipeline.checkpoints.gguf.families import FAMILIES
from pipeline.checkpoints.gguf.names import tensor_name
from pipeline.checkpoints.opening import open_checkpoint
from pipeline.errors import CheckpointError, UnsupportedError
from pipeline.models import load_model


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def opened(file, keys: dict, tensors=(), **options):
    file.write_bytes(files.gguf(keys, [EMBEDDING, *tensors], **options))
    with open_checkpoint(file) as checkpoint:
        return checkpoint


def refuse(file, keys: dict, tensors=(), *words, error=CheckpointError, **options):
    with pytest.raises(error) as caught:
        opened(file, keys, tensors, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


COMMON = {
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "rms_norm_eps": 2.0**-10,
    "vocab_size": 10,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "qkv_bias": False,
    "_attention_output_bias": False,
    "mlp_bias": False,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
EXPERTS = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32}

CASES = {
    **further.CASES,
    "llama": (
        dict(attention__head_count_kv=2, feed_forward_length=96, rope__freq_base=5e5),
        {
            "model_type": "llama",
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "hidden_act": "silu",
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
    "mixtral": (
        dict(attention__head_count_kv=2, feed_forward_length=96, expert_count=8, expert_used_count=2),
        {
            "model_type": "mixtral",
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "rope_parameters": PLAIN_ROPE,
        },
    ),
    "qwen2": (
        dict(feed_forward_length=96),
        {"model_type": "qwen2", "intermediate_size": 96, "hidden_act": "silu", "rope_parameters": PLAIN_ROPE},
    ),
    "qwen3": (
        dict(attention__key_length=32),
        {"model_type": "qwen3", "head_dim": 32, "hidden_act": "silu", "rope_parameters": PLAIN_ROPE},
    ),
    "qwen2moe": (
        dict(EXPERTS, expert_shared_feed_forward_length=48),
        {
            "model_type": "qwen2_moe",
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
            "norm_topk_prob": False,
            "hidden_act": "silu",
            "rope_parameters": PLAIN_ROPE,
        },
    ),
    "qwen3moe": (
        dict(
            EXPERTS,
            attention__key_length=32,
            rope__scaling__type="yarn",
            rope__scaling__factor=4.0,
            rope__scaling__original_context_length=32,
        ),
        {
            "model_type": "qwen3_moe",
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "head_dim": 32,
            "norm_topk_prob": True,
            "hidden_act": "silu",
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "olmoe": (
        dict(feed_forward_length=32, expert_count=8, expert_used_count=2, attention__clamp_kqv=8.0),
        {
            "model_type": "olmoe",
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
            "clip_qkv": 8.0,
            "norm_topk_prob": False,
            "hidden_act": "silu",
            "rope_parameters": PLAIN_ROPE,
        },
    ),
    "granitemoe": (
        dict(
            feed_forward_length=32,
            expert_count=8,
            expert_used_count=2,
            attention__scale=0.125,
            embedding_scale=12.0,
            residual_scale=0.25,
            logit_scale=6.0,
            expert_shared_feed_forward_length=48,
        ),
        {
            "model_type": "granitemoeshared",
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
            "attention_multiplier": 0.125,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.25,
            "logits_scaling": 6.0,
            "shared_intermediate_size": 48,
            "hidden_act": "silu",
            "rope_parameters": PLAIN_ROPE,
        },
    ),
    "gpt-oss": (
        dict(
            EXPERTS,
            feed_forward_length=32,
            attention__sliding_window=16,
            rope__scaling__type="yarn",
            rope__scaling__factor=32.0,
            rope__scaling__yarn_beta_fast=32.0,
            rope__scaling__yarn_beta_slow=1.0,
        ),
        {
            "model_type": "gpt_oss",
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
            "sliding_window": 16,
            "swiglu_alpha": 1.702,
            "swiglu_limit": 7.0,
            "hidden_act": "silu",
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
            },
        },
    ),
    "gemma3": (
        dict(
            block_count=7,
            attention__key_length=32,
            attention__sliding_window=16,
            rope__freq_base=1e6,
            rope__scaling__type="linear",
            rope__scaling__factor=8.0,
        ),
        {
            "model_type": "gemma3_text",
            "num_hidden_layers": 7,
            "head_dim": 32,
            "sliding_window": 16,
            "query_pre_attn_scalar": 32,
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": PLAIN_ROPE,
            },
        },
    ),
    "gemma4": (
        dict(
            EXPERTS,
            feed_forward_length=96,
            attention__key_length=64,
            attention__key_length_swa=32,
            attention__head_count_kv=files.array(4, [2, 1]),
            attention__sliding_window=16,
            attention__sliding_window_pattern=files.array(7, [True, False]),
            rope__freq_base=1e6,
            rope__freq_base_swa=1e4,
            attention__shared_kv_layers=0,
            embedding_length_per_layer_input=0,
        ),
        {
            "model_type": "gemma4_text",
            "num_experts": 8,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
            "intermediate_size": 96,
            "head_dim": 32,
            "global_head_dim": 64,
            "num_key_value_heads": 2,
            "num_global_key_value_heads": 1,
            "sliding_window": 16,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "attention_k_eq_v": True,
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
                "sliding_attention": PLAIN_ROPE,
            },
        },
    ),
    "deepseek2": (
        dict(
            EXPERTS,
            feed_forward_length=96,
            expert_shared_count=2,
            leading_dense_block_count=1,
            expert_weights_scale=2.5,
            expert_weights_norm=True,
            expert_gating_func=2,
            expert_group_count=4,
            expert_group_used_count=2,
            attention__kv_lora_rank=16,
            attention__q_lora_rank=24,
            rope__dimension_count=8,
            attention__key_length=24,
            attention__value_length=16,
            attention__key_length_mla=20,
            attention__value_length_mla=12,
            attention__head_count_kv=1,
            rope__scaling__type="yarn",
            rope__scaling__factor=40.0,
            rope__scaling__yarn_log_multiplier=0.1,
        ),
        {
            "model_type": "deepseek_v3",
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_shared_experts": 2,
            "moe_intermediate_size": 32,
            "intermediate_size": 96,
            "first_k_dense_replace": 1,
            "routed_scaling_factor": 2.5,
            "norm_topk_prob": True,
            "n_group": 4,
            "topk_group": 2,
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
            "q_lora_rank": 24,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 12,
            "v_head_dim": 12,
            "head_dim": 24,
            "num_key_value_heads": 4,
            "rope_interleave": True,
            "hidden_act": "silu",
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 40.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            },
        },
    ),
    "glm4moe": (
        dict(
            EXPERTS,
            block_count=4,
            nextn_predict_layers=2,
            expert_shared_count=1,
            leading_dense_block_count=1,
            expert_weights_scale=1.5,
            expert_weights_norm=True,
            expert_gating_func=2,
            attention__key_length=32,
            rope__dimension_count=16,
        ),
        {
            "model_type": "glm4_moe",
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "routed_scaling_factor": 1.5,
            "norm_topk_prob": True,
            "n_group": 1,
            "topk_group": 1,
            "head_dim": 32,
            "use_qk_norm": True,
            "hidden_act": "silu",
            "rope_parameters": PLAIN_ROPE | {"partial_rotary_factor": 0.5},
        },
    ),
    "qwen3next": (
        dict(
            ssm__conv_kernel=4,
            ssm__state_size=16,
            ssm__group_count=2,
            ssm__time_step_rank=4,
            ssm__inner_size=128,
            expert_count=8,
            expert_used_count=2,
            expert_feed_forward_length=32,
            feed_forward_length=96,
            attention__head_count_kv=2,
            attention__key_length=32,
            rope__dimension_count=8,
            expert_shared_feed_forward_length=48,
        ),
        {
            "model_type": "qwen3_next",
            "hidden_act": "silu",
            "norm_topk_prob": True,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "linear_conv_kernel_dim": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            "layer_types": ["linear_attention", "full_attention"],
            "linear_value_head_dim": 32,
        },
    ),
    "qwen35moe": (
        dict(
            ssm__conv_kernel=4,
            ssm__state_size=16,
            ssm__group_count=2,
            ssm__time_step_rank=4,
            ssm__inner_size=128,
            expert_count=8,
            expert_used_count=2,
            expert_feed_forward_length=32,
            attention__head_count_kv=2,
            attention__key_length=32,
            expert_shared_feed_forward_length=48,
        ),
        {
            "model_type": "qwen3_5_moe_text",
            "hidden_act": "silu",
            "norm_topk_prob": True,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "linear_conv_kernel_dim": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            "layer_types": ["linear_attention", "full_attention"],
            "linear_value_head_dim": 32,
        },
    ),
    "qwen35": (
        dict(
            ssm__conv_kernel=4,
            ssm__state_size=16,
            ssm__group_count=2,
            ssm__time_step_rank=4,
            ssm__inner_size=128,
            feed_forward_length=96,
            attention__head_count_kv=2,
            attention__key_length=32,
            rope__dimension_count=16,
        ),
        {
            "model_type": "qwen3_5_text",
            "hidden_act": "silu",
            "norm_topk_prob": True,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "linear_conv_kernel_dim": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            "layer_types": ["linear_attention", "full_attention"],
            "linear_value_head_dim": 32,
        },
    ),
    "granitehybrid": (
        dict(
            ssm__conv_kernel=4,
            ssm__state_size=16,
            ssm__group_count=2,
            ssm__time_step_rank=4,
            ssm__inner_size=128,
            feed_forward_length=96,
            attention__head_count_kv=2,
            attention__scale=0.125,
        ),
        {
            "model_type": "granitemoehybrid",
            "hidden_act": "silu",
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "attention_multiplier": 0.125,
            "mamba_d_conv": 4,
            "mamba_n_heads": 4,
            "mamba_n_groups": 2,
            "mamba_d_state": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 96,
            "mamba_d_head": 32,
            "mamba_expand": 2,
            "mamba_conv_bias": True,
            "position_embedding_type": "nope",
        },
    ),
    "lfm2": (
        dict(feed_forward_length=96, attention__head_count_kv=2, shortconv__l_cache=3),
        {
            "model_type": "lfm2",
            "block_auto_adjust_ff_dim": False,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "norm_eps": 0.0009765625,
            "conv_L_cache": 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "layer_types": ["conv", "full_attention"],
            "conv_bias": False,
            "use_expert_bias": False,
            "tie_embedding": True,
        },
    ),
    "lfm2moe": (
        dict(
            expert_count=8,
            expert_used_count=2,
            expert_feed_forward_length=32,
            feed_forward_length=96,
            attention__head_count_kv=2,
            shortconv__l_cache=3,
            leading_dense_block_count=1,
        ),
        {
            "model_type": "lfm2_moe",
            "num_dense_layers": 1,
            "norm_topk_prob": True,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "norm_eps": 0.0009765625,
            "conv_L_cache": 3,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "layer_types": ["conv", "full_attention"],
            "conv_bias": False,
            "use_expert_bias": True,
            "tie_embedding": True,
        },
    ),
    "nemotron_h": (
        dict(
            ssm__conv_kernel=4,
            ssm__state_size=16,
            ssm__group_count=2,
            ssm__time_step_rank=4,
            ssm__inner_size=128,
            feed_forward_length=96,
            attention__head_count_kv=2,
            attention__key_length=32,
        ),
        {
            "model_type": "nemotron_h",
            "norm_topk_prob": False,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "layer_norm_epsilon": 0.0009765625,
            "conv_kernel": 4,
            "mamba_num_heads": 4,
            "n_groups": 2,
            "ssm_state_size": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "layers_block_type": ["linear_attention", "full_attention"],
            "mamba_head_dim": 32,
            "use_conv_bias": False,
            "use_bias": False,
        },
    ),
    "nemotron_h_moe": (
        dict(
            ssm__conv_kernel=4,
            ssm__state_size=16,
            ssm__group_count=2,
            ssm__time_step_rank=4,
            ssm__inner_size=128,
            expert_count=8,
            expert_used_count=2,
            expert_feed_forward_length=32,
            feed_forward_length=32,
            attention__head_count_kv=2,
            attention__key_length=32,
            expert_shared_feed_forward_length=48,
            expert_weights_norm=True,
            expert_weights_scale=2.5,
        ),
        {
            "model_type": "nemotron_h",
            "norm_topk_prob": True,
            "intermediate_size": 32,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "layer_norm_epsilon": 0.0009765625,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "moe_shared_expert_intermediate_size": 48,
            "routed_scaling_factor": 2.5,
            "conv_kernel": 4,
            "mamba_num_heads": 4,
            "n_groups": 2,
            "ssm_state_size": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "layers_block_type": ["moe", "full_attention"],
            "mamba_head_dim": 32,
            "use_conv_bias": False,
            "use_bias": False,
        },
    ),
}
TENSORS = {
    **further.TENSORS,
    "gemma4": [("rope_freqs.weight", (32,), 0)],
    "deepseek2": [("blk.1.exp_probs_b.bias", (8,), 0)],
    "glm4moe": [("blk.0.attn_q_norm.weight", (32,), 0)],
    "qwen3next": [("blk.1.attn_q.weight", (64, 64), 0)],
    "qwen35moe": [("blk.1.attn_q.weight", (64, 64), 0)],
    "qwen35": [("blk.1.attn_q.weight", (64, 64), 0)],
    "granitehybrid": [("blk.1.attn_q.weight", (64, 64), 0), ("blk.0.ssm_conv1d.bias", (192,), 0)],
    "lfm2": [("blk.1.attn_q.weight", (64, 64), 0)],
    "lfm2moe": [("blk.1.attn_q.weight", (64, 64), 0), ("blk.1.exp_probs_b.bias", (8,), 0)],
    "nemotron_h": [("blk.1.attn_q.weight", (64, 64), 0), ("blk.0.ssm_in.weight", (64, 324), 0)],
    "nemotron_h_moe": [("blk.1.attn_q.weight", (64, 64), 0), ("blk.0.ffn_gate_inp.weight", (64, 8), 0)],
}


def data_of(family: str) -> bytes | None:
    """Gemma 4's frequencies: a quarter of them turns."""
    if family != "gemma4":
        return None
    return bytes(64 * 10 * 4) + numpy.array([1.0] * 8 + [1e30] * 24, numpy.float32).tobytes()


DELTA = ("qwen3next", "qwen35", "qwen35moe")
MAMBA = ("granitehybrid", "nemotron_h", "nemotron_h_moe")


def test_every_family_has_a_case():
    assert set(CASES) == set(FAMILIES)


@pytest.mark.parametrize("family", CASES)
def test_configuration(file, family):
    keys, expected = CASES[family]
    architecture = "llama" if family == "mixtral" else family
    checkpoint = opened(file, metadata(architecture, **keys), TENSORS.get(family, ()), data=data_of(family))
    assert checkpoint.config == COMMON | expected
    assert checkpoint.architecture == architecture and checkpoint.source == str(file)
    assert checkpoint.layout == Layout(
        rope_pairs=family in ("llama", "mixtral", "granitemoe", "granitehybrid", "granite", "smollm3"),
        norms_plus_one=family in ("gemma3", *DELTA),
        slopes=family in (*DELTA, *MAMBA),
        tiled=family in ("qwen35", "qwen35moe"),
    )


def test_head_and_biases(file):
    tensors = [("output.weight", (64, 10), 0), ("blk.0.attn_q.bias", (64,), 0)]
    config = opened(file, metadata("qwen2"), tensors).config
    assert config["tie_word_embeddings"] is False and config["attention_bias"] is True


def test_vocabulary_without_an_embedding_of_two_dimensions(file):
    file.write_bytes(files.gguf(metadata("qwen2", vocab_size=77), [("output_norm.weight", (64,), 0)]))
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.config["vocab_size"] == 77
    file.write_bytes(
        files.gguf(metadata("qwen2") | {"tokenizer.ggml.tokens": ["a", "b"]}, [("output_norm.weight", (64,), 0)])
    )
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.config["vocab_size"] == 2


def test_factors_of_frequencies(file):
    """How llama.cpp keeps llama3's scaling: the divisors themselves."""
    factors = numpy.array([1, 1, 2, 8], numpy.float32)
    rope = opened(
        file, metadata("llama"), [("rope_freqs.weight", (4,), 0)], data=bytes(2560) + factors.tobytes() + bytes(16)
    ).config
    assert rope["rope_parameters"] == {"rope_type": "factors", "rope_theta": 10000.0, "factors": [1, 1, 2, 8]}
    for bad in (0.0, -1.0, float("nan")):
        content = bytes(2560) + numpy.array([1, bad, 1, 1], numpy.float32).tobytes() + bytes(16)
        refuse(file, metadata("llama"), [("rope_freqs.weight", (4,), 0)], "rope_freqs.weight", "above 0", data=content)
    refuse(file, metadata("llama"), [("rope_freqs.weight", (4,), 1)], "rope_freqs.weight", "F16")


@pytest.mark.parametrize(
    "key",
    [
        "block_count",
        "context_length",
        "embedding_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
        "expert_count",
        "expert_used_count",
    ],
)
def test_missing_key_is_named(file, key):
    keys = metadata("qwen3moe", **EXPERTS)
    del keys[f"qwen3moe.{key}"]
    refuse(file, keys, (), f'"qwen3moe.{key}" is missing', str(file))


@pytest.mark.parametrize(
    "key, value",
    [
        ("block_count", "two"),
        ("block_count", 0),
        ("block_count", -1),
        ("nextn_predict_layers", 2),
        ("rope.freq_base", 0.0),
        ("rope.freq_base", float("nan")),
        ("rope.freq_base", "x"),
        ("attention.sliding_window_pattern", 0),
        ("attention.sliding_window_pattern", files.array(7, [True])),
    ],
)
def test_impossible_value_is_named(file, key, value):
    keys = metadata("gemma3", attention__sliding_window=16)
    value = (5, value) if value == -1 else value
    refuse(file, keys | {f"gemma3.{key}": value}, (), "gemma3.")


def test_value_of_the_wrong_kind_is_refused_by_the_family(file):
    config = opened(file, metadata("qwen3moe", **EXPERTS | {"expert_count": "many"})).config
    with pytest.raises(CheckpointError, match="num_experts"):
        integer(config, "num_experts", source=str(file))


def test_one_value_a_layer_is_one_value_where_they_agree(file):
    keys = metadata(
        "llama", attention__head_count_kv=files.array(4, [2, 2]), feed_forward_length=files.array(4, [96, 64])
    )
    config = opened(file, keys).config
    assert config["num_key_value_heads"] == 2 and config["intermediate_size"] == [96, 64]


def test_unknown_architecture_is_named_when_a_model_is_loaded(file):
    checkpoint = opened(file, metadata("falcon"))
    assert checkpoint.config == {"model_type": "falcon"} and set(checkpoint.tensors) == {"model.embed_tokens.weight"}
    with pytest.raises(UnsupportedError, match="model.gguf: model_type 'falcon' is not supported; use one of: llama, "):
        load_model(checkpoint)


def test_architecture_that_is_called_as_a_family_and_has_no_table(file):
    """transformers' Phi-3.5-MoE runs; llama.cpp's routes in another way."""
    assert "phimoe" not in FAMILIES
    with pytest.raises(UnsupportedError, match="'phimoe' is not supported; use one of: .*minimax-m2"):
        load_model(opened(file, metadata("phimoe")))


@pytest.mark.parametrize(
    "keys",
    [{}, {"general.architecture": 3}, {"general.architecture": ""}, {"general.architecture": files.array(8, ["x"])}],
)
def test_no_architecture(file, keys):
    refuse(file, keys, (), "general.architecture")


def test_no_tensors(file):
    file.write_bytes(files.gguf(metadata("llama")))
    with pytest.raises(CheckpointError, match="no tensors, only metadata"):
        open_checkpoint(file)


# Tensors


def test_tensors_are_mapped(file):
    opened(file, metadata("llama"), [("blk.0.attn_q.weight", (64, 2), 2)])
    with open_checkpoint(file) as checkpoint:
        content = file.read_bytes()
        info = checkpoint.tensor("model.layers.0.self_attn.q_proj.weight")
        assert (info.dtype, info.shape, info.nbytes) == ("Q4_0", (2, 64), 72)
        raw = checkpoint.raw(info.name)
        assert not raw.flags.writeable and raw.tobytes() == content[info.offset : info.offset + 72]
        assert checkpoint.view("model.embed_tokens.weight").shape == (10, 64)
        with pytest.raises(UnsupportedError, match="Q4_0"):
            checkpoint.view(info.name)
        assert checkpoint.quantization("model.layers.0.self_attn.q_proj") is None
        assert checkpoint.unused == ()


def test_tensors_that_nobody_asks_for_are_listed(file):
    checkpoint = opened(file, metadata("llama"), [("blk.0.attn_q.weight", (64, 2), 2), ("extra", (4,), 0)])
    checkpoint.tensor("model.embed_tokens.weight")
    assert checkpoint.unused == ("model.layers.0.self_attn.q_proj.weight", "extra")


def test_gate_of_the_shared_expert_is_a_row(file):
    keys = metadata("qwen2moe", **EXPERTS)
    checkpoint = opened(file, keys, [("blk.0.ffn_gate_inp_shexp.weight", (64,), 0)])
    assert checkpoint.tensors["model.layers.0.mlp.shared_expert_gate.weight"].shape == (1, 64)


def test_two_tensors_of_one_name(file):
    tensors = [("blk.0.attn_q.weight", (64,), 0), ("model.layers.0.self_attn.q_proj.weight", (64,), 0)]
    refuse(file, metadata("llama"), tensors, "model.layers.0.self_attn.q_proj.weight", "both")


@pytest.mark.parametrize(
    "name",
    [
        "blk.0",
        "blk.",
        "blk",
        "blk.x.attn_q.weight",
        "blk.00.attn_q.weight",
        "blk.-1.attn_q.weight",
        "blk.0.mystery.weight",
        "mystery",
        "token_embd",
        "blk.0.attn_q",
        "",
        "blk.٣.attn_q.weight",
    ],
)
def test_names_without_a_place_stay(name):
    assert tensor_name(name, FAMILIES["llama"].names) == name


NEMOTRON = [
    f"model.layers.{{}}.mixer.{name}" for name in ("in_proj", "conv1d", "norm", "out_proj", "up_proj", "q_proj")
]
HF_NAMES = {
    **further.HF_NAMES,
    "llama": [
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.mlp.gate_proj",
        "model.layers.{}.input_layernorm",
        "model.layers.{}.post_attention_layernorm",
        "model.layers.{}.self_attn.o_proj",
    ],
    "mixtral": ["model.layers.{}.block_sparse_moe.gate"],
    "qwen2": ["model.layers.{}.self_attn.v_proj"],
    "qwen3": ["model.layers.{}.self_attn.q_norm", "model.layers.{}.self_attn.k_norm", "model.layers.{}.mlp.down_proj"],
    "qwen2moe": [
        "model.layers.{}.mlp.gate",
        "model.layers.{}.mlp.shared_expert.gate_proj",
        "model.layers.{}.mlp.shared_expert.down_proj",
        "model.layers.{}.mlp.shared_expert_gate",
    ],
    "qwen3moe": ["model.layers.{}.mlp.gate", "model.layers.{}.self_attn.k_norm"],
    "olmoe": ["model.layers.{}.mlp.gate", "model.layers.{}.self_attn.q_norm"],
    "granitemoe": ["model.layers.{}.block_sparse_moe.router.layer"],
    "gpt-oss": ["model.layers.{}.mlp.router", "model.layers.{}.post_attention_layernorm"],
    "gemma3": [
        "model.layers.{}.pre_feedforward_layernorm",
        "model.layers.{}.post_feedforward_layernorm",
        "model.layers.{}.post_attention_layernorm",
    ],
    "gemma4": [
        "model.layers.{}.router.proj",
        "model.layers.{}.pre_feedforward_layernorm_2",
        "model.layers.{}.post_feedforward_layernorm_1",
        "model.layers.{}.post_feedforward_layernorm_2",
        "model.layers.{}.experts.gate_up_proj",
        "model.layers.{}.experts.down_proj",
    ],
    "deepseek2": [
        "model.layers.{}.self_attn.q_a_proj",
        "model.layers.{}.self_attn.kv_a_proj_with_mqa",
        "model.layers.{}.self_attn.q_a_layernorm",
        "model.layers.{}.self_attn.kv_a_layernorm",
        "model.layers.{}.self_attn.q_b_proj",
        "model.layers.{}.self_attn.kv_b_proj",
        "model.layers.{}.mlp.shared_experts.up_proj",
        "model.layers.{}.mlp.gate",
    ],
    "glm4moe": [
        "model.layers.{}.mlp.shared_experts.gate_proj",
        "model.layers.{}.mlp.gate",
        "model.layers.{}.post_attention_layernorm",
    ],
    "qwen3next": [
        "model.layers.{}.linear_attn.conv1d",
        "model.layers.{}.linear_attn.norm",
        "model.layers.{}.linear_attn.out_proj",
        "model.layers.{}.post_attention_layernorm",
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.mlp.shared_expert_gate",
    ],
    "qwen35moe": [
        "model.layers.{}.linear_attn.conv1d",
        "model.layers.{}.linear_attn.norm",
        "model.layers.{}.linear_attn.out_proj",
        "model.layers.{}.post_attention_layernorm",
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.mlp.gate",
    ],
    "qwen35": [
        "model.layers.{}.linear_attn.conv1d",
        "model.layers.{}.linear_attn.norm",
        "model.layers.{}.linear_attn.out_proj",
        "model.layers.{}.post_attention_layernorm",
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.mlp.up_proj",
    ],
    "granitehybrid": [
        "model.layers.{}.mamba.in_proj",
        "model.layers.{}.mamba.conv1d",
        "model.layers.{}.mamba.norm",
        "model.layers.{}.mamba.out_proj",
        "model.layers.{}.block_sparse_moe.router.layer",
    ],
    "lfm2": [
        "model.layers.{}.operator_norm",
        "model.layers.{}.conv.in_proj",
        "model.layers.{}.conv.out_proj",
        "model.layers.{}.self_attn.q_layernorm",
        "model.layers.{}.self_attn.out_proj",
    ],
    "lfm2moe": ["model.layers.{}.conv.in_proj", "model.layers.{}.feed_forward.gate"],
    "nemotron_h": NEMOTRON,
    "nemotron_h_moe": [*NEMOTRON, "model.layers.{}.mixer.gate", "model.layers.{}.mixer.shared_experts.up_proj"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_the_ones_that_the_gguf_package_started_from(family):
    package = pytest.importorskip("gguf")
    architecture = "llama" if family == "mixtral" else family
    arch = next(kind for kind, name in package.MODEL_ARCH_NAMES.items() if name == architecture)
    table = package.get_tensor_name_map(arch, 3)
    norm = "model.embedding_norm" if family.startswith("lfm2") else "model.norm"
    embedding = "model.word_embeddings" if family == "bailingmoe2" else "model.embed_tokens"
    for name in [*(name.format(2) for name in HF_NAMES[family]), embedding, norm]:
        listed = name.replace("model.layers", "backbone.layers") if "mixer" in name else name
        theirs = table.get_name(listed + ".weight", try_suffixes=(".weight",))
        assert theirs is not None, f"the package has no name for {name}"
        assert tensor_name(theirs, FAMILIES[family].names) == name + ".weight"


def test_names_of_stacks_and_exceptions():
    names = {family: FAMILIES[family].names for family in FAMILIES}
    for family, ours, theirs in [
        ("qwen3moe", "blk.1.ffn_gate_exps.weight", "model.layers.1.mlp.switch_mlp.gate_proj.weight"),
        ("mixtral", "blk.1.ffn_down_exps.weight", "model.layers.1.block_sparse_moe.switch_mlp.down_proj.weight"),
        ("mixtral", "blk.1.ffn_up.7.weight", "model.layers.1.block_sparse_moe.experts.7.w3.weight"),
        ("gpt-oss", "blk.1.ffn_up_exps.bias", "model.layers.1.mlp.experts.up_proj.bias"),
        ("gpt-oss", "blk.1.attn_sinks.weight", "model.layers.1.self_attn.sinks"),
        ("gemma4", "blk.1.layer_output_scale.weight", "model.layers.1.layer_scalar"),
        ("gemma4", "blk.1.ffn_gate_inp.scale", "model.layers.1.router.scale"),
        ("gemma4", "blk.1.ffn_down_exps.scale", "model.layers.1.router.per_expert_scale"),
        ("deepseek2", "blk.1.attn_k_b.weight", "model.layers.1.self_attn.embed_q.weight"),
        ("deepseek2", "blk.1.exp_probs_b.bias", "model.layers.1.mlp.gate.e_score_correction_bias"),
    ]:
        assert tensor_name(ours, names[family]) == theirs


# Files in parts


def split(folder, parts=3, **first) -> list:
    paths = [folder / f"m-{i + 1:05}-of-{parts:05}.gguf" for i in range(parts)]
    for i, path in enumerate(paths):
        keys = {"split.no": (2, i), "split.count": (2, parts), "split.tensors.count": (5, parts)}
        tensors = [EMBEDDING] if i == 0 else [(f"blk.{i}.attn_q.weight", (64, 2), 0)]
        path.write_bytes(files.gguf(keys | (metadata("llama") | first if i == 0 else {}), tensors))
    return paths


@pytest.mark.parametrize("which", [0, 2])
def test_parts(tmp_path, which):
    paths = split(tmp_path)
    with open_checkpoint(paths[which]) as checkpoint:
        assert checkpoint.files == tuple(paths) and checkpoint.config["model_type"] == "llama"
        assert {name: info.file for name, info in checkpoint.tensors.items()} == {
            "model.embed_tokens.weight": paths[0],
            "model.layers.1.self_attn.q_proj.weight": paths[1],
            "model.layers.2.self_attn.q_proj.weight": paths[2],
        }
        assert checkpoint.view("model.layers.2.self_attn.q_proj.weight").shape == (2, 64)


def refuse_parts(path, *words):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_missing_parts_are_listed(tmp_path):
    paths = split(tmp_path, 12)
    for path in paths[2:]:
        path.unlink()
    refuse_parts(paths[0], "10 of its 12 parts", *(path.name for path in paths[2:]))


def test_part_under_another_name(tmp_path):
    paths = split(tmp_path)
    paths[0].rename(tmp_path / "model.gguf")
    refuse_parts(tmp_path / "model.gguf", "split.count", "name")


def test_parts_that_do_not_belong_together(tmp_path):
    paths = split(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())
    refuse_parts(paths[0], paths[1].name, "part 2 of 3")
    paths = split(tmp_path, **{"split.tensors.count": (5, 7)})
    refuse_parts(paths[0], "hold 3 tensors", "7")
    paths = split(tmp_path)
    twin = files.gguf({"split.no": (2, 1), "split.count": (2, 3)}, [EMBEDDING])
    paths[1].write_bytes(twin)
    refuse_parts(paths[0], '"token_embd.weight"', "too")


def test_file_without_the_suffix(tmp_path):
    file = tmp_path / "blob"
    file.write_bytes(files.gguf(metadata("llama"), [EMBEDDING]))
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.nbytes == file.stat().st_size


def test_damaged_file_is_named(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<I", 3))
    refuse_parts(file, "model.gguf", "too few")


OPENING = """
import sys, time
from pipeline.checkpoints.opening import open_checkpoint
from pipeline.host import peak_memory
start = time.perf_counter()
with open_checkpoint(sys.argv[1]) as checkpoint:
    checkpoint.mapped(checkpoint.tensor("model.embed_tokens.weight").file)
    print(time.perf_counter() - start, peak_memory(), checkpoint.nbytes)
"""


def test_large_file_opens_at_once(file):
    """5 GB with a vocabulary of 250,000 in half a second and 50 MB, the interpreter included."""
    words = files.array(8, [f"token{i}" for i in range(250_000)])
    keys = metadata("llama") | {"tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": words}
    large = ("blk.0.ffn_down.weight", (2**20, 1280), 0)
    with open(file, "wb") as stream:
        stream.write(files.gguf(keys, [EMBEDDING, large], data=bytes(2560)))
        os.ftruncate(stream.fileno(), stream.tell() + files.nbytes(*large[1:]))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", OPENING, file], capture_output=True, text=True, env=environment, check=True
        )
        for _ in range(3)
    ]
    seconds, memory, nbytes = zip(*(map(float, done.stdout.split()) for done in runs))
    assert min(seconds) < 0.5 and max(memory) < 50e6 and min(nbytes) > 5 * 2**30
