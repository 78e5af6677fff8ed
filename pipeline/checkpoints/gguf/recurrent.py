"""What a GGUF file says of recurrent layers, in its metadata and by the tensors that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .metadata import Metadata

__all__ = ["delta", "granite_hybrid", "lfm2", "nemotron"]


def delta(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """Layers without a projection of queries are recurrent."""
    attends = [f"blk.{i}.attn_q.weight" in values.header.tensors for i in range(config["num_hidden_layers"])]
    head_dim = values.whole("attention.key_length", 256)
    turned = values.whole("rope.dimension_count", head_dim // 4)
    first = attends.index(True) if True in attends else 0
    return {
        "head_dim": head_dim,
        "layer_types": ["full_attention" if each else "linear_attention" for each in attends],
        "linear_value_head_dim": _of_mamba(values),
        "attention_bias": f"blk.{first}.attn_q.bias" in values.header.tensors,
        "rope_parameters": config["rope_parameters"] | {"partial_rotary_factor": turned / max(head_dim, 1)},
    }


def _of_mamba(values: Metadata) -> int:
    """Numbers of a head."""
    heads, inner = values.whole("ssm.time_step_rank"), values.whole("ssm.inner_size")
    if not heads or inner % heads:
        raise values.error("ssm.inner_size", f"a multiple of ssm.time_step_rank, {heads}", inner)
    return inner // heads


def _one(value: Any) -> Any:
    """The value of those layers that have one."""
    return max((each for each in value if type(each) is int), default=0) if isinstance(value, list) else value


def granite_hybrid(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    tensors, inner, hidden = values.header.tensors, values.whole("ssm.inner_size"), values.whole("embedding_length")
    attends = [f"blk.{i}.attn_q.weight" in tensors for i in range(config["num_hidden_layers"])]
    first = attends.index(True) if True in attends else 0
    if not hidden or inner % hidden:
        raise values.error("ssm.inner_size", f"a multiple of embedding_length, {hidden}", inner)
    dense, bare = _one(config.get("intermediate_size")), config.get("num_local_experts", 0) == 0
    return {
        "layer_types": ["attention" if each else "mamba" for each in attends],
        "num_key_value_heads": _one(config.get("num_key_value_heads")),
        "num_local_experts": config.get("num_local_experts", 0),
        "intermediate_size": dense,
        "shared_intermediate_size": dense if bare else config.get("shared_intermediate_size", 0),
        "mamba_d_head": _of_mamba(values),
        "mamba_expand": inner // hidden,
        "mamba_conv_bias": any(name.endswith("ssm_conv1d.bias") for name in tensors),
        "position_embedding_type": "rope" if values.get("rope.scaling.finetuned") else "nope",
        "attention_bias": f"blk.{first}.attn_q.bias" in tensors,
    }


def lfm2(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    """Layers without a projection of queries have a short convolution."""
    tensors = values.header.tensors
    attends = [f"blk.{i}.attn_q.weight" in tensors for i in range(config["num_hidden_layers"])]
    return {
        "layer_types": ["full_attention" if each else "conv" for each in attends],
        "num_key_value_heads": _one(config.get("num_key_value_heads")),
        "conv_bias": any(name.endswith("shortconv.conv.bias") for name in tensors),
        "use_expert_bias": any(name.endswith("exp_probs_b.bias") for name in tensors),
        "tie_embedding": config["tie_word_embeddings"],
    }


def nemotron(values: Metadata, config: Mapping[str, Any]) -> dict[str, Any]:
    tensors = values.header.tensors
    signs = {"ssm_in": "linear_attention", "attn_q": "full_attention", "ffn_gate_inp": "moe", "ffn_up": "mlp"}
    kinds = [
        next((kind for stem, kind in signs.items() if f"blk.{i}.{stem}.weight" in tensors), "mlp")
        for i in range(config["num_hidden_layers"])
    ]
    return {
        "layers_block_type": kinds,
        "num_key_value_heads": _one(config.get("num_key_value_heads")),
        "intermediate_size": _one(config.get("intermediate_size")),
        "mamba_head_dim": _of_mamba(values),
        "use_conv_bias": any(name.endswith("ssm_conv1d.bias") for name in tensors),
        "use_bias": any(name.endswith("ssm_in.bias") for name in tensors),
        "mlp_bias": any(name.endswith(("ffn_up.bias", "ffn_up_shexp.bias")) for name in tensors),
        "attention_bias": any(name.endswith("attn_q.bias") for name in tensors),
    }
