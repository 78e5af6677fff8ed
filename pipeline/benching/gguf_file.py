"""A checkpoint of Qwen3-MoE or of Qwen3.5's mixture as GGUF: matrices Q4_0, or BF16 where they are that, norms and
routers F32, no tokenizer. One tensor is in memory at a time.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Needs the package gguf.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from .gguf_tensors import ARCHITECTURES, Target, shape_of, stored, targets, values

__all__ = ["gguf_bytes", "write_gguf"]

ROWS = 4096  # of a matrix are quantised at a time
HEADER_BYTES = 1 << 20  # at most, for gguf_bytes


def gguf_bytes(checkpoint: Checkpoint) -> int:
    """The most bytes that the file may take."""
    return sum(target.nbytes for target in targets(checkpoint)) + HEADER_BYTES


def write_gguf(checkpoint: Checkpoint, file: Path) -> None:
    """Writes `file`, a path that should be temporary."""
    writer = gguf.GGUFWriter(file, ARCHITECTURES.get(str(checkpoint.config.get("model_type")), ""))
    _describe(writer, checkpoint.config)
    wanted = list(targets(checkpoint))
    for target in wanted:
        kind = gguf.GGMLQuantizationType[target.kind]
        raw = None if target.kind == "F32" else kind
        writer.add_tensor_info(target.name, target.shape, np.dtype(np.float32), target.nbytes, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for target in wanted:
            data = np.empty(target.nbytes, np.uint8)
            position = 0
            for rows in _pieces(checkpoint, target):
                piece = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
                data[position : position + piece.size] = piece
                position += piece.size
            writer.write_tensor_data(data)
    finally:
        writer.close()


def _pieces(checkpoint: Checkpoint, target: Target) -> Iterator[np.ndarray]:
    """The values of `target` in its kind, some rows at a time."""
    for part in target.parts:
        rows = part.count or shape_of(checkpoint, part.module)[-2 if part.index is not None else 0]
        for first in range(part.first, part.first + rows, ROWS):
            some: slice | np.ndarray = slice(first, min(first + ROWS, part.first + rows))
            if part.rows is not None:
                some = part.rows[some]
            if target.kind == "BF16":
                raw = stored(checkpoint, part.module, part.index, some)
                yield raw if part.columns is None else raw[..., part.columns]
                continue
            numbers = values(checkpoint, part.module, part.index, some)
            numbers = numbers if part.columns is None else numbers[..., part.columns]
            numbers = numbers if part.change is None else part.change(numbers)
            q4 = gguf.GGMLQuantizationType.Q4_0
            yield gguf.quants.quantize(numbers, q4) if target.kind == "Q4_0" else numbers


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    rope = config.get("rope_parameters") or {}
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config.get("intermediate_size") or config["moe_intermediate_size"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config.get("rope_theta") or rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    if config["model_type"] == "qwen3_5_moe_text":
        _describe_delta(writer, config)


def _describe_delta(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """Writes the keys that describe recurrent layers, the shared expert, and rope on a part of each head."""
    heads, pairs = config["linear_num_value_heads"], int(config["head_dim"] * config["partial_rotary_factor"]) // 2
    writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    writer.add_ssm_conv_kernel(config["linear_conv_kernel_dim"])
    writer.add_ssm_state_size(config["linear_key_head_dim"])
    writer.add_ssm_group_count(config["linear_num_key_heads"])
    writer.add_ssm_time_step_rank(heads)
    writer.add_ssm_inner_size(heads * config["linear_value_head_dim"])
    writer.add_full_attention_interval(config["full_attention_interval"])
    writer.add_rope_dimension_count(2 * pairs)
    writer.add_rope_dimension_sections([(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3, 0])
