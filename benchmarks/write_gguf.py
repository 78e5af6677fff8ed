"""Writes a Qwen3-MoE checkpoint as GGUF for llama.cpp: matrices Q4_0, norms and routers F32, no tokenizer.

    python benchmarks/write_gguf.py MODEL_DIR OUT.gguf        needs the `gguf` package
"""

import sys

import gguf
import numpy as np

import pipeline as p

BLOCK = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
}  # fmt: skip
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


def values(checkpoint, module):
    """The weight of a module as float32, dequantised where it is MLX's affine format."""
    scheme = checkpoint.quantization(module)
    weight = checkpoint.view(module + ".weight")
    if scheme is None:
        return floats(weight, checkpoint.tensors[module + ".weight"].dtype)
    shifts = np.arange(32 // scheme.bits, dtype=np.uint32) * np.uint32(scheme.bits)
    q = (weight[..., None] >> shifts & np.uint32(2**scheme.bits - 1)).reshape(*weight.shape[:-1], -1)
    scale, bias = (
        np.repeat(floats(checkpoint.view(f"{module}.{part}"), checkpoint.tensors[f"{module}.{part}"].dtype), scheme.group_size, -1)
        for part in ("scales", "biases")
    )
    return q.astype(np.float32) * scale + bias


def floats(array, dtype):
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array.astype(np.float32)


def main(source, target):
    checkpoint = p.open_checkpoint(source)
    config = checkpoint.config
    writer = gguf.GGUFWriter(target, "qwen3moe")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")

    def matrix(name, array):
        kind = gguf.GGMLQuantizationType.Q4_0
        writer.add_tensor(name + ".weight", gguf.quants.quantize(array, kind), raw_dtype=kind)

    matrix("token_embd", values(checkpoint, "model.embed_tokens"))
    writer.add_tensor("output_norm.weight", values(checkpoint, "model.norm"))
    for i in range(config["num_hidden_layers"]):
        for module, name in BLOCK.items():
            array = values(checkpoint, f"model.layers.{i}.{module}")
            if array.ndim == 1 or module == "mlp.gate":
                writer.add_tensor(f"blk.{i}.{name}.weight", array)
            else:
                matrix(f"blk.{i}.{name}", array)
        for module, name in EXPERTS.items():
            prefix = f"model.layers.{i}.mlp"
            if f"{prefix}.switch_mlp.{module}.weight" in checkpoint.tensors:
                array = values(checkpoint, f"{prefix}.switch_mlp.{module}")
            else:
                array = np.stack([values(checkpoint, f"{prefix}.experts.{e}.{module}") for e in range(config["num_experts"])])
            matrix(f"blk.{i}.{name}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
