"""Models by shape alone: their config.json and their tensors, in MLX's 4-bit layout, or in bf16 as transformers has
them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

__all__ = ["BITS", "SHAPES", "Shape", "TensorSpec", "cut_shape"]

GROUP_SIZE, ROUTER_BITS = 64, 8  # routers have 8 bits, as in MLX's conversions
BITS = (4, 16)  # of a weight; 16 is bf16

_QWEN3_MOE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "head_dim": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
_QWEN3_NEXT: dict[str, Any] = {
    "head_dim": 256,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "hidden_size": 2048,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
    "partial_rotary_factor": 0.25,
    "rope_theta": 1e7,
    "max_position_embeddings": 262144,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-30b-a3b": _QWEN3_MOE
    | {
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "max_position_embeddings": 40960,
        "rope_theta": 1e6,
    },
    "qwen3-235b-a22b": _QWEN3_MOE
    | {
        "hidden_size": 4096,
        "num_hidden_layers": 94,
        "num_attention_heads": 64,
        "num_key_value_heads": 4,
        "intermediate_size": 12288,
        "moe_intermediate_size": 1536,
        "num_experts": 128,
        "max_position_embeddings": 40960,
        "rope_theta": 1e6,
    },
    "qwen3-coder-480b-a35b": _QWEN3_MOE
    | {
        "hidden_size": 6144,
        "num_hidden_layers": 62,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "moe_intermediate_size": 2560,
        "num_experts": 160,
        "max_position_embeddings": 262144,
        "rope_theta": 1e7,
    },
    "qwen3.5-35b-a3b": _QWEN3_NEXT
    | {
        "model_type": "qwen3_5_moe_text",
        "architectures": ["Qwen3_5MoeForCausalLM"],
        "num_hidden_layers": 40,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "vocab_size": 248320,
    },
    "qwen3-next-80b-a3b": _QWEN3_NEXT
    | {
        "model_type": "qwen3_next",
        "architectures": ["Qwen3NextForCausalLM"],
        "num_hidden_layers": 48,
        "intermediate_size": 5120,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "vocab_size": 151936,
    },
}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor to be written.

    role           "words", "scales", "biases", "ones", or "normal" for a matrix that is not quantised
    bits, inputs   of a quantised matrix: the bits of its words and its logical width; of another one: its width
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: str
    bits: int = 0
    inputs: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * (4 if self.dtype == "U32" else 2)


@dataclass(frozen=True)
class Shape:
    """A named shape, cut to `layers` layers and a vocabulary of `vocab`, with weights of `bits` bits."""

    name: str
    config: dict[str, Any]
    bits: int = 4

    @property
    def title(self) -> str:
        """The shape as people read it."""
        layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        return f"{self.name}, {layers}, vocabulary {self.vocab:,}, {self.kind}"

    @property
    def kind(self) -> str:
        return "bf16" if self.bits == 16 else f"{self.bits}-bit"

    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def vocab(self) -> int:
        return int(self.config["vocab_size"])

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors())

    @property
    def folder(self) -> str:
        """The name of the folder that holds the checkpoint."""
        stored = "bf16" if self.bits == 16 else f"q{self.bits}-g{GROUP_SIZE}"
        return f"{self.name}-{self.layers}-layers-vocab-{self.vocab}-{stored}"

    def tensors(self) -> Iterator[TensorSpec]:
        """All tensors, in the order of the file."""
        c = self.config
        hidden = c["hidden_size"]
        yield from self._matrix("model.embed_tokens", (self.vocab, hidden))
        for i in range(self.layers):
            layer = f"model.layers.{i}"
            yield _ones(f"{layer}.input_layernorm", hidden)
            every = c.get("full_attention_interval", 1)  # of so many layers one has attention, the others are recurrent
            yield from self._attention(f"{layer}.self_attn") if (i + 1) % every == 0 else self._delta(layer)
            yield _ones(f"{layer}.post_attention_layernorm", hidden)
            yield from self._mixture(f"{layer}.mlp")
        yield _ones("model.norm", hidden)
        if not c["tie_word_embeddings"]:
            yield from self._matrix("lm_head", (self.vocab, hidden))

    def _attention(self, module: str) -> Iterator[TensorSpec]:
        c = self.config
        hidden, heads = c["hidden_size"], c["num_attention_heads"] * c["head_dim"]
        kv, gated = c["num_key_value_heads"] * c["head_dim"], 2 if "full_attention_interval" in c else 1
        for name, outputs, inputs in (
            ("q_proj", gated * heads, hidden),
            ("k_proj", kv, hidden),
            ("v_proj", kv, hidden),
            ("o_proj", hidden, heads),
        ):
            yield from self._matrix(f"{module}.{name}", (outputs, inputs))
        yield _ones(f"{module}.q_norm", c["head_dim"])
        yield _ones(f"{module}.k_norm", c["head_dim"])

    def _delta(self, layer: str) -> Iterator[TensorSpec]:
        """A layer with the gated delta rule, as Qwen3-Next and Qwen3.5 have it."""
        c, module = self.config, f"{layer}.linear_attn"
        heads, hidden = c["linear_num_value_heads"], c["hidden_size"]
        keys, values = c["linear_num_key_heads"] * c["linear_key_head_dim"], heads * c["linear_value_head_dim"]
        parts = {"qkv": 2 * keys + values, "z": values, "b": heads, "a": heads}
        if c["model_type"] == "qwen3_next":
            parts = {"qkvz": 2 * keys + 2 * values, "ba": 2 * heads}
        for name, outputs in parts.items():
            yield from self._matrix(f"{module}.in_proj_{name}", (outputs, hidden))
        channels, taps = 2 * keys + values, c["linear_conv_kernel_dim"]
        shape = (channels, 1, taps) if self.bits == 16 else (channels, taps, 1)
        yield TensorSpec(f"{module}.conv1d.weight", "BF16", shape, "normal", inputs=taps)
        yield TensorSpec(f"{module}.A_log", "BF16", (heads,), "normal", inputs=1)
        yield TensorSpec(f"{module}.dt_bias", "BF16", (heads,), "normal", inputs=1)
        yield _ones(f"{module}.norm", c["linear_value_head_dim"])
        yield from self._matrix(f"{module}.out_proj", (hidden, values))

    def _mixture(self, module: str) -> Iterator[TensorSpec]:
        c = self.config
        experts, hidden, inner = c["num_experts"], c["hidden_size"], c["moe_intermediate_size"]
        yield from self._matrix(f"{module}.gate", (experts, hidden), ROUTER_BITS)
        shared = c.get("shared_expert_intermediate_size")
        if shared:
            yield from self._matrix(f"{module}.shared_expert.gate_proj", (shared, hidden))
            yield from self._matrix(f"{module}.shared_expert.up_proj", (shared, hidden))
            yield from self._matrix(f"{module}.shared_expert.down_proj", (hidden, shared))
            yield from self._matrix(f"{module}.shared_expert_gate", (1, hidden), ROUTER_BITS)
        if self.bits == 16:
            yield _normal(f"{module}.experts.gate_up_proj", (experts, 2 * inner, hidden))
            yield _normal(f"{module}.experts.down_proj", (experts, hidden, inner))
            return
        for name, outputs, inputs in (
            ("gate_proj", inner, hidden),
            ("up_proj", inner, hidden),
            ("down_proj", hidden, inner),
        ):
            yield from self._matrix(f"{module}.switch_mlp.{name}", (experts, outputs, inputs))

    def _matrix(self, module: str, shape: tuple[int, ...], bits: int | None = None) -> Iterator[TensorSpec]:
        if self.bits == 16:
            yield _normal(f"{module}.weight", shape)
        else:
            yield from _quantized(module, shape, bits or self.bits)

    def config_json(self) -> dict[str, Any]:
        """The contents of config.json, with the quantisation as MLX writes it."""
        if self.bits == 16:
            return self.config | {"torch_dtype": "bfloat16"}
        router = {"group_size": GROUP_SIZE, "bits": ROUTER_BITS}
        quantization: dict[str, Any] = {"group_size": GROUP_SIZE, "bits": self.bits, "mode": "affine"}
        routers = [spec.name for spec in self.tensors() if spec.role == "words" and spec.bits == ROUTER_BITS]
        quantization |= {name.removesuffix(".weight"): router for name in routers}
        return self.config | {"quantization": quantization}


def cut_shape(name: str, layers: int | None = None, vocab: int | None = None, bits: int | None = None) -> Shape:
    """The shape called `name`, cut to `layers` and `vocab`, with weights of 4 or `bits` bits. UsageError where it has
    fewer layers or tokens, and for other bits."""
    if bits not in (None, *BITS):
        raise UsageError(f"--bits {bits}: impossible; give {' or '.join(map(str, BITS))}")
    config = dict(SHAPES[name])
    for option, key, value, least in (
        ("--layers", "num_hidden_layers", layers, 1),
        ("--vocab", "vocab_size", vocab, 16),
    ):
        if value is None:
            continue
        if not least <= value <= config[key]:
            raise UsageError(f"{option} {value}: {name} has {config[key]}; give {least} to {config[key]}")
        config[key] = value
    return Shape(name, config, BITS[0] if bits is None else bits)


def _ones(module: str, length: int) -> TensorSpec:
    return TensorSpec(f"{module}.weight", "BF16", (length,), "ones")


def _normal(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name, "BF16", shape, "normal", inputs=shape[-1])


def _quantized(module: str, shape: tuple[int, ...], bits: int) -> Iterator[TensorSpec]:
    *outer, inputs = shape
    yield TensorSpec(f"{module}.weight", "U32", (*outer, inputs * bits // 32), "words", bits, inputs)
    for role in ("scales", "biases"):
        yield TensorSpec(f"{module}.{role}", "BF16", (*outer, inputs // GROUP_SIZE), role, bits, inputs)
