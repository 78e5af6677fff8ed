"""Llama (Touvron et al. 2023; transformers' LlamaForCausalLM), dense: norms before attention and the gated MLP. Mistral
(Jiang et al. 2023) may see a window of positions; Qwen2 (Qwen Team 2024) has biases on query, key and value, and
windows in its last layers."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.tensors import Tensor
from . import weights
from .cache import Cache, CacheLayer
from .decoder import Decoder, DecoderLayer
from .fields import Fields, Shape
from .loading import Loader
from .row_state import Rows


@dataclass(frozen=True)
class Config(Shape):
    mlp_hidden: int
    biased: bool
    output_biased: bool
    mlp_biased: bool
    windows: tuple[int, ...]  # one per layer; 0: all positions

    @classmethod
    def read(cls, f: Fields) -> Config:
        kind = f.config["model_type"]
        f.only(hidden_act="silu")
        shape = f.shape()
        biases = f.biases() if kind == "llama" else {"biased": kind == "qwen2", "output_biased": False}
        return cls(
            **shape,
            **biases,
            mlp_hidden=f.whole("intermediate_size"),
            mlp_biased=kind == "llama" and f.flag("mlp_bias"),
            windows=cls._windows(f, kind, shape["layers"]),
        )

    @staticmethod
    def _windows(f: Fields, kind: str, layers: int) -> tuple[int, ...]:
        if kind == "llama":
            return (0,) * layers
        if kind == "mistral":
            return (f.whole("sliding_window", 0, least=0),) * layers
        first = f.whole("max_window_layers", 28, least=0)
        return f.windows(layers, lambda layer: layer >= first, f.switched_window())


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, f"{prefix}.self_attn", c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, f"{prefix}.self_attn", c, c.kv_heads, c.head_dim)
        self.o_proj = load.matrix(f"{prefix}.self_attn.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.mlp = weights.dense(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden)
        self.mlp_biases = weights.dense_biases(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden, c.mlp_biased)


class Llama(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=window) for window in c.windows]

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last, window = i + 1 == c.layers, c.windows[i]
            with pipe.scope(f"layers.{i}"):
                kv = self.kv(pipe, cache, i)
                q, k, v = pipe.linear3(h, layer.qkv, ("q_proj", "k_proj", "v_proj"), layer.qkv_bias)
                q = pipe.heads_to_cache(
                    q,
                    k,
                    v,
                    None,
                    None,
                    turn,
                    at.slots,
                    at.positions,
                    *kv,
                    interleaved=self.rope.interleaved,
                    window=window,
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                y = pipe.mlp(h, *layer.mlp, biases=layer.mlp_biases)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
