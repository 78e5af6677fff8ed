"""Well-formed files that the fuzzers damage."""

import json
import struct

from support import gguf_files as files  # noqa: E402

SAFETENSORS = {
    "__metadata__": {"format": "pt"},
    "model.embed_tokens.weight": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]},
    "model.norm.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [48, 56]},
    "empty": {"dtype": "U8", "shape": [0, 5], "data_offsets": [56, 56]},
    "scalar": {"dtype": "U32", "shape": [], "data_offsets": [56, 60]},
    "four": {"dtype": "F4", "shape": [2, 4], "data_offsets": [60, 64]},
}
SAFETENSORS_DATA = bytes(range(64))
CONFIG = {"model_type": "qwen3_moe", "num_hidden_layers": 2, "bos_token_id": 0, "eos_token_id": [1, 2]}


def _metadata(architecture: str, **keys) -> dict:
    base = {
        "block_count": 2,
        "context_length": 128,
        "embedding_length": 64,
        "attention.head_count": 4,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e4,
    }
    base |= {key.replace("__", "."): value for key, value in keys.items()}
    return {"general.architecture": architecture} | {f"{architecture}.{key}": value for key, value in base.items()}


TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": [*"abcdefgh", "ab", "cd", "abcd", "<s>", "</s>"],
    "tokenizer.ggml.token_type": files.array(5, [1] * 11 + [3, 3]),
    "tokenizer.ggml.merges": ["a b", "c d", "ab cd"],
    "tokenizer.ggml.bos_token_id": 11,
    "tokenizer.ggml.eos_token_id": 12,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.chat_template": "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}",
}
SENTENCES = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "b", "ab", "▁ab"],
    "tokenizer.ggml.scores": files.array(6, [0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0]),
    "tokenizer.ggml.token_type": files.array(5, [2, 3, 3, 6, 1, 1, 1, 1, 1]),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}

# (metadata, tensors, the rest of what files.gguf takes)
GGUF_PARTS = [
    (
        _metadata("llama", attention__head_count_kv=2, feed_forward_length=96) | TOKENIZER,
        [("token_embd.weight", (64, 13), 0), ("blk.0.attn_q.weight", (64, 2), 2), ("rope_freqs.weight", (8,), 0)],
        {"data": bytes(13 * 64 * 4 + 96) + struct.pack("<8f", 1, 1, 1, 1, 2, 4, 8, 8)},
    ),
    (
        _metadata(
            "deepseek2",
            expert_count=4,
            expert_used_count=2,
            attention__kv_lora_rank=16,
            rope__dimension_count=8,
            attention__key_length=24,
            attention__value_length=16,
        )
        | SENTENCES,
        [("token_embd.weight", (64, 9), 1), ("blk.1.ffn_gate_exps.weight", (256, 2, 2), 12)],
        {"version": 2},
    ),
    (
        _metadata("qwen3", attention__head_count_kv=2, feed_forward_length=96) | TOKENIZER,
        [
            ("token_embd.weight", (64, 13), files.TYPES["IQ4_NL"]),
            ("blk.0.attn_q.weight", (256, 2), files.TYPES["IQ4_XS"]),
            ("blk.0.ffn_up.weight", (256, 3), files.TYPES["Q3_K"]),
            ("blk.1.ffn_down.weight", (512, 1), files.TYPES["Q2_K"]),
        ],
        {},
    ),
    (
        _metadata("llama", attention__head_count_kv=2, feed_forward_length=256, embedding_length=256) | SENTENCES,
        [
            ("token_embd.weight", (256, 9), files.TYPES["IQ3_S"]),
            ("blk.0.attn_q.weight", (256, 2), files.TYPES["IQ3_XXS"]),
            ("blk.0.attn_k.weight", (256, 2), files.TYPES["IQ2_S"]),
            ("blk.0.attn_v.weight", (256, 2), files.TYPES["IQ2_XS"]),
            ("blk.0.attn_output.weight", (256, 2), files.TYPES["IQ2_XXS"]),
            ("blk.0.ffn_gate.weight", (256, 3), files.TYPES["IQ1_M"]),
            ("blk.0.ffn_up.weight", (256, 3), files.TYPES["IQ1_S"]),
            ("blk.0.ffn_down.weight", (512, 1), files.TYPES["TQ1_0"]),
            ("blk.1.ffn_down.weight", (512, 1), files.TYPES["TQ2_0"]),
            ("blk.1.ffn_gate.weight", (128, 3), files.TYPES["Q1_0"]),
            ("blk.1.ffn_up.weight", (64, 3), files.TYPES["Q2_0"]),
            ("blk.1.attn_q.weight", (64, 3), files.TYPES["NVFP4"]),
            ("blk.1.attn_q.scale", (1,), 0),
        ],
        {},
    ),
    (
        {"general.alignment": 64}
        | _metadata(
            "gemma3", attention__sliding_window=8, attention__sliding_window_pattern=files.array(7, [True, False])
        )
        | {"deep": files.array(9, [files.array(9, [files.array(4, [1, 2])])]), "split.count": (2, 1), "bytes": (0, 7)}
        | SENTENCES
        | {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.eot_token_id": 2},
        [("token_embd.weight", (64, 2), 8), ("scalar", (), 0), ("none", (0, 3), 0)],
        {"alignment": 64},
    ),
]
GGUF = [files.gguf(metadata, tensors, **rest) for metadata, tensors, rest in GGUF_PARTS]


def safetensors(header: dict | bytes, data: bytes = SAFETENSORS_DATA) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data
