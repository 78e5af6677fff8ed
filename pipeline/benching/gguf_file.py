"""A Qwen3-MoE checkpoint as GGUF: matrices Q4_0, norms and routers F32, no tokenizer; one tensor in memory at a time.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Needs the package gguf.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..errors import UnsupportedError
from ..graph.formats import BLOCKS

__all__ = ["gguf_bytes", "targets", "values", "write_gguf"]

BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
}
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}
Q4_0_WEIGHTS, Q4_0_BYTES = BLOCKS["Q4_0"]  # per block
ROWS = 4096  # of a matrix are quantised at a time
HEADER_BYTES = 1 << 20  # at most, for gguf_bytes


_Part: TypeAlias = str | tuple[str, int]  # a module, or one matrix of a stack


@dataclass(frozen=True)
class Target:
    """A tensor of the GGUF, made of `parts`."""

    name: str
    shape: tuple[int, ...]
    quantized: bool
    parts: tuple[_Part, ...]

    @property
    def nbytes(self) -> int:
        count = math.prod(self.shape)
        return count // Q4_0_WEIGHTS * Q4_0_BYTES if self.quantized else 4 * count


def gguf_bytes(checkpoint: Checkpoint) -> int:
    """The most bytes that the file may take."""
    return sum(target.nbytes for target in targets(checkpoint)) + HEADER_BYTES


def write_gguf(checkpoint: Checkpoint, file: Path) -> None:
    """Writes `file`, a path that should be temporary."""
    q4 = gguf.GGMLQuantizationType.Q4_0
    writer = gguf.GGUFWriter(file, "qwen3moe")
    _describe(writer, checkpoint.config)
    wanted = list(targets(checkpoint))
    for target in wanted:
        writer.add_tensor_info(
            target.name + ".weight",
            target.shape,
            np.dtype(np.float32),
            target.nbytes,
            raw_dtype=q4 if target.quantized else None,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for target in wanted:
            data = np.empty(target.nbytes, np.uint8)
            position = 0
            for rows in _pieces(checkpoint, target):
                piece = gguf.quants.quantize(rows, q4) if target.quantized else np.ascontiguousarray(rows)
                piece = piece.reshape(-1).view(np.uint8)
                data[position : position + piece.size] = piece
                position += piece.size
            writer.write_tensor_data(data)
    finally:
        writer.close()


def targets(checkpoint: Checkpoint) -> Iterator[Target]:
    """The file's tensors, in its order. UnsupportedError for another family."""
    config = checkpoint.config
    if config.get("model_type") != "qwen3_moe":
        raise UnsupportedError(
            f"{checkpoint.source}: model_type {config.get('model_type')!r} cannot be "
            "written as GGUF for llama.cpp, only qwen3_moe can; give a .gguf file of the model"
        )
    yield _target(checkpoint, "token_embd", "model.embed_tokens")
    yield _target(checkpoint, "output_norm", "model.norm")
    if not config.get("tie_word_embeddings"):
        yield _target(checkpoint, "output", "lm_head")
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for module, name in BLOCK.items():
            yield _target(checkpoint, f"blk.{i}.{name}", f"{layer}.{module}", exact=module == "mlp.gate")
        for module, name in EXPERTS.items():
            yield _experts(checkpoint, f"blk.{i}.{name}", f"{layer}.mlp", module)


def _target(checkpoint: Checkpoint, name: str, module: str, exact: bool = False) -> Target:
    shape = _shape(checkpoint, module)
    return Target(name, shape, len(shape) > 1 and not exact, (module,))


def _experts(checkpoint: Checkpoint, name: str, mlp: str, module: str) -> Target:
    count, stack = checkpoint.config["num_experts"], f"{mlp}.switch_mlp.{module}"
    if f"{stack}.weight" in checkpoint.tensors:
        return Target(name, _shape(checkpoint, stack), True, tuple((stack, e) for e in range(count)))
    modules = tuple(f"{mlp}.experts.{e}.{module}" for e in range(count))
    return Target(name, (count, *_shape(checkpoint, modules[0])), True, modules)


def _shape(checkpoint: Checkpoint, module: str) -> tuple[int, ...]:
    scheme, shape = checkpoint.quantization(module), checkpoint.tensor(f"{module}.weight").shape
    return shape if scheme is None else (*shape[:-1], shape[-1] * 32 // scheme.bits)


def _pieces(checkpoint: Checkpoint, target: Target) -> Iterator[np.ndarray]:
    """The values of `target` as float32, some rows at a time."""
    for part in target.parts:
        module, index = part if isinstance(part, tuple) else (part, None)
        rows = _shape(checkpoint, module)[-2 if index is not None else 0]
        for first in range(0, rows, ROWS):
            yield values(checkpoint, module, index, slice(first, first + ROWS))


def values(checkpoint: Checkpoint, module: str, index: int | None = None, rows: slice = slice(None)) -> np.ndarray:
    """`rows` of the weight of a module, or of matrix `index` of a stack, as float32, dequantised from MLX's affine
    format where it is stored in that."""

    def part(name: str) -> np.ndarray:
        array = checkpoint.view(name) if index is None else checkpoint.view(name)[index]
        return array[rows]

    scheme, weight = checkpoint.quantization(module), part(f"{module}.weight")
    if scheme is None:
        return _floats(weight, checkpoint.tensors[f"{module}.weight"].dtype)
    if scheme.mode != "affine":
        raise UnsupportedError(
            f"{checkpoint.source}: {module} is {scheme.mode}; only affine quantisation can be written as GGUF"
        )
    flags = np.unpackbits(np.ascontiguousarray(weight).view(np.uint8), axis=-1, bitorder="little")
    q = flags.reshape(*weight.shape[:-1], -1, scheme.bits) @ (1 << np.arange(scheme.bits, dtype=np.uint16))
    scale, bias = (
        np.repeat(
            _floats(part(f"{module}.{name}"), checkpoint.tensors[f"{module}.{name}"].dtype), scheme.group_size, -1
        )
        for name in ("scales", "biases")
    )
    return q.astype(np.float32) * scale + bias


def _floats(array: np.ndarray, dtype: str) -> np.ndarray:
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array.astype(np.float32)


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
