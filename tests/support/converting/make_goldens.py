"""Writes tests/data/converted.json: what mlx and mlx-lm make of the sources. Needs transformers, torch, mlx and mlx-lm.

PYTHONPATH=.:tests python tests/support/converting/make_goldens.py
"""

import hashlib
import json
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, quantize_model
from support.converting.sources import values, write_source
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline.checkpoints.safetensors import read_header
from pipeline.converting.configuration import earlier_keys
from pipeline.graph.formats import AFFINE_BITS, FLOAT_MODES

FILE = Path(__file__).resolve().parents[2] / "data" / "converted.json"
SHARED = dict(
    vocab_size=96,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    bos_token_id=None,
    max_position_embeddings=128,
    tie_word_embeddings=False,
    eos_token_id=None,
    pad_token_id=None,
)
EXPERTS = dict(num_experts_per_tok=2, moe_intermediate_size=64, intermediate_size=96)
ROUTED = EXPERTS | dict(n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1, n_group=2, topk_group=1)
LATENT = dict(
    kv_lora_rank=64, q_lora_rank=64, qk_rope_head_dim=32, qk_nope_head_dim=64, v_head_dim=64, num_key_value_heads=4
)
YARN = dict(
    rope_type="yarn",
    factor=4.0,
    original_max_position_embeddings=32,
    rope_theta=10000.0,
    mscale=1.0,
    mscale_all_dim=1.0,
)
LOCAL = dict(
    layer_types=["sliding_attention"] * 5 + ["full_attention"], sliding_window=16, num_hidden_layers=6, head_dim=32
)
CASES = {
    "llama": dict(intermediate_size=192, tie_word_embeddings=True),
    "mistral": dict(intermediate_size=192, sliding_window=None),
    "qwen2": dict(intermediate_size=192),
    "qwen3": dict(intermediate_size=192, head_dim=32),
    "gemma3_text": LOCAL | dict(intermediate_size=192, tie_word_embeddings=True),
    "qwen3_moe": EXPERTS | dict(num_experts=6, head_dim=32),
    "qwen2_moe": EXPERTS | dict(num_experts=6, shared_expert_intermediate_size=128),
    "mixtral": dict(num_local_experts=6, num_experts_per_tok=2, intermediate_size=64),
    "olmoe": dict(num_experts=6, num_experts_per_tok=2, intermediate_size=64),
    "granitemoe": dict(num_local_experts=6, num_experts_per_tok=2, intermediate_size=64),
    "gemma4_text": LOCAL
    | EXPERTS
    | dict(
        num_experts=6,
        top_k_experts=2,
        global_head_dim=64,
        enable_moe_block=True,
        num_kv_shared_layers=0,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=96,
        tie_word_embeddings=True,
    ),
    "deepseek_v2": ROUTED | LATENT | dict(rope_parameters=YARN, head_dim=32),
    "deepseek_v3": ROUTED | LATENT | dict(head_dim=32),
    "glm4_moe": ROUTED | dict(head_dim=32, n_group=1),
    "glm4_moe_lite": ROUTED | LATENT | dict(n_group=1),
}
GROUPS, DTYPES = (32, 64, 128), {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def raw(array: mx.array) -> bytes:
    return np.array(array.view(mx.uint8)).tobytes()


def affine() -> dict:
    """dtype/bits/group -> digests of words, scales and biases of one matrix."""
    found = {}
    for dtype, kind in DTYPES.items():
        bits_of = values("affine", (64, 512), dtype)
        matrix = mx.array(bits_of).view(kind) if dtype == "BF16" else mx.array(bits_of)
        for bits in AFFINE_BITS:
            for group in GROUPS:
                found[f"{dtype}/{bits}/{group}"] = [
                    digest(raw(part)) for part in mx.quantize(matrix, group_size=group, bits=bits)
                ]
    return found


def floats() -> dict:
    """dtype/mode -> digests of words and scales of one matrix."""
    found = {}
    for dtype, kind in DTYPES.items():
        bits_of = values("affine", (64, 512), dtype)
        matrix = mx.array(bits_of).view(kind) if dtype == "BF16" else mx.array(bits_of)
        for mode in FLOAT_MODES:
            found[f"{dtype}/{mode}"] = [digest(raw(part)) for part in mx.quantize(matrix, mode=mode)]
    return found


def family(name: str) -> dict:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        config = AutoConfig.for_model(name, **(SHARED | CASES[name]))
        AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        shapes = {
            tensor: list(info.shape) for tensor, info in read_header(folder / "model.safetensors").tensors.items()
        }
        write_source(folder, config, shapes)
        model, loaded = load_model(
            folder, lazy=True, model_config={k: v for k, v in earlier_keys(config).items() if k not in config}
        )
        model, loaded = quantize_model(model, loaded, 32, 4)
        outputs = {
            tensor: [list(array.shape), digest(raw(array))]
            for tensor, array in sorted(tree_flatten(model.parameters()))
        }
        return {"config": config, "sources": shapes, "outputs": outputs, "table": loaded["quantization"]}


if __name__ == "__main__":
    result = {"affine": affine(), "floats": floats(), "families": {name: family(name) for name in CASES}}
    lines = [f'"affine": {json.dumps(result["affine"])}']
    lines += [f'"{name}": {json.dumps(case)}' for name, case in result["families"].items()]
    FILE.write_text(
        "{"
        + lines[0]
        + f',\n"floats": {json.dumps(result["floats"])}'
        + ',\n"families": {\n'
        + ",\n".join(lines[1:])
        + "\n}}\n"
    )
