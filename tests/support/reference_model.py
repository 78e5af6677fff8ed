"""The oracle of a whole model: Qwen3-MoE in NumPy float64, from the files alone, written from its formulas.

Weights are what the file's bits say (MLX's affine 4 and 8 bits, bfloat16), so that a device differs only by its
arithmetic. `activations` may round what goes into the matrices other than the router's, as engines do that multiply
integers.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from support import reference as ref

PLAIN = {"U32": np.uint32, "BF16": np.uint16, "F16": np.float16, "F32": np.float32}


def int8_blocks(x, block=32):
    """Each block of 32 values rounded to 255 levels of its largest: Q8_0 of the GGUF format."""
    parts = x.reshape(*x.shape[:-1], x.shape[-1] // block, block)
    scale = np.abs(parts).max(-1, keepdims=True) / 127
    return (np.rint(parts / np.where(scale > 0, scale, 1)) * scale).reshape(x.shape)


def kl_divergence(logits, other):
    """Σ p · log(p / q) by row, in nats: p of `logits`, q of `other`."""
    p, q = ref.log_softmax(logits), ref.log_softmax(other)
    return (np.exp(p) * (p - q)).sum(-1)


class ReferenceModel:
    """A checkpoint with one file, model.safetensors, and stacked experts."""

    def __init__(self, folder):
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        file = folder / "model.safetensors"
        length = int.from_bytes(file.open("rb").read(8), "little")
        data = np.memmap(file, np.uint8, mode="r")
        header = json.loads(data[8 : 8 + length].tobytes())
        self._tensors = {
            name: data[8 + length :][slice(*entry["data_offsets"])].view(PLAIN[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
        self.weight = lru_cache(None)(self._weight)

    def logits(self, tokens, activations=lambda x: x):
        """Logits [len(tokens), vocab] after each token of one sequence."""
        c, w, into = self.config, self.weight, activations
        count, heads, kv, dim = len(tokens), c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        inv_freq = float(c["rope_theta"]) ** (-np.arange(0, dim, 2) / dim)
        positions, visible = np.arange(count), np.tril(np.ones((count, count), bool))
        x = w("model.embed_tokens")[np.asarray(tokens)]  # [count, hidden_size]

        def norm(values, name):
            return ref.rms_norm(values, w(name), c["rms_norm_eps"])

        for i in range(c["num_hidden_layers"]):
            layer = f"model.layers.{i}"
            h = into(norm(x, f"{layer}.input_layernorm"))
            q, k, v = ((h @ w(f"{layer}.self_attn.{name}_proj").T).reshape(count, -1, dim) for name in "qkv")
            q = ref.rope(norm(q, f"{layer}.self_attn.q_norm"), positions, inv_freq)  # [count, heads, dim]
            k = ref.rope(norm(k, f"{layer}.self_attn.k_norm"), positions, inv_freq)  # [count, kv, dim]
            q = q.transpose(1, 0, 2).reshape(kv, heads // kv, count, dim)
            k, v = k.transpose(1, 0, 2)[:, None], v.transpose(1, 0, 2)[:, None]  # [kv, 1, count, dim]
            scores = np.where(visible, q @ k.swapaxes(-1, -2) * dim**-0.5, -np.inf)
            a = (ref.softmax(scores) @ v).reshape(heads, count, dim).transpose(1, 0, 2).reshape(count, -1)
            x = x + into(a) @ w(f"{layer}.self_attn.o_proj").T
            x = x + self._experts(f"{layer}.mlp", norm(x, f"{layer}.post_attention_layernorm"), into)
        head = "model.embed_tokens" if c["tie_word_embeddings"] else "lm_head"
        return into(norm(x, "model.norm")) @ w(head).T

    def _experts(self, mlp, h, into):
        """Rows of h [count, hidden_size], expert by expert."""
        ids, weights = ref.softmax_topk(
            h @ self.weight(f"{mlp}.gate").T, self.config["num_experts_per_tok"], self.config["norm_topk_prob"]
        )
        h = into(h)
        gate, up, down = (self.weight(f"{mlp}.switch_mlp.{name}_proj") for name in ("gate", "up", "down"))
        y = np.zeros_like(h)
        for expert in range(self.config["num_experts"]):
            rows, places = np.nonzero(ids == expert)
            inner = into(ref.silu(h[rows] @ gate[expert].T) * (h[rows] @ up[expert].T))
            y[rows] += weights[rows, places][:, None] * (inner @ down[expert].T)
        return y

    def _weight(self, module):
        """The weight of a module as float64, dequantised where it has scales."""
        weight = self._tensors[f"{module}.weight"]
        if f"{module}.scales" not in self._tensors:
            return self._floats(f"{module}.weight")
        scheme = self.config["quantization"]
        scheme = scheme.get(module, scheme)
        return ref.dequantize(
            weight,
            self._floats(f"{module}.scales"),
            self._floats(f"{module}.biases"),
            scheme["bits"],
            scheme["group_size"],
        )

    def _floats(self, name):
        values = self._tensors[name]
        return (ref.from_bf16(values) if values.dtype == np.uint16 else values).astype(np.float64)
