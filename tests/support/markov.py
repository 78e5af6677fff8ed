"""A tiny Llama whose greedy continuation of token t is successor[t]: attention and MLP add nothing, embeddings are
one-hot, and the head maps each to its successor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .checkpoints import write_tensors


def write_markov(folder: Path, tokenizer: Tokenizer, successor: Mapping[int, int], **config: Any) -> Path:
    """Writes the checkpoint; `config` adds to config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = tokenizer.get_vocab_size(with_added_tokens=True)
    hidden = -(-vocab // 64) * 64
    embed, head = np.eye(vocab, hidden, dtype=np.float32), np.zeros((vocab, hidden), np.float32)
    for token in range(vocab):
        head[successor.get(token, 0), token] = 1
    ones, layer = np.ones(hidden, np.float32), "model.layers.0."
    shapes = {f"self_attn.{name}_proj": (64, hidden) for name in "qkv"} | {"self_attn.o_proj": (hidden, 64)}
    shapes |= {"mlp.gate_proj": (64, hidden), "mlp.up_proj": (64, hidden), "mlp.down_proj": (hidden, 64)}
    tensors = {"model.embed_tokens.weight": embed, "lm_head.weight": head, "model.norm.weight": ones}
    tensors |= {f"{layer}{name}_layernorm.weight": ones for name in ("input", "post_attention")}
    tensors |= {f"{layer}{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_tensors(folder / "model.safetensors", tensors)
    sizes = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **sizes, **heads, **config}))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def chain(tokens: list[int]) -> dict[int, int]:
    """Each token's successor; the last one's is itself."""
    return dict(zip(tokens, [*tokens[1:], tokens[-1]]))
