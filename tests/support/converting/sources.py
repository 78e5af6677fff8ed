"""Hugging Face checkpoints written from names and shapes, with numbers that only depend on them; shared by tests."""

import json
import zlib
from pathlib import Path

import numpy as np

ROUNDERS = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}


def values(name: str, shape, dtype: str = "BF16") -> np.ndarray:
    """The tensor's bits: numbers from -2 to 2 that look random; a group of equal ones, and one of zeros, now and
    then."""
    count = int(np.prod(shape, dtype=np.int64))
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()))) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    small = (mixed >> np.uint64(40)).astype(np.int64) % 4096 - 2048
    lines = np.arange(count) // 64
    small[lines % 61 == 7] = -512
    small[lines % 67 == 9] = 0
    numbers = (small / 1024).astype(np.float32).reshape(shape)
    if dtype == "BF16":
        return (numbers.view("<u4") >> np.uint32(16)).astype("<u2")
    return numbers.astype(ROUNDERS[dtype])


def write_safetensors(file: Path, tensors: dict) -> None:
    """tensors: name -> (dtype of the format, array of its bits)."""
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + b"".join(array.tobytes() for _, array in tensors.values()))


def write_source(folder: Path, config: dict, shapes: dict, dtype: str = "BF16") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(
        folder / "model.safetensors", {name: (dtype, values(name, shape, dtype)) for name, shape in shapes.items()}
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


SMALL = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "vocab_size": 96,
    "hidden_size": 128,
    "head_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "norm_topk_prob": True,
    "tie_word_embeddings": False,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "hidden_act": "silu",
    "bos_token_id": None,
    "eos_token_id": 95,
}


def small_shapes(config: dict = SMALL) -> dict:
    """A Qwen3-MoE's tensors."""
    hidden, inner = config["hidden_size"], config["moe_intermediate_size"]
    q, kv = (config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (config["vocab_size"], hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.post_attention_layernorm.weight": (hidden,),
            f"{at}.self_attn.q_proj.weight": (q, hidden),
            f"{at}.self_attn.k_proj.weight": (kv, hidden),
            f"{at}.self_attn.v_proj.weight": (kv, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, q),
            f"{at}.self_attn.q_norm.weight": (config["head_dim"],),
            f"{at}.self_attn.k_norm.weight": (config["head_dim"],),
            f"{at}.mlp.gate.weight": (config["num_experts"], hidden),
        }
        for e in range(config["num_experts"]):
            shapes |= {
                f"{at}.mlp.experts.{e}.gate_proj.weight": (inner, hidden),
                f"{at}.mlp.experts.{e}.up_proj.weight": (inner, hidden),
                f"{at}.mlp.experts.{e}.down_proj.weight": (hidden, inner),
            }
    return shapes
