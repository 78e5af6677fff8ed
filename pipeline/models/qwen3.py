"""Qwen3 (Qwen Team 2025; transformers' Qwen3ForCausalLM), dense: norms before attention and the gated MLP, queries and
keys normed per head."""

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
    windows: tuple[int, ...]  # one per layer; 0: all positions

    @classmethod
    def read(cls, f: Fields) -> Config:
        f.only(hidden_act="silu")
        shape, first = f.shape(head_dim=128), f.whole("max_window_layers", 28, least=0)
        return cls(
            **shape,
            **f.biases(),
            mlp_hidden=f.whole("intermediate_size"),
            windows=f.windows(shape["layers"], lambda layer: layer >= first, f.switched_window()),
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        attention = f"{prefix}.self_attn"
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, attention, c)
        self.qkv_bias, self.o_bias = weights.attention_biases(load, attention, c, c.kv_heads, c.head_dim)
        self.q_norm, self.k_norm = weights.head_norms(load, attention, c.head_dim, c.head_dim)
        self.o_proj = load.matrix(f"{attention}.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.mlp = weights.dense(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden)


class Qwen3(Decoder[Config, Layer]):
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
                    q, k, v, layer.q_norm, layer.k_norm, turn, at.slots, at.positions, *kv, c.eps, window=window
                )
                if last and not pipe.lead(leading):
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=window)
                o = pipe.linear(a, layer.o_proj, layer.o_bias, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                y = pipe.mlp(h, *layer.mlp)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
