"""Llama (Touvron et al. 2023; transformers' LlamaForCausalLM), dense: norms before attention and the gated MLP. Mistral
(Jiang et al. 2023) may see a window of positions; Qwen2 (Qwen Team 2024) has biases on query, key and value."""

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
    window: int  # one for all layers; 0: all positions

    @classmethod
    def read(cls, f: Fields) -> Config:
        kind = f.config.get("model_type")
        f.only(hidden_act="silu", mlp_bias=False, use_sliding_window=False, attention_bias=kind == "qwen2")
        return cls(
            **f.shape(),
            mlp_hidden=f.whole("intermediate_size"),
            biased=kind == "qwen2",
            window=f.whole("sliding_window", 0, least=0) if kind == "mistral" else 0,
        )


class Layer(DecoderLayer):
    def __init__(self, load: Loader, prefix: str, c: Config, number: int) -> None:
        self.input_norm = load.array(f"{prefix}.input_layernorm.weight", (c.hidden,))
        self.qkv = weights.qkv(load, f"{prefix}.self_attn", c)
        self.qkv_bias = weights.qkv_bias(load, f"{prefix}.self_attn", c) if c.biased else (None, None, None)
        self.o_proj = load.matrix(f"{prefix}.self_attn.o_proj", (c.hidden, c.heads * c.head_dim))
        self.post_norm = load.array(f"{prefix}.post_attention_layernorm.weight", (c.hidden,))
        self.mlp = weights.dense(load, f"{prefix}.mlp", c.hidden, c.mlp_hidden)


class Llama(Decoder[Config, Layer]):
    config_class, layer_class = Config, Layer

    def cache_layers(self) -> list[CacheLayer]:
        c = self.config
        return [CacheLayer(c.kv_heads, c.head_dim, window=c.window)] * c.layers

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, head: bool = True) -> Tensor | None:
        c, at = self.config, rows.tensors(pipe)
        x = pipe.embed(at.tokens, self.embed)
        turn = pipe.rope_table(at.positions, self.rope)
        h = pipe.rms_norm(x, self.layers[0].input_norm, c.eps, name="layers.0.input_norm")
        for i, layer in enumerate(self.layers):
            last = i + 1 == c.layers
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
                    window=c.window,
                )
                if last and not head:
                    return None
                a = pipe.attention(q, *kv, at.slots, at.positions, window=c.window)
                o = pipe.linear(a, layer.o_proj, name="o_proj")
                x, h = pipe.fused_residual_norm(x, o, layer.post_norm, c.eps, name="post_norm")
                y = pipe.mlp(h, *layer.mlp)
            x, h = self.next_norm(pipe, x, y, i)
        return pipe.linear(h, self.head, name="logits")
